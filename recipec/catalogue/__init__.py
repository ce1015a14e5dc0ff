"""What recipec can do, written from its code.

``code_pages`` is for ``recipec explain``, ``listing`` for ``recipec ls`` and `show`, ``json_schema`` makes the
schemas that editors use, ``reference_docs`` writes ``docs/reference``. Imported by ``cli``.
"""
