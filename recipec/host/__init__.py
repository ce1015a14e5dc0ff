"""What a run needs of its host, without torch: files that survive a kill, processes, services, packages, the terminal.

``artifacts`` reads and writes folders that exist whole or not at all, ``journal`` and ``jsonl`` the files that grow;
``worker_pool`` runs what may hang in processes that can be killed, and ``templates`` render in them; ``ranks`` is how
the processes of one run exchange values; ``preflight`` asks, before the first stage, for what the stages need.
Imported by ``api``, ``cli``, ``report``, ``run`` and ``runtime``.
"""
