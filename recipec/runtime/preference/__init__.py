"""How preference pairs are made, before the first step of a stage.

``best_vs_worst`` takes them from rollouts.  ``kg`` asks the policy (``answering``), for `kg_rag` with facts before the
question as well (``prompts``), and a graph.  ``pairs`` filters, writes and reads them again.
"""
