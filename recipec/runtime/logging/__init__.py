"""What a stage writes down while it runs: metrics, statistics of a step, and its rollouts."""
