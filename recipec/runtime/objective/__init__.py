"""Credit assignment and losses.

The functions behind ``spec.advantage``, ``spec.grouping``, ``spec.loss`` and ``spec.reference``, and the nodes that the
compiler puts between components (``compiler_ops``).  ``recorded_rollouts`` recomputes credit without a model.
"""
