"""Rollouts: samplers, rollout engines, and the KV caches that are kept between turns.

``chain`` and ``tree`` are the samplers, ``episodes`` takes turns in an environment, ``rows`` lays episodes out as
samples.  ``engine`` defines requests and completions.  ``hf_engine`` decodes with the policy's own model
(``token_sampling``, ``stop_strings``, ``gqa_decoding``); ``kv_cache`` and ``kv_reuse`` hold keys and values.
``vllm_engine`` samples with vLLM (``vllm_images``: prompts with images), ``vllm_servers`` with vLLM over HTTP;
``weight_transfer`` hands the weights over to them and compares.  ``shared_rollouts`` divides completions among ranks.
"""
