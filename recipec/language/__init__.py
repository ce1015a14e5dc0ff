"""The recipe language: YAML text to plain data that knows where each value stands.

``yaml_reader`` reads one file, ``includes`` follows `extends`, ``overrides`` applies ``--set``, ``references``
resolves ``${...}``, ``resolve`` puts them together. Imported by ``catalogue``, ``cli``, ``compile``, ``importing``,
``reading`` and ``yaml_io``.
"""
