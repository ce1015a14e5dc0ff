"""Specs: what recipes are checked by; no torch."""
