"""The first rows of every stage, tried without weights before anything is trained.

``rows`` reads them, plays the user's environment and calls the rewards; ``policy`` is a policy that only reads and
writes text, ``engine`` gives fixed answers in place of sampled ones.
"""
