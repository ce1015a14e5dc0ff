"""Preference pairs, built before the first step of a DPO stage.

``best_vs_worst`` takes pairs from rollouts; ``kg_pairs`` samples answers (``sample_answers``), with facts in the prompt
for `kg_rag` (``fact_prompts``), and ranks them by a knowledge graph.  ``pair_files`` writes and reads pairs.
"""
