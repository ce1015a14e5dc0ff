"""Credit assignment and losses.

The functions behind ``spec.advantage``, ``spec.grouping``, ``spec.loss`` and ``spec.reference``, and the nodes that the
compiler puts between components (``compiler_ops``).

``group_filter`` samples again where groups carry no signal; ``recorded_rollouts`` recomputes credit without a model.
"""
