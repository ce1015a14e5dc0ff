"""Graphs of facts: where they come from, what a text says about them, and whether they bear it out."""
