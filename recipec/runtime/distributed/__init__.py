"""A run over several processes: who computes what, and what they tell each other.

Every rank walks the same graph over the same whole columns.  Three things are divided among the ranks: completions to
sample, scoring passes and training passes (``load_balancing``).  Rewards and environments, which may ask a clock or a
service, are called by the leader alone.  ``process_group`` connects the ranks, ``torchrun_launch`` and ``ray_launch``
start them.
"""
