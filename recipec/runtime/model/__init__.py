"""The policy as a causal language model, and how its weights are loaded and computed.

``causal_lm`` is the policy, ``given_model`` one around a model in memory.  ``weights``, ``package_weights`` and
``scratch`` load or create models, ``lora`` and ``quantization`` are adapters and four-bit weights, ``logprob_head`` and
``cpu_linear`` compute log-probabilities and matrix products.  ``state_files`` writes and reads states of checkpoints;
``vision_families`` are the differences between architectures of vision-language models.
"""
