"""Environments for multi-turn rollouts.

``episode_state`` is the state of an episode, ``prompt_builder`` renders the prompt of each turn.  ``worker_env`` runs
environments in child processes (``workers``, ``worker_main``); ``search_qa``, ``reasoning_gym``, ``webshop``,
``alfworld``,
``textworld``, ``gymnasium`` and ``user_env`` are the environments, ``retrieval`` their documents.  ``replayed`` repeats
the timeouts of an interrupted step.  Used by ``rollout``.
"""
