"""Retrievers: documents for a query, from a BM25 index here or from a service."""
