"""Implementations: what a run imports."""
