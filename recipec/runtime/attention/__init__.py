"""How rows share one forward pass."""
