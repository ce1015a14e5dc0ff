"""What is held out, and what is measured on it.

``evaluate`` runs before the first stage, after each stage and every ``every`` steps; ``held_out_episodes`` plays
episodes in an environment.  ``metrics`` are computed over answers, ``given_answers`` over pairs.
"""
