"""What is held out, and what is measured on it.

``evaluate`` asks before the first stage, after each and every so many steps of one; ``play`` has the policy act where
there is an environment.  ``measures`` are the numbers over answers, ``margin`` those over pairs.
"""
