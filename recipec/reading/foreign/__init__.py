"""Names of other tools: one TOML file for each tool, read after a mistake and by ``recipec import``.

``tables`` reads the files and finds names, ``converters`` has the functions that turn values into ours, ``advice`` the
sentences about a key.  ``values.toml`` has the names of values, components and published settings.  No torch.
"""
