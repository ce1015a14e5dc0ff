"""How rows share one forward pass.

``dense`` pads them, ``packed`` lays them end to end, ``trie`` merges what they begin with; ``auto`` chooses.  A merged
pass goes through ``interface`` into the layers: by ``rectangles``, by ``varlen`` with the kernels of ``flash``, or by
``flex``; by ``paths`` and ``mixers`` where a layer carries a state.  ``certificate`` keeps what ``proof`` finds on
models that are ``shrunk``.
"""
