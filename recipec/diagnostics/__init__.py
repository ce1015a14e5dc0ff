"""Everything a user is told is wrong: coded messages about spans of the user's own text.

``model`` holds the types and the table of codes, ``pages`` the text of ``recipec explain``, ``formats`` and ``snippet``
the output formats; ``errors`` has one function per error that is found outside of a check.  Imports nothing of ours.
"""
