"""Rewards.

``rule_based`` needs a column or two, ``answer_match`` is the reward of the search environment, ``math_verify`` compares
mathematical answers (``math_text``, ``latex_text``, ``units``) in child processes (``workers`` here,
``worker_main`` there), ``judge`` asks a language model, ``sections`` checks the format of reasoning, ``function`` calls
user code.  ``answers`` and ``labels`` find the answer in a text.
"""
