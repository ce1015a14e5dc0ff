"""What can go wrong after validation: one function a code, its docstring is the page.

data: rows and files; model: weights and tokenizers; reward: scores; run: artifacts and checkpoints; trust: refusals.
"""
