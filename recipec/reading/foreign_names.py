"""What TRL, verl, axolotl, OpenRLHF and LLaMA-Factory call a thing, and what it is called here.

A sentence stands where the unit or the meaning differs.
Where a name means different things in two tools, its longer, dotted form comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Foreign:
    """One name of another tool.

    Example: ``Foreign("verl", "sampler.num_generations")`` is what ``rollout.n`` stands for.
    """

    tool: str
    ours: str
    """Dotted from the stage on; empty where there is nothing to say it with."""
    note: str = ""

    def sentence(self, name: str) -> str:
        """Tell a user who typed ``name`` what to type."""
        owner = f"{self.tool}'" if self.tool.endswith("s") else f"{self.tool}'s"
        here = f"`{name}` is {owner} name; here it is `{self.ours}`" if self.ours else f"`{name}` is {owner}"
        return f"{here}: {self.note}" if self.note else here


_AGENT, _TREE, _SEARCH, _GRAPHIQ = "verl-agent", "Tree-GRPO", "Search-R1", "GraphIQ-VLM"
_TRL, _VERL, _AXOLOTL, _OPENRLHF, _FACTORY = "TRL", "verl", "axolotl", "OpenRLHF", "LLaMA-Factory"
_MICRO = "a bound in tokens, and the result does not depend on it; rows are counted by the budget"
_ROWS = "the budget counts what a step works through, whatever the number of devices or micro-batches"
_ENGINE = "what a stage runs on is in `machine`"

_DIRECT: dict[str, Foreign] = {
    # sizes
    "data.train_batch_size": Foreign(_VERL, "budget.prompts_per_step", "both count prompts"),
    "train_batch_size": Foreign("OpenRLHF and DeepSpeed", "budget.prompts_per_step", "here prompts, there rows"),
    "generation_batch_size": Foreign(
        _TRL, "budget.prompts_per_step", "here prompts, there completions: divide by num_generations"
    ),
    "per_device_train_batch_size": Foreign(_TRL, "budget.microbatch_tokens", _MICRO),
    "micro_batch_size": Foreign(_AXOLOTL, "budget.microbatch_tokens", _MICRO),
    "ppo_micro_batch_size": Foreign(_VERL, "budget.microbatch_tokens", _MICRO),
    "ppo_micro_batch_size_per_gpu": Foreign(_VERL, "budget.microbatch_tokens", _MICRO),
    "micro_train_batch_size": Foreign(_OPENRLHF, "budget.microbatch_tokens", _MICRO),
    "ppo_max_token_len_per_gpu": Foreign(
        _VERL, "budget.microbatch_tokens", "the same unit, tokens of one forward pass"
    ),
    "gradient_accumulation_steps": Foreign("TRL and axolotl", "budget.rows_per_step", _ROWS),
    "batch_size": Foreign(_AXOLOTL, "budget.rows_per_step", _ROWS),
    "ppo_mini_batch_size": Foreign(_VERL, "budget.prompts_per_update", "both count prompts"),
    "rollout_batch_size": Foreign(_OPENRLHF, "budget.prompts_per_step", "both count prompts"),
    "num_prompts_per_step": Foreign("NeMo RL", "budget.prompts_per_step", "the same unit"),
    "steps_per_generation": Foreign(_TRL, "budget.updates_per_step", "updates from the rows of one step"),
    "num_iterations": Foreign(_TRL, "budget.passes", "passes over the rows of one step"),
    "ppo_epochs": Foreign(_VERL, "budget.passes", "passes over the rows of one step"),
    "num_mini_batches": Foreign(_TRL, "budget.updates_per_step"),
    # length of training
    "num_train_epochs": Foreign(_TRL, "budget.epochs"),
    "num_epochs": Foreign(_AXOLOTL, "budget.epochs"),
    "total_epochs": Foreign(_VERL, "budget.epochs"),
    "max_epochs": Foreign(_OPENRLHF, "budget.passes", "passes over the rows of one step"),
    "num_episodes": Foreign(_OPENRLHF, "budget.epochs", "passes over the prompts"),
    "max_steps": Foreign(
        "TRL and axolotl", "budget.steps", "a step here samples once and may hold several updates (`updates_per_step`)"
    ),
    "total_training_steps": Foreign(_VERL, "budget.steps"),
    "save_steps": Foreign("TRL and axolotl", "budget.save_every"),
    "save_freq": Foreign(_VERL, "budget.save_every"),
    "save_total_limit": Foreign("TRL and axolotl", "budget.keep"),
    "max_actor_ckpt_to_keep": Foreign(_VERL, "budget.keep"),
    "dataloader_drop_last": Foreign(_TRL, "budget.remainder", "`remainder: drop`"),
    # sampling
    "rollout.n": Foreign(_VERL, "sampler.num_generations"),
    "n_samples_per_prompt": Foreign(_OPENRLHF, "sampler.num_generations"),
    "num_generations_per_prompt": Foreign("NeMo RL", "sampler.num_generations"),
    "repeat_times": Foreign("Trinity", "sampler.num_generations"),
    "group_size": Foreign("prime-rl", "sampler.num_generations"),
    "max_response_length": Foreign(_VERL, "sampler.max_completion_length", "the same unit, tokens"),
    "response_length": Foreign(_VERL, "sampler.max_completion_length", "the same unit, tokens"),
    "generate_max_len": Foreign(_OPENRLHF, "sampler.max_completion_length", "the same unit, tokens"),
    "max_new_tokens": Foreign("Transformers", "sampler.max_completion_length", "the same unit, tokens"),
    "min_new_tokens": Foreign("Transformers", "sampler.min_completion_length", "the same unit, tokens"),
    "do_sample": Foreign("Transformers", "sampler.temperature", "0 is greedy"),
    "ts_m": Foreign("Tree-GRPO", "sampler.trees"),
    "ts_n": Foreign("Tree-GRPO", "sampler.expansions"),
    "ts_l": Foreign("Tree-GRPO", "sampler.rounds"),
    "ts_k": Foreign("Tree-GRPO", "sampler.keep"),
    "expand_mode": Foreign(_TREE, "sampler.expansion", "`random` is what is published"),
    "ts_kwargs": Foreign(_TREE, "sampler", "`{type: tree, trees: 2, expansions: 2, rounds: 1}`"),
    "filter_groups": Foreign(_VERL, "sampler.group_filter"),
    "max_num_gen_batches": Foreign(_VERL, "sampler.group_filter.max_tries"),
    "dynamic_sampling": Foreign(_OPENRLHF, "sampler.group_filter"),
    # environments
    "env_name": Foreign(_AGENT, "environment.type", "`alfworld/AlfredTWEnv` is `alfworld`, `Webshop` is `webshop`"),
    "env.max_steps": Foreign(_AGENT, "environment.max_turns", "one answer of the environment a turn"),
    "env.history_length": Foreign(_AGENT, "environment.history"),
    "env.rollout.n": Foreign(_AGENT, "sampler.num_generations", "episodes of one task"),
    "env.seed": Foreign(_AGENT, "data.task_seed", "of data `environment`; draws follow the recipe's `seed`"),
    "env": Foreign("several tools", "environment"),
    "environment.max_steps": Foreign("verl-agent", "environment.max_turns", "one answer of the environment a turn"),
    "history_length": Foreign(_AGENT, "environment.history", "a number of turns, or `append_only`"),
    "rollout_n": Foreign(_AGENT, "sampler.num_generations", "episodes of one task"),
    "env_rollout_n": Foreign(_AGENT, "sampler.num_generations", "episodes of one task"),
    "environment.group_size": Foreign(_AGENT, "sampler.num_generations", "episodes of one task"),
    "retriever.url": Foreign(_SEARCH, "environment.retriever.service", "a name under `machine.services`"),
    "search_url": Foreign(_SEARCH, "environment.retriever.service", "a name under `machine.services`"),
    "retriever.topk": Foreign(_SEARCH, "environment.retriever.top_k"),
    "topk": Foreign(_SEARCH, "environment.retriever.top_k"),
    "max_obs_length": Foreign(_SEARCH, "environment.max_observation_length", "the same unit, tokens"),
    "max_start_length": Foreign(_SEARCH, "data.max_length", "the same unit, tokens"),
    "environment.max_response_length": Foreign(_SEARCH, "sampler.max_turn_length", "the same unit, tokens"),
    "max_tool_calling_iterations": Foreign(_TRL, "environment.max_turns"),
    "multi_turn": Foreign(_VERL, "environment", "present, episodes have many turns"),
    "max_assistant_turns": Foreign(_VERL, "environment.max_turns"),
    "max_user_turns": Foreign(_VERL, "environment.max_turns"),
    "max_tool_response_length": Foreign(_VERL, "environment.max_observation_length", "here tokens, there characters"),
    "agent_func_path": Foreign(_OPENRLHF, "environment", "`{type: own, name: …}`, its file under `use`"),
    # data
    "max_prompt_length": Foreign("TRL and verl", "data.max_length", "and `data.overlong` says what happens beyond"),
    "prompt_max_len": Foreign(_OPENRLHF, "data.max_length", "and `data.overlong` says what happens beyond"),
    "max_seq_length": Foreign(_TRL, "data.max_length", "prompt and completion together in sft and dpo"),
    "sequence_len": Foreign(_AXOLOTL, "data.max_length", "prompt and completion together in sft and dpo"),
    "cutoff_len": Foreign(_FACTORY, "data.max_length", "prompt and completion together in sft and dpo"),
    "truncation": Foreign(
        _VERL, "data.overlong", "`error` is the same; `left` and `right` are `truncate`, in sft alone"
    ),
    "filter_overlong_prompts": Foreign(_VERL, "data.overlong", "`overlong: drop`"),
    "train_files": Foreign(_VERL, "data.path", "held-out data stands under `evaluate`"),
    "val_files": Foreign(_VERL, "evaluate.NAME.data.path", "beside `stages`, not in a stage"),
    "dataset_name": Foreign(_TRL, "data.hub"),
    "datasets": Foreign(_AXOLOTL, "data", "one source a stage, with `path` or `hub`"),
    "dataset": Foreign(_FACTORY, "data.path", "or `data.hub`"),
    "prompt_data": Foreign(_OPENRLHF, "data.path", "or `data.hub`"),
    "dataset_train_split": Foreign(_TRL, "data.split"),
    "prompt_key": Foreign(_VERL, "data.columns.prompt"),
    "input_key": Foreign(_OPENRLHF, "data.columns.prompt"),
    "label_key": Foreign(_OPENRLHF, "data.columns.answer"),
    "chosen_key": Foreign(_OPENRLHF, "data.columns.chosen"),
    "rejected_key": Foreign(_OPENRLHF, "data.columns.rejected"),
    "max_samples": Foreign("LLaMA-Factory and OpenRLHF", "data.limit"),
    "apply_chat_template": Foreign(_OPENRLHF, "data.chat"),
    "shuffle_dataset": Foreign(_TRL, "data.shuffle"),
    # objective
    "clip_ratio": Foreign(_VERL, "loss.epsilon"),
    "clip_ratio_low": Foreign(_VERL, "loss.epsilon"),
    "clip_ratio_high": Foreign(_VERL, "loss.epsilon_high"),
    "clip_ratio_c": Foreign(_VERL, "loss.dual_clip"),
    "eps_clip": Foreign(_OPENRLHF, "loss.epsilon"),
    "cliprange": Foreign(_TRL, "loss.epsilon"),
    "delta": Foreign(_TRL, "loss.dual_clip", "TRL's upper bound of the ratio; here it holds for negative credit"),
    "kl_loss_coef": Foreign(_VERL, "loss.beta"),
    "kl_loss_type": Foreign(_VERL, "loss.kl", "`low_var_kl` is `k3`, `kl` is `k1`, `mse` is `k2`"),
    "use_kl_loss": Foreign(_VERL, "loss.beta", "above 0 it is on"),
    "use_kl_in_reward": Foreign(_VERL, "reward.NAME", "a level `{type: kl_penalty}`"),
    "kl_ctrl": Foreign(_VERL, "reward.NAME", "a level `{type: kl_penalty, beta: …}`"),
    "kl_coef": Foreign("verl and TRL", "reward.NAME.beta", "of a level `{type: kl_penalty}`: this KL is in the reward"),
    "init_kl_coef": Foreign(_OPENRLHF, "reward.NAME.beta", "of a level `{type: kl_penalty}`: this KL is in the reward"),
    "kl_penalty": Foreign(_VERL, "reward.NAME.kl", "of a level `{type: kl_penalty}`"),
    "entropy_coeff": Foreign(_VERL, "loss.entropy"),
    "entropy_coef": Foreign("several tools", "loss.entropy"),
    "loss_agg_mode": Foreign(
        _VERL,
        "loss.aggregate",
        "`token-mean` is `token_mean`, `seq-mean-token-sum` is `seq_mean_token_sum`, `seq-mean-token-mean` is "
        "`seq_mean_token_mean`, `seq-mean-token-sum-norm` is `fixed` with a `normaliser`",
    ),
    "loss_type": Foreign(
        _TRL,
        "loss.aggregate",
        "`grpo` is `seq_mean_token_mean`, `dapo` and `bnpo` are `token_mean`, `dr_grpo` is `fixed` with `normaliser`; "
        "`extends: [recipec:algorithms/dapo]` has all that was published with it. Of dpo it is `loss.variant`",
    ),
    "loss_mode": Foreign(_VERL, "loss.ratio", "`gspo` is `extends: [recipec:algorithms/gspo]`"),
    "importance_sampling_level": Foreign(_TRL, "loss.ratio"),
    "vllm_importance_sampling_correction": Foreign(_TRL, "loss.sampler_correction", "`truncate` or `mask`"),
    "vllm_importance_sampling_cap": Foreign(_TRL, "loss.sampler_correction_cap"),
    "tis_imp_ratio_cap": Foreign(_VERL, "loss.sampler_correction_cap", "with `sampler_correction: truncate`"),
    "rl_beta": Foreign(_AXOLOTL, "loss.beta"),
    "pref_beta": Foreign(_FACTORY, "loss.beta"),
    "pref_loss": Foreign(_FACTORY, "loss.variant"),
    "dpo_beta": Foreign("several tools", "loss.beta"),
    # credit
    "adv_estimator": Foreign(
        _VERL,
        "advantage.NAME.type",
        "`grpo` is `group_relative`, `rloo` is `rloo`, `reinforce_plus_plus` is `batch_standardised`; `gigpo` and "
        "`tree` are `extends: [recipec:algorithms/gigpo]` and `tree_grpo`",
    ),
    "advantage_estimator": Foreign(
        _OPENRLHF, "advantage.NAME.type", "`group_norm` is `group_relative`, `dr_grpo` is the same with `scale: none`"
    ),
    "norm_adv_by_std_in_grpo": Foreign(_VERL, "advantage.NAME.scale", "`std` or `none`"),
    "scale_rewards": Foreign(
        _TRL, "advantage.NAME.scale", "`group` is `std`, `none` is `none`, `batch` is `type: batch_standardised`"
    ),
    "reward_weights": Foreign(_TRL, "reward.NAME.weight", "each level has its own"),
    "step_advantage_w": Foreign(_AGENT, "advantage.NAME.weight", "of the level over `by_anchor_R`"),
    "gigpo": Foreign(_AGENT, "advantage", "`extends: [recipec:algorithms/gigpo]` has the published levels"),
    "enable_similarity": Foreign(_AGENT, "grouping.match", "`similarity`"),
    "similarity_thresh": Foreign(_AGENT, "grouping.threshold", "with `match: similarity`"),
    "use_invalid_action_penalty": Foreign(
        _AGENT, "reward.NAME.invalid_action_penalty", "of a level `environment`; above 0 it is on"
    ),
    "invalid_action_penalty_coef": Foreign(_AGENT, "reward.NAME.invalid_action_penalty", "of a level `environment`"),
    "algorithm.gamma": Foreign(_VERL, "reward.NAME.gamma", "of a level `environment`"),
    "compute_mean_std_cross_steps": Foreign(
        _AGENT, "advantage.NAME.statistics", "true is `rows`, false `trajectories`"
    ),
    "structure_format_score": Foreign(_SEARCH, "reward.NAME.structure_format", "of a level `answer_match`"),
    "final_format_score": Foreign(_SEARCH, "reward.NAME.final_format", "of a level `answer_match`"),
    "retrieval_score": Foreign(_SEARCH, "reward.NAME.retrieval", "of a level `answer_match`"),
    "reward_funcs": Foreign(_TRL, "reward", "named levels that add; own functions are named under `use`"),
    "custom_reward_function": Foreign(_VERL, "reward.NAME", "`{type: function, name: …}`, its file under `use`"),
    # weights and adapters
    "sampler.n": Foreign(_VERL, "sampler.num_generations", "completions of one prompt"),
    "optim": Foreign("TRL and axolotl", "optimizer.type", "`adamw` is what there is"),
    "dataset_path": Foreign("several tools", "data.path"),
    "gpus": Foreign("several tools", "machine.devices"),
    "model": Foreign("several tools", "from", "of each stage; its type and adapter in `policy`"),
    "base_model": Foreign(_AXOLOTL, "from", "of each stage"),
    "model_name_or_path": Foreign("TRL and LLaMA-Factory", "from", "of each stage"),
    "pretrain": Foreign(_OPENRLHF, "from", "of each stage"),
    "model.path": Foreign(_VERL, "from", "of each stage"),
    "ref_model": Foreign(_TRL, "reference.from", "without it the reference is the policy as it entered the stage"),
    "sync_ref_model": Foreign(_TRL, "reference", "`{type: lagged}`"),
    "ref_model_sync_steps": Foreign(_TRL, "reference.sync_every_updates"),
    "lora_r": Foreign("TRL and axolotl", "policy.lora.r"),
    "lora_rank": Foreign("verl, OpenRLHF and LLaMA-Factory", "policy.lora.r"),
    "lora_alpha": Foreign("peft", "policy.lora.alpha"),
    "lora_dropout": Foreign("peft", "policy.lora.dropout"),
    "lora_target_modules": Foreign("TRL and axolotl", "policy.lora.targets"),
    "lora_target": Foreign(_FACTORY, "policy.lora.targets"),
    "target_modules": Foreign("peft", "policy.lora.targets"),
    "use_peft": Foreign(_TRL, "policy.lora", "present, it is on"),
    "load_in_4bit": Foreign("TRL and axolotl", "policy.quantization", "`nf4`"),
    "torch_dtype": Foreign("Transformers", "policy.dtype"),
    "bf16": Foreign("TRL and axolotl", "policy.dtype", "`dtype: bfloat16`"),
    "fp16": Foreign("TRL and axolotl", "policy.dtype", "`float32` or `bfloat16`; float16 is not offered"),
    "merge_lora": Foreign("several tools", "adapter", "`adapter: merge` on the next stage"),
    "trust_remote_code": Foreign("Transformers", "", "code from a model's repository is never run"),
    # optimizer
    "lr": Foreign("verl and PyTorch", "optimizer.learning_rate"),
    "actor_learning_rate": Foreign(_OPENRLHF, "optimizer.learning_rate"),
    "lr_scheduler": Foreign(_AXOLOTL, "optimizer.schedule"),
    "lr_scheduler_type": Foreign("TRL and LLaMA-Factory", "optimizer.schedule"),
    "lr_warmup_steps": Foreign(_VERL, "optimizer.warmup_updates"),
    "warmup_steps": Foreign("TRL and axolotl", "optimizer.warmup_updates", "counted in optimizer updates"),
    "lr_warmup_steps_ratio": Foreign(_VERL, "optimizer.warmup_ratio"),
    "lr_warmup_ratio": Foreign(_OPENRLHF, "optimizer.warmup_ratio"),
    "grad_clip": Foreign(_VERL, "optimizer.max_grad_norm"),
    "max_norm": Foreign(_OPENRLHF, "optimizer.max_grad_norm"),
    "gradient_clipping": Foreign("DeepSpeed", "optimizer.max_grad_norm"),
    "adam_beta1": Foreign(_TRL, "optimizer.betas", "a list of two"),
    "adam_beta2": Foreign(_TRL, "optimizer.betas", "a list of two"),
    "adam_betas": Foreign(_OPENRLHF, "optimizer.betas"),
    "adam_epsilon": Foreign(_TRL, "optimizer.epsilon"),
    "l2": Foreign(_OPENRLHF, "optimizer.weight_decay"),
    # how it runs
    "sample_packing": Foreign(_AXOLOTL, "attention", "`{type: packed}`"),
    "packing": Foreign("TRL and LLaMA-Factory", "attention", "`{type: packed}`; rows never see each other"),
    "use_remove_padding": Foreign(_VERL, "attention", "`{type: packed}`"),
    "attn_implementation": Foreign("Transformers", "attention.type"),
    "flash_attention": Foreign(_AXOLOTL, "attention.type"),
    "gradient_checkpointing": Foreign("TRL and axolotl", "machine.train.gradient_checkpointing", _ENGINE),
    "enable_gradient_checkpointing": Foreign(_VERL, "machine.train.gradient_checkpointing", _ENGINE),
    "use_vllm": Foreign(_TRL, "machine.rollout", "`{type: vllm}`"),
    "rollout.name": Foreign(_VERL, "machine.rollout.type", _ENGINE),
    "tensor_model_parallel_size": Foreign(_VERL, "machine.rollout.tensor_parallel", _ENGINE),
    "vllm_tensor_parallel_size": Foreign(_TRL, "machine.rollout.tensor_parallel", _ENGINE),
    "ulysses_sequence_parallel_size": Foreign(_VERL, "machine.train.sequence_parallel", _ENGINE),
    "context_parallel_size": Foreign(_AXOLOTL, "machine.train.sequence_parallel", _ENGINE),
    "n_gpus_per_node": Foreign(_VERL, "machine.devices", _ENGINE),
    "zero_stage": Foreign(_OPENRLHF, "machine.train.zero", "of `{type: deepspeed}`"),
    "deepspeed": Foreign("TRL and axolotl", "machine.train", "`{type: deepspeed, zero: 2}`"),
    "val_before_train": Foreign(_VERL, "evaluate", "every evaluation is asked before the first stage"),
    "update_ref_steps": Foreign(_GRAPHIQ, "reference.sync_every_updates", "of a reference `lagged`"),
    "clip_epsilon": Foreign(_GRAPHIQ, "loss.epsilon"),
    "reward_correct": Foreign(_GRAPHIQ, "reward.NAME.correct", "of a level `exact_match`"),
    "reward_incorrect": Foreign(_GRAPHIQ, "reward.NAME.wrong", "of a level `exact_match`"),
    "valid_diseases": Foreign(_GRAPHIQ, "reward.NAME.labels", "of a level `exact_match`"),
    "format_scale_factor": Foreign(_GRAPHIQ, "reward.NAME.weight", "of a level `sections`"),
    "eval_steps": Foreign("TRL and axolotl", "evaluate.NAME.every", "beside `stages`, not in a stage"),
    "test_freq": Foreign(_VERL, "evaluate.NAME.every", "beside `stages`, not in a stage"),
    "output_dir": Foreign("TRL and axolotl", "name", "the run lies in runs/NAME; `--out` chooses another place"),
    "experiment_name": Foreign(_VERL, "name"),
    "report_to": Foreign(_TRL, "", "metrics are written as JSON lines and TensorBoard events, always"),
    "wandb_project": Foreign(_AXOLOTL, "", "metrics are written as JSON lines and TensorBoard events, always"),
    "resume_from_checkpoint": Foreign("TRL and axolotl", "", "running the same recipe again continues it"),
    "resume_mode": Foreign(_VERL, "", "running the same recipe again continues it"),
    "defaults": Foreign("Hydra", "extends"),
    "rl": Foreign(_AXOLOTL, "kind", "`rl`, `sft` or `dpo`"),
    "stage": Foreign(_FACTORY, "stages.NAME.kind", "`rl`, `sft` or `dpo`"),
    "reward_model": Foreign(_VERL, "reward", "named levels that add"),
    "actor_rollout_ref": Foreign(_VERL, "stages.NAME", "its settings are spread over the slots of a stage"),
    "algorithm": Foreign(_VERL, "stages.NAME", "its settings are spread over `advantage`, `loss` and `reward`"),
    "trainer": Foreign(_VERL, "budget", "how much a stage does; where it runs is in `machine`"),
}

_EXTENDS = {
    "grpo": "grpo",
    "dr_grpo": "dr_grpo",
    "dapo": "dapo",
    "gspo": "gspo",
    "gspo_token": "gspo",
    "rloo": "rloo",
    "grpo_pp": "grpo_pp",
    "grpo++": "grpo_pp",
    "graphiq": "grpo_graphiq",
    "gigpo": "gigpo",
    "tree_grpo": "tree_grpo",
}
"""Losses that other tools name by a paper: the paper's settings are a fragment."""

VALUES = {
    "low_var_kl": "k3", "kl": "k1", "mse": "k2", "abs_kl": "abs",
    "token-mean": "token_mean", "seq-mean-token-sum": "seq_mean_token_sum",
    "seq-mean-token-mean": "seq_mean_token_mean", "seq-mean-token-sum-norm": "fixed", "sequence_token": "sequence",
    "bf16": "bfloat16", "fp32": "float32", "float": "float32", "all-linear": "all_linear", "all": "all_linear",
    "constant_with_warmup": "constant", "cosine_with_warmup": "cosine", "left": "truncate", "right": "truncate",
    "grpo": "rl", "ppo": "rl", "orpo": "dpo", "simpo": "dpo", "cuda:0": "cuda", "gpu": "cuda",
    "f1": "macro_f1", "f1_macro": "macro_f1", "acc": "accuracy", "em": "accuracy", "maj": "majority",
    "self_consistency": "majority", "rewards/margins": "margin", "logps/margins": "margin",
    "ref": "ref_logprob_RT", "old": "old_logprob_RT", "reference": "ref_logprob_RT", "prompt": "by_prompt_R",
}  # fmt: skip
"""Values of other tools, and ours where a parameter offers it."""

COMPONENTS = {
    "loss": {"ppo": "clipped", "bnpo": "clipped", "policy_gradient": "clipped", "vanilla": "clipped",
             "cross_entropy": "nll", "sft": "nll",
             "sigmoid": "dpo", "ipo": "dpo", "hinge": "dpo"},
    "advantage": {"binary": "signed", "grpo": "group_relative", "group_norm": "group_relative",
                  "dr_grpo": "group_relative", "gigpo": "group_relative", "tree": "group_relative",
                  "reinforce_plus_plus": "batch_standardised", "batch": "batch_standardised"},
    "attention": {"sdpa": "auto", "eager": "dense", "flash_attention_2": "packed", "flash": "packed",
                  "varlen": "packed", "prefix_grouper": "shared_prefix"},
    "optimizer": {"adam": "adamw", "adamw_torch": "adamw", "adamw_torch_fused": "adamw", "adamw_8bit": "adamw"},
    "policy": {"hf": "causal_lm", "auto_model_for_causal_lm": "causal_lm", "vlm": "vision_lm"},
    "data": {"jsonl": "file", "json": "file", "parquet": "file", "hub": "file", "huggingface": "file"},
    "reward": {"math": "math_verify", "accuracy": "exact_match", "em": "exact_match", "format": "regex_format",
               "format_adherence": "sections", "format_adherence_reward": "sections", "accuracy_reward": "exact_match",
               "custom": "function", "overlong": "length", "soft_overlong_punishment": "length"},
    "sampler": {"vllm": "chain", "hf": "chain", "generate": "chain", "tree_search": "tree", "ts": "tree"},
    "environment": {"alfred": "alfworld", "alfred_twenv": "alfworld", "alfworld/alfred_twenv": "alfworld",
                    "search": "search_qa", "search_r1": "search_qa", "gym": "gymnasium",
                    "frozenlake": "gymnasium", "custom": "own"},
    "grouping": {"gigpo": "anchor_state", "state": "anchor_state"},
    "reference": {"none": "", "ema": "lagged", "base": "frozen"},
    "rollout_engine": {"transformers": "hf"},
    "train_engine": {"fsdp": "deepspeed", "ddp": "deepspeed"},
}  # fmt: skip
"""What other tools call a component, by slot."""


def names() -> Mapping[str, Foreign]:
    """Return the whole dictionary of keys, for documentation and tests."""
    return _DIRECT


def foreign(path: tuple[str | int, ...]) -> tuple[str, Foreign] | None:
    """Find the longest known name that the end of ``path`` spells.

    >>> foreign(("stages", "learn", "rollout", "n"))[1].ours
    'sampler.num_generations'
    """
    words = [str(part) for part in path]
    for start in range(max(0, len(words) - 3), len(words)):
        name = ".".join(words[start:])
        for spelt in (name, name.replace("-", "_")):
            if spelt in _DIRECT:
                return name, _DIRECT[spelt]
    return None


def foreign_leaves(value: Any, path: tuple[str | int, ...]) -> list[str]:
    """Tell what every known name below a section of another tool is called here."""
    if not isinstance(value, Mapping):
        found = foreign(path)
        return [found[1].sentence(found[0])] if found else []
    return [sentence for key, inner in value.items() for sentence in foreign_leaves(inner, (*path, key))]


def fragment(name: str) -> str:
    """Say which fragment holds the published settings that ``name`` stands for; empty if none.

    >>> fragment("dr_grpo")
    'recipec:algorithms/dr_grpo'
    """
    known = _EXTENDS.get(name.lower().replace("-", "_"))
    return f"recipec:algorithms/{known}" if known else ""
