"""Ways to compute attention over a prefix tree.

``flash_merge`` uses stock flash kernels and merges by log-sum-exp, ``varlen`` makes one variable-length call per level,
``flex`` compiles flex attention, ``reference`` needs no special kernel; ``tiling`` covers visible pairs by few calls.
"""
