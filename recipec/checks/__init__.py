"""Checks of a recipe, one module per subject.

``run_checks`` lists the modules. ``dataflow`` finds what provides each signal, ``queries`` what is known about a stage
before it runs. A check is a generator of diagnostics; its docstring is its page. Imported by ``catalogue`` and
``compile``.
"""
