"""How a recipe is checked, lowered and optimised; no torch.

read -> wiring, stages, numerics, machine -> lower -> optimise; plan derives the costs.
"""
