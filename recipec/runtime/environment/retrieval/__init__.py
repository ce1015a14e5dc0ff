"""Retrievers: documents for a query, from a local BM25 index or from a service."""
