"""Proof that an attention computes what a model computes for each sequence on its own.

``run`` compares both in a random model of a ``tiny_config``, ``cache`` keeps the results, and ``verb`` is
``recipec certify``, which compares them on the user's rows or on ``sample_rows``.
"""
