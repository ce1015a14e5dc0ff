"""What a run will do and cost, before it starts.

``plan`` is the text of ``recipec plan``; ``stage_workload``, ``cost``, ``step_sizes``, ``token_runs``,
``sharing_forecast`` and ``sharing`` estimate tokens, operations, bytes and shared prefixes from the recipe and the
``model_shapes``. Imported by ``api``, ``checks``, ``cli``, ``run`` and ``runtime``.
"""
