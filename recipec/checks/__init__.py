"""Checks of a recipe that could be read, one module per subject.

``run_checks`` lists them all.  ``dataflow`` says who provides each signal, ``queries`` what can be known about a stage
before it runs.  A check is a generator of diagnostics whose docstring is its page.  Imports ``reading`` and ``spec``;
imported by ``compile``.  No torch.
"""
