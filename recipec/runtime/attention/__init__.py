"""How the sequences of a micro-batch share a forward pass.

``dense`` pads them, ``packed`` puts them end to end, ``trie_attention`` merges common prefixes (``prefix_sharing``,
``prefix_tree``), and ``auto`` chooses among them.  ``interface`` connects a model with ``kernels``,
``recurrent_layers`` covers layers that have a state, ``certification`` proves that merged prefixes do not change the
results.
"""
