"""Diagnostics: coded messages about places in the user's own files.

``model`` has the types and the table of codes, ``codes`` the families and retired codes, ``formats`` and ``snippet``
the output formats, ``phrases`` what many messages share; ``errors`` has a function for each error that is found
outside of a check. Imported by most folders.
"""
