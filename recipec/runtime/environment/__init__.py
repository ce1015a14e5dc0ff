"""Environments for multi-turn rollouts.

``episode_state`` is the state of an episode, ``prompt_builder`` writes the prompt of each turn.  ``worker_env`` plays
games in worker processes (``workers`` here, ``worker_main`` there).  ``search_qa``, ``reasoning_gym``, ``webshop``,
``alfworld``, ``textworld``, ``gymnasium`` and ``user_env`` are the environments, ``retrieval`` finds documents.
``replayed`` repeats the timeouts of an interrupted step.
"""
