"""What a run will do and cost, before it starts.

``plan`` is the text of ``recipec plan``; ``cost``, ``step_sizes``, ``workload``, ``token_runs`` and ``sharing``
estimate tokens, operations, bytes and shared prefixes from the recipe and the ``model_shapes``. Imported by ``api``,
``checks``, ``cli``, ``run`` and ``runtime``.
"""
