"""What recipec can do, written from its code.

``listing`` answers ``recipec ls`` and ``show``, ``json_schema`` makes the schemas that editors use, ``reference_docs``
writes ``docs/reference``.  Imports ``spec`` and ``diagnostics``; imported by ``cli``.  No torch.
"""
