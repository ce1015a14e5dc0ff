"""Proof that an attention computes what dense rows compute, for one architecture.

``run`` compares both in a random model of a ``tiny_config``, ``cache`` keeps what was found, ``verb`` is
``recipec certify``, which compares them on the user's own rows or on ``sample_rows``.
"""
