"""How rows are sampled, and the engines that decode."""
