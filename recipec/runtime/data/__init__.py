"""Tasks and training examples, from files to token ids and back.

``sources`` reads data files (``files``), ``rollout_tasks`` the rollouts of an earlier stage, ``episode_tasks`` the
tasks
of an environment.  ``templates`` and ``text`` render prompts, ``encode`` marks the trained tokens, ``table`` draws
rows.
``scored_rows`` writes rollouts, ``recorded`` reads them.  Used by ``build_stage``, rollouts and preferences.
"""
