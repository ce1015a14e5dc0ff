"""Tasks and examples, from files to ids and back.

``sources`` are where rows come from: ``files`` reads them, ``rollouts`` takes those of an earlier stage, and
``episode_tasks`` asks an environment.  ``templates`` and ``text`` make prompts of them, ``encode`` says which tokens
are trained, and a ``table`` draws from what is there.  ``rows`` writes scored rows, ``recorded`` reads anybody's.
"""
