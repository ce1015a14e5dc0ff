"""Recipes of other tools as recipes of this one.

``sources`` reads a file to names with values and lines, ``shell_script`` and ``shell_words`` the scripts among them,
which are never run; ``recognise`` says of which tool and trainer it is; ``translate`` looks every name up in the
tables of ``reading/foreign``; ``write`` makes the commented recipe and ``report`` what became of each name. Imported
by ``cli``.
"""
