"""Tasks and training examples, from files to token ids and back.

``sources`` reads data files (``files``, ``messages``), ``reasoning_gym_tasks`` and ``rollout_tasks`` make other tasks,
``episode_tasks`` the tasks of an environment.  ``image_parts`` finds the images of messages, ``image_preflight`` opens
them all before a run.  ``templates`` and ``text`` render prompts, ``encode`` marks the trained tokens, ``table`` draws
the rows of a step.  ``scored_rows`` writes and reads the rollouts of a run, ``recorded`` reads rows of users.
"""
