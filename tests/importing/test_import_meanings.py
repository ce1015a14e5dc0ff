"""Meanings and units that differ between tools are kept or said, never dropped."""

# ruff: noqa: E501 - one line for each file

from pathlib import Path

import pytest

from recipec.host.templates import render_own
from recipec.importing.run import import_recipe
from recipec.reading.foreign.values import value_names

VERL = "python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=org/m data.train_files=a.parquet "
PAIRS = "model_name_or_path: org/m\nper_device_train_batch_size: 2\nbeta: 0.1\n"
PRIME = 'max_steps = 5\n[model]\nname = "org/m"\n[orchestrator]\nbatch_size = 64\ngroup_size = 8\n'
AREAL = (
    "trial_name: a\nexperiment_name: b\nactor: {path: org/m, backend: 'fsdp:d4', ppo_n_minibatches: 1, eps_clip: 0.3}\n"
    "train_dataset: {path: org/d, batch_size: 8}\ngconfig: {n_samples: 4}\n"
)
ROLL = (
    "exp_name: a\npretrain: org/m\nrollout_batch_size: 64\nadv_estimator: reinforce\nmax_steps: 5\n"
    "num_return_sequences_in_group: 8\nactor_train:\n  device_mapping: list(range(0,16))\n"
    "  data_args: {file_name: [data/a.jsonl]}\n  strategy_args: {strategy_config: {tensor_model_parallel_size: 2}}\n"
    "  training_args: {per_device_train_batch_size: 1, gradient_accumulation_steps: 32, learning_rate: 1.0e-6}\n"
)
MIXTURE = (
    "model_name_or_path: org/m\npacking: true\nmax_length: 64\ndataset_mixture:\n  datasets:\n"
    "    - {id: org/d, config: SFT, split: one, weight: 0.5}\n    - {id: org/d, config: SFT, split: two}\n"
)
AXOLOTL = "base_model: org/m\nmicro_batch_size: 1\nnum_epochs: 1\nsequence_len: 64\nlearning_rate: 1e-5\n"
# name: file, text, settings of the recipe, names that cannot be written, assumed paths
MEANINGS = {
    "cispo clips weights": ("a.sh", VERL + "actor_rollout_ref.actor.policy_loss.loss_mode=cispo actor_rollout_ref.actor.clip_ratio_low=10 actor_rollout_ref.actor.clip_ratio_high=0.2 actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"loss.type": "cispo", "loss.ratio_min": 0.0, "loss.ratio_max": 1.2}, [], []),
    "sapo averages per row": ("a.sh", VERL + "actor_rollout_ref.actor.policy_loss.loss_mode=sapo actor_rollout_ref.actor.policy_loss.tau_neg=1.2 actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"loss.aggregate": "seq_mean_token_mean", "loss.temperature_neg": 1.2}, [], []),
    "rows outside of bounds leave": ("a.sh", VERL + "algorithm.rollout_correction.rollout_rs=seq_mean_k1 algorithm.rollout_correction.rollout_rs_threshold=0.99_1.01 actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"loss.sampler_correction": "reject", "loss.sampler_correction_level": "geometric", "loss.sampler_correction_floor": 0.99, "loss.sampler_correction_cap": 1.01}, [], []),
    "weights and a filter": ("a.sh", VERL + "algorithm.rollout_correction.rollout_is=token algorithm.rollout_correction.rollout_rs=geometric algorithm.rollout_correction.rollout_rs_threshold=1.01 actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"loss.sampler_correction": "truncate", "loss.sampler_rejection.level": "geometric", "loss.sampler_rejection.cap": 1.01, "loss.sampler_rejection.floor": 0.990099}, [], []),
    "weights and a filter of SkyRL": ("a.sh", "python -m skyrl.train.entrypoints.main_base trainer.policy.model.path=org/m data.train_data=['a.parquet'] environment.env_class=gsm8k trainer.algorithm.off_policy_correction.tis_ratio_type=token trainer.algorithm.off_policy_correction.sequence_mask_metric=geometric trainer.algorithm.off_policy_correction.geo_mask_high=1.02 trainer.algorithm.off_policy_correction.geo_mask_low=0.98", {"loss.sampler_correction": "truncate", "loss.sampler_rejection.level": "geometric", "loss.sampler_rejection.cap": 1.02, "loss.sampler_rejection.floor": 0.98}, [], []),
    "weights and a filter of OpenRLHF": ("a.sh", "python3 -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path org/m --data.prompt_dataset org/d --algo.advantage.estimator rloo --rollout.n_samples_per_prompt 4 --rollout.max_new_tokens 32 --prompt_max_len 32 --data.max_len 64 --algo.advantage.is_correction_enable --algo.advantage.is_correction_type seq-mask-tis --algo.advantage.is_correction_threshold 0.9 1.1", {"loss.sampler_correction": "truncate", "loss.sampler_correction_cap": 1e6, "loss.sampler_rejection.level": "geometric", "loss.sampler_rejection.cap": 1.1, "loss.sampler_rejection.floor": 0.9}, [], []),
    "two bounds of weights mask": ("a.sh", VERL + "algorithm.rollout_correction.rollout_is=token algorithm.rollout_correction.rollout_is_threshold='0.5_2.0' actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"loss.sampler_correction": "mask", "loss.sampler_correction_floor": 0.5, "loss.sampler_correction_cap": 2.0}, [], []),
    "bypass compares with the sampler": ("a.sh", VERL + "algorithm.rollout_correction.bypass_mode=true algorithm.rollout_correction.rollout_is=token algorithm.rollout_correction.loss_type=ppo_clip actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"loss.ratio_to": "sampler_logprob_RT"}, [], []),
    "greedy evaluation": ("a.sh", VERL + "data.val_files=b.parquet actor_rollout_ref.rollout.val_kwargs.do_sample=False actor_rollout_ref.rollout.val_kwargs.temperature=1.0 actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"evaluate.held_out.data.path": "b.parquet", "evaluate.held_out.sampler.temperature": None}, [], []),
    "another engine generates": ("a.sh", VERL + "actor_rollout_ref.rollout.name=sglang actor_rollout_ref.rollout.gpu_memory_utilization=0.5 actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"machine.rollout.type": "vllm", "machine.rollout.memory": 0.5}, [], []),
    "images are read": ("a.sh", VERL.replace("org/m", "Qwen/Qwen2.5-VL-3B-Instruct") + "actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"policy.type": "vision_lm", "machine.rollout.type": "vllm"}, [], ["policy.type"]),
    "a reward file behind a shell's folder": ("a.sh", VERL + 'reward.custom_reward_function.path="$(cd "$(dirname "$0")" && pwd)/lib/score.py" reward.custom_reward_function.name=score actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo', {"use": ["./lib/score.py"], "reward.score.name": "score"}, [], []),
    "a teacher": ("a.sh", VERL + "distillation.enabled=True actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {}, ["distillation.enabled"], []),
    "switched off": ("a.yaml", "actor_rollout_ref: {model: {path: org/m}, rollout: {n: 4}}\nalgorithm: {adv_estimator: grpo, kl_ctrl: {type: fixed}}\ndata: {train_files: a.parquet}\nreward_model: {enable: false, model: {input_tokenizer: org/t}}\n", {}, [], []),
    "a key that is given twice": ("dpo.yaml", PAIRS + "dataset_name: org/d\nbeta: 0.2\n", {"loss.beta": 0.2}, [], ["beta"]),
    "keys that are merged": ("dpo.yaml", "fsdp_config: &a {beta: 0.2, max_length: 9}\ngradient_checkpointing_kwargs: &b {beta: 0.3, max_length: 8, seed: 7}\n" + PAIRS + "dataset_name: org/d\n<<: [*a, *b]\n", {"loss.beta": 0.1, "data.max_length": 9, "seed": 7}, [], []),
    "prompts alone": ("dpo.yaml", PAIRS + "max_length: 1024\nmax_prompt_length: 512\ndataset_name: org/d\n", {"data.max_length": 1024, "data.truncation_side": None}, ["max_prompt_length"], []),
    "data sets with shares": ("dpo.yaml", PAIRS + "dataset_mixer: {org/d-v1.0: 1.0}\ndataset_splits: [train_prefs, test_prefs]\neval_strategy: steps\n", {"data.hub": "org/d-v1.0", "data.split": "train_prefs", "evaluate.held_out.data.split": "test_prefs"}, [], []),
    "data sets that are described": ("sft.yaml", MIXTURE, {"data.type": "mix", "data.sources.one.weight": 0.5, "data.sources.one.config": "SFT", "data.sources.two.split": "two", "data.max_length": 64}, [], ["data.train_on"]),
    "saved after each epoch": ("dpo.yaml", PAIRS + "dataset_name: org/d\nsave_strategy: epoch\nsave_steps: 5\n", {"budget.saves_per_epoch": 1, "budget.save_every": None}, [], []),
    "saved by a share of all steps": ("dpo.yaml", PAIRS + "dataset_name: org/d\nsave_steps: 0.25\nnum_train_epochs: 2\n", {"budget.saves_per_epoch": 2}, [], []),
    "the margin of SimPO": ("a.yaml", PAIRS.replace("0.1", "10") + "gamma_beta_ratio: 0.5\ndataset_name: org/d\n", {"loss.type": "simpo", "loss.gamma": 5.0}, [], []),
    "all tokens of a conversation": ("sft.yaml", "model_name_or_path: org/m\ndataset_name: org/d\nper_device_train_batch_size: 1\n", {"data.train_on": "all"}, [], ["data.train_on"]),
    "columns and system message": ("grpo.yaml", "model_name_or_path: org/m\ndataset_name: org/d\nnum_generations: 8\nper_device_train_batch_size: 8\ndataset_prompt_column: question\nsystem_prompt: Think.\n", {"data.columns.prompt": "question", "data.system": "Think."}, [], []),
    "a completion without a bound": ("a.toml", "seq_len = 512\n" + PRIME + "[inference.vllm]\ntensor_parallel_size = 2\n", {"sampler.max_completion_length": 512, "sampler.max_context_length": None, "machine.rollout.tensor_parallel": 2}, ["seq_len"], ["sampler.max_completion_length", "loss.epsilon", "data.path"]),
    "GRPO as AReaL writes it": ("a.yaml", AREAL + "valid_dataset: {path: org/e, shuffle: true, max_length: 64}\nsaver: {freq_epochs: 1}\nevaluator: {freq_epochs: 0.5}\nrollout: {backend: 'sglang:d1t2', max_head_offpolicyness: 2}\ntokenizer_path: ${actor.path}\nactor.reward_norm: {mean_level: group, std_level: group}\n", {"budget.saves_per_epoch": 1, "evaluate.held_out.data.overlong": "drop", "evaluate.held_out.data.max_length": 64, "evaluate.held_out.per_epoch": 2, "machine.rollout.tensor_parallel": 2, "advantage.group.scale": "std"}, [], ["loss.sampler_correction"]),
    "PPO as AReaL writes it": ("a.yaml", AREAL + "critic: {path: org/m, eps_clip: 0.4, is_critic: true}\n", {"critic.cliprange_value": 0.4, "advantage.credit.type": "gae", "advantage.group.type": None}, [], []),
    "tokens of high covariance": ("a.sh", VERL + "actor_rollout_ref.actor.policy_loss.loss_mode=kl_cov actor_rollout_ref.actor.policy_loss.kl_cov_ratio=0.002 actor_rollout_ref.actor.policy_loss.ppo_kl_coef=1 actor_rollout_ref.actor.clip_ratio_low=0.2 actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"loss.type": "kl_cov", "loss.share": 0.002, "loss.penalty": 1, "loss.epsilon": None}, [], []),
    "steps between transfers of weights": ("a.sh", VERL.replace("verl.trainer.main_ppo", "verl.experimental.fully_async_policy.fully_async_main") + "data.train_batch_size=0 data.gen_batch_size=1 actor_rollout_ref.actor.ppo_mini_batch_size=8 actor_rollout_ref.actor.optim.lr_warmup_steps=3 async_training.require_batches=2 async_training.trigger_parameter_sync_step=4 async_training.staleness_threshold=0.5 async_training.partial_rollout=False rollout.total_rollout_steps=640 trainer.total_epochs=9 actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"budget.prompts_per_step": 64, "budget.prompts_per_update": 8, "budget.steps": 10, "budget.epochs": None, "sampler.max_staleness": 1, "optimizer.warmup_updates": 6}, [], ["loss.sampler_correction"]),
    "an adapter, a lowest rate and variables of the template": ("a.sh", VERL + "actor_rollout_ref.model.lora.rank=8 actor_rollout_ref.model.lora.alpha=16 actor_rollout_ref.actor.optim.lr=1e-5 actor_rollout_ref.actor.optim.min_lr=1e-6 +data.apply_chat_template_kwargs.effort=low data.val_files=b.parquet actor_rollout_ref.rollout.val_kwargs.do_sample=True actor_rollout_ref.rollout.val_kwargs.top_k=20 actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo", {"policy.lora.r": 8, "policy.lora.alpha": 16, "optimizer.min_ratio": 0.1, "data.chat_template_kwargs.effort": "low", "evaluate.held_out.sampler.top_k": 20}, [], []),
    "a mapping in braces": ("a.sh", VERL + """+data.apply_chat_template_kwargs='{"enable_thinking": false}' actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo""", {"data.chat_template_kwargs.enable_thinking": False}, [], []),
    "a variable of the environment": ("a.yaml", "actor_rollout_ref: {model: {path: '${oc.env:MODEL,org/m}'}, rollout: {n: 4}}\nalgorithm: {adv_estimator: grpo}\ndata: {train_files: a.parquet}\ntrainer: {n_gpus_per_node: '${oc.env:GPUS, 4}'}\n", {"from": "org/m", "machine.devices": 4}, [], []),
    "rewards standardised in groups": ("a.yaml", ROLL + "norm_mean_type: group\nnorm_std_type: group\ndual_clip_loss: true\npg_clip: 0.1\npg_clip_low: 0.3\nreward_pretrain: org/r\nrewards: {math_rule: {worker_cls: a.MathRuleRewardWorker, model_args: {model_name_or_path: '${reward_pretrain}'}}}\n", {"advantage.group.type": "group_relative", "loss.dual_clip": 1.2, "loss.epsilon": 0.1, "reward.score.type": "math_verify"}, [], []),
    "rewards standardised over the batch": ("a.yaml", ROLL.replace("strategy_args", "pg_variant: tis\n  strategy_args") + "norm_mean_type: group\nnorm_std_type: batch\n", {"advantage.group.type": "batch_standardised", "loss.type": "cispo", "loss.ratio_max": 1.0}, [], []),
    "a running mean": ("a.yaml", ROLL + "norm_mean_type: running\n", {"advantage.group.type": "reinforce", "reward.score.normalise": "running_mean"}, [], []),
    "a running deviation": ("a.yaml", ROLL + "norm_std_type: running\nreward_clip: 5\n", {"advantage.group.type": "reinforce", "reward.score.normalise": "running_std", "reward.score.clip": [-5, 5]}, [], []),
    "running statistics before a critic": ("a.yaml", ROLL.replace("reinforce", "gae") + "norm_mean_type: running\nnorm_std_type: running\n", {"advantage.credit.type": "gae", "reward.score.normalise": "running"}, [], []),
    "a running mean with another deviation": ("a.yaml", ROLL + "norm_mean_type: running\nnorm_std_type: batch\n", {"reward.score.normalise": None}, ["norm_mean_type", "norm_std_type"], []),
    "scores normalised by LLaMA-Factory": ("a.yaml", "model_name_or_path: org/m\nstage: ppo\nreward_model: org/r\nreward_model_type: full\ndataset: d\nppo_score_norm: true\n", {"reward.quality.normalise": "running"}, ["stage: ppo", "stage: ppo"], []),
    "scores that TRL scaled": ("ppo.yaml", "model_name_or_path: org/m\nreward_model_path: org/r\nnum_ppo_epochs: 2\nper_device_train_batch_size: 8\ntotal_episodes: 64\nresponse_length: 64\ndataset_name: org/d\nuse_score_scaling: true\nscore_clip: 4\n", {"reward.quality.normalise": "running_std", "reward.quality.clip": [-4, 4]}, [], []),
    "scores that TRL normalised": ("ppo.yaml", "model_name_or_path: org/m\nreward_model_path: org/r\nnum_ppo_epochs: 2\nper_device_train_batch_size: 8\ntotal_episodes: 64\nresponse_length: 64\ndataset_name: org/d\nuse_score_scaling: true\nuse_score_norm: true\n", {"reward.quality.normalise": "running"}, [], []),
    "a reward model of OpenRLHF": ("a.sh", "python3 -m openrlhf.cli.train_ppo_ray --pretrain org/m --reward_pretrain org/r --prompt_data org/d --n_samples_per_prompt 4 --generate_max_len 512 --normalize_reward --reward_clip_range -5 5", {"reward.quality.normalise": "running", "reward.quality.clip": [-5, 5]}, [], []),
    "a bound of a reward function": ("a.sh", "python3 -m openrlhf.cli.train_ppo_ray --pretrain org/m --remote_rm_url r.py --prompt_data org/d --n_samples_per_prompt 4 --generate_max_len 512 --normalize_reward --reward_clip_range -5 5", {"reward.score.normalise": None, "reward.score.clip": [-5, 5]}, [], []),
    "distillation as ROLL writes it": ("a.yaml", "exp_name: a\nstudent_pretrain: org/s\nteacher_pretrain: org/t\nkd_objective: reverse_kl\ndistill_loss_weight: 0.5\nstudent:\n  training_args: {learning_rate: 1.0e-5, per_device_train_batch_size: 2, num_train_epochs: 1}\n  data_args: {file_name: [a.jsonl]}\n", {"loss.type": "gkd", "loss.beta": 1.0, "reference.from": "org/t", "data.columns.completion": "answer"}, ["distill_loss_weight"], []),
    "a file of open-instruct": ("a.yaml", "model_name_or_path: org/m\ntokenizer_name: org/m\nuse_slow_tokenizer: true\ndataset_mixer: {org/a: 1.0, org/b: 300}\nper_device_train_batch_size: 2\nnum_train_epochs: 2\nlearning_rate: 1e-5\nwith_tracking: true\ncheckpointing_steps: epoch\n", {"data.sources.b.limit": 300, "budget.saves_per_epoch": 1, "optimizer.max_grad_norm": 0.0}, [], []),
    "no reference": ("a.sh", "python open_instruct/grpo_fast.py --model_name_or_path org/m --dataset_mixer_list org/d 1.0 --num_samples_per_prompt_rollout 4 --total_episodes 640 --beta 0.1 --load_ref_policy False --deepspeed_stage 0", {"loss.beta": None, "machine.train.zero": None}, [], []),
    "lengths of a validation": ("a.yaml", ROLL + "response_length: 512\nprompt_length: 256\nval_prompt_length: 100\nval_sequence_length: 1124\nvalidation: {data_args: {file_name: [data/b.jsonl]}, generating_args: {max_new_tokens: 9}}\n", {"sampler.max_completion_length": 512, "evaluate.held_out.sampler.max_completion_length": 1024}, [], []),
    "rewards that are compared each on its own": ("a.sh", VERL + """algorithm.adv_estimator=gdpo +algorithm.gdpo_reward_keys='["format_reward", "accuracy"]' +algorithm.gdpo_reward_weights='[1.0, 0.25]' custom_reward_function.path=lib/score.py custom_reward_function.name=compute actor_rollout_ref.rollout.n=4""", {"advantage.format_reward.type": "group_relative", "advantage.accuracy.value": "reward.accuracy", "advantage.accuracy.weight": 0.25, "advantage.whiten": "tokens", "reward.accuracy.type": "function", "reward.accuracy.name": "accuracy", "reward.score.name": None, "use": ["./lib/score.py"]}, ["custom_reward_function.path", "custom_reward_function.name"], []),
    "rewards that are not divided by a deviation": ("a.sh", VERL + "algorithm.adv_estimator=gdpo +algorithm.gdpo_reward_keys='[a, b]' algorithm.norm_adv_by_std_in_grpo=False actor_rollout_ref.rollout.n=4", {"advantage.a.scale": "none", "advantage.b.scale": "none", "reward.score.type": None, "use": ["./rewards.py"]}, [], []),
    "defaults of pairs": ("a.sh", "python open_instruct/dpo.py --model_name_or_path org/m --mixer_list org/d 1.0", {"loss.beta": 5.0, "loss.variant": "sigmoid", "loss.length_normalised": True, "budget.epochs": 1, "optimizer.warmup_ratio": 0.1, "optimizer.max_grad_norm": 0.0}, [], []),
    "defaults of pairs under earlier names": ("a.sh", "python open_instruct/dpo_tune_cache.py --model_name_or_path org/m --mixer_list org/d 1.0 --dpo_beta 0.1", {"loss.beta": 0.1, "loss.length_normalised": None}, [], []),
    "replicas of a pipeline": ("a.yaml", ROLL, {"budget.rows_per_update": 256}, [], []),
    "masks of a pipeline": ("a.yaml", ROLL + "difficulty_mask: true\ndifficulty_low_threshold: 0.1\ndifficulty_high_threshold: 0.9\nmax_len_mask: true\nreward_clip: 10\n", {"sampler.group_filter.action": "drop", "sampler.group_filter.between": [0.1, 0.9], "sampler.truncated": "drop", "reward.score.clip": [-10, 10]}, [], []),
    "a form of data": ("a.yml", AXOLOTL + "datasets:\n  - {path: org/d, type: alpaca}\nplugins: [axolotl.integrations.liger.LigerPlugin]\nspecial_tokens: {pad_token: x}\n", {"data.columns.completion": "output"}, [], []),
    "messages of ShareGPT": ("a.yml", AXOLOTL + "val_set_size: 50\ndatasets:\n  - path: org/d\n    type: chat_template\n    field_messages: conversations\n    message_property_mappings: {role: from, content: text}\n", {"data.columns.messages": "conversations", "data.val_rows": 50, "evaluate.held_out.data.part": "val"}, ["datasets.message_property_mappings.content"], []),
    "nothing is held out": ("a.yml", AXOLOTL + "datasets:\n  - {path: org/d, type: chat_template}\nval_set_size: 0\nevals_per_epoch: 4\n", {"evaluate.held_out.per_epoch": None}, [], []),
    "a template by its name": ("a.yml", AXOLOTL + "chat_template: chatml\ndatasets:\n  - {path: org/d, type: chat_template}\n", {"policy.chat_template": "recipec:chat/chatml"}, [], []),
    "a template of an earlier version": ("a.yml", AXOLOTL + "chat_template: mistral_v1\ndatasets:\n  - {path: org/d, type: chat_template}\n", {"policy.chat_template": "recipec:chat/mistral_v1"}, [], []),
    "a template of a tool's own": ("a.yaml", "stage: sft\ndo_train: true\nmodel_name_or_path: org/m\ntemplate: default\ndataset: a\ncutoff_len: 64\n", {"policy.chat_template": None}, ["template"], []),
    "a template that is not known": ("a.yml", AXOLOTL + "chat_template: falcon_h1\ndatasets:\n  - {path: org/d, type: chat_template}\n", {"policy.chat_template": None}, ["chat_template"], []),
    "a template of the family": ("a.yaml", "stage: sft\ndo_train: true\nmodel_name_or_path: Qwen/Qwen3-8B\ntemplate: qwen3_nothink\ndataset: a\ncutoff_len: 64\n", {"data.chat_template_kwargs.enable_thinking": None, "policy.chat_template": "recipec:chat/chatml"}, [], []),
    "layers by a pattern": ("a.yml", AXOLOTL + "adapter: lora\nlora_r: 8\nlora_alpha: 16\nlora_target_modules: 'model.language_model.layers.[\\d]+.(mlp|self_attn).(up|q)_proj'\ndatasets:\n  - {path: org/d, type: chat_template}\n", {"policy.lora.targets": ["up_proj", "q_proj"]}, [], []),
    "parts that are frozen": ("a.yaml", "stage: sft\nfinetuning_type: full\nmodel_name_or_path: Qwen/Qwen2-VL-2B-Instruct\ntemplate: qwen2_vl\ndataset: a\nfreeze_vision_tower: true\nfreeze_multi_modal_projector: true\n", {"optimizer.freeze": ["vision", "projector"]}, [], ["policy.type"]),
    "a critic and DeepSpeed": ("a.sh", "python3 -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path org/m --data.prompt_dataset org/d --ds.zero_stage 3 --rollout.batch_size 8 --reward.remote_url /abs/score.py --algo.advantage.is_correction_enable", {"machine.train.type": "fsdp", "use": ["./score.py"], "loss.sampler_correction": "clip", "loss.sampler_correction_floor": 0.5, "loss.sampler_correction_cap": 5.0}, [], ["sampler.max_completion_length"]),
    "a reward model of open-instruct": ("a.sh", "python mason.py --gpus 8 -- accelerate launch --num_processes 2 open_instruct/reward_modeling.py --model_name_or_path org/m --dataset_mixer_list org/a 0.5 org/b 100 --max_token_length 64", {"data.sources.a.weight": 0.5, "data.sources.b.limit": 100, "policy.dtype": "bfloat16", "budget.pairs_per_step": 16}, [], []),
    "a search environment": ("a.sh", "python -m skyrl.train.entrypoints.main_base trainer.policy.model.path=org/m data.train_data=['a.parquet'] environment.env_class=search environment.skyrl_gym.search.topk=5 environment.skyrl_gym.search.search_url=http://127.0.0.1:8000/retrieve generator.max_turns=4", {"environment.type": "search_qa", "environment.max_turns": 4, "environment.retriever.top_k": 5, "machine.services.retriever.url": "http://127.0.0.1:8000/retrieve"}, [], []),
    "a warm-up that nothing names": ("a.yml", AXOLOTL + "fsdp: [full_shard]\nfsdp_config: {fsdp_offload_params: true}\ndatasets:\n  - {path: org/d, type: chat_template}\n", {"optimizer.warmup_ratio": 0.03, "machine.train.type": "fsdp"}, [], []),
    "no warm-up": ("a.yml", AXOLOTL + "warmup_steps: 0\ndatasets:\n  - {path: org/d, type: chat_template}\n", {"optimizer.warmup_ratio": None, "machine.train.type": None}, [], []),
    "shares of a mixture": ("sft.yaml", MIXTURE.replace("weight: 0.5", "fraction: 0.5, columns: [messages]").replace("split: two", "split: two, fraction: 0.5"), {"data.sources.one.weight": None, "data.sources.two.split": "two"}, ["dataset_mixture.datasets.fraction", "dataset_mixture.datasets.fraction"], ["data.train_on"]),
    "evaluated after each epoch": ("dpo.yaml", PAIRS + "dataset_mixer: {org/d: 1.0}\ndataset_splits: [train_prefs, test_prefs]\neval_strategy: epoch\n", {"evaluate.held_out.per_epoch": 1, "evaluate.held_out.every": None}, [], []),
    "evaluated after each epoch by LLaMA-Factory": ("a.yaml", "stage: sft\ndo_train: true\nmodel_name_or_path: org/m\ntemplate: chatml\ndataset: a\ncutoff_len: 64\nval_size: 0.1\neval_strategy: epoch\n", {"evaluate.held_out.per_epoch": 1, "data.val_share": 0.1}, [], []),
    "Megatron in LLaMA-Factory": ("a.yaml", "stage: sft\ndo_train: true\nmodel_name_or_path: org/m\ntemplate: chatml\ndataset: a\ncutoff_len: 64\ntensor_model_parallel_size: 1\npipeline_model_parallel_size: 2\nuse_distributed_optimizer: true\n", {}, ["pipeline_model_parallel_size"], []),
    "a template with empty thoughts": ("a.yaml", "stage: sft\ndo_train: true\nmodel_name_or_path: Qwen/Qwen3-4B-Instruct-2507\ntemplate: qwen3\ndataset: a\ncutoff_len: 64\n", {"policy.chat_template": None}, ["template"], []),
    "weights without bounds": ("a.sh", "python -m skyrl.train.entrypoints.main_base trainer.policy.model.path=org/m data.train_data=['a.parquet'] environment.env_class=gsm8k trainer.algorithm.policy_loss_type=importance_sampling trainer.algorithm.loss_reduction=token_mean_legacy", {"loss.type": "cispo", "loss.ratio_max": 1e6, "loss.ratio_min": None}, [], []),
    "the defaults of open-instruct's GRPO": ("a.sh", "python open_instruct/grpo_fast.py --model_name_or_path org/m --dataset_mixer_list org/d 1.0 --dataset_mixer_eval_list org/e 8 --temperature 0.7 --eval_pass_at_k 2 --max_steps 5", {"sampler.max_staleness": 8, "loss.sampler_correction": "truncate", "loss.sampler_correction_cap": 2.0, "sampler.group_filter.action": "drop", "reward.score.weight": 10.0, "budget.steps": 1562, "evaluate.held_out.every": 100, "evaluate.held_out.sampler.temperature": 0.7, "evaluate.held_out.sampler.num_generations": 2}, ["max_steps"], []),
    "a correction by its kind": ("a.sh", "python3 -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path org/m --data.prompt_dataset org/d --algo.advantage.estimator rloo --rollout.n_samples_per_prompt 4 --rollout.max_new_tokens 32 --data.max_len 64 --algo.advantage.is_correction_enable --algo.advantage.is_correction_type icepop", {"loss.sampler_correction": "mask", "loss.sampler_correction_cap": 5.0}, ["data.max_len"], []),
    "a correction without its kind": ("a.sh", "python3 -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path org/m --data.prompt_dataset org/d --algo.advantage.estimator rloo --rollout.n_samples_per_prompt 4 --rollout.max_new_tokens 32 --prompt_max_len 32 --data.max_len 64 --algo.advantage.is_correction_enable", {"loss.sampler_correction": "clip"}, [], []),
    "an agent of OpenRLHF": ("a.sh", "python3 -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path org/m --data.prompt_dataset org/d --algo.advantage.estimator rloo --rollout.n_samples_per_prompt 4 --rollout.max_new_tokens 32 --train.agent_func_path examples/agent.py", {"environment.type": "own", "environment.name": "Environment", "environment.history": "append_only", "use": ["./examples/agent.py"]}, [], []),
    "a scaling that nothing names": ("a.toml", PRIME + "[orchestrator.train.sampling]\nmax_completion_tokens = 64\n[trainer.model.lora]\nrank = 8\n", {"policy.lora.r": 8, "policy.lora.alpha": 32}, [], ["loss.epsilon", "data.path"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANINGS)
def test_a_meaning_is_kept_or_said(case):
    """Values and units are those of the tool, the recipe compiles, and what is lost or assumed is told."""
    file, text, values, missing, assumed = MEANINGS[case]
    found = import_recipe(file, text)
    assert [d.message for d in found.left] == []
    settings = found.made.settings
    assert {path: settings[path].value if path in settings else None for path in values} == values
    told = {
        verdict: [f for f in found.made.fates if f.verdict == verdict] for verdict in ("missing", "unknown", "assumed")
    }
    assert [fate.name for fate in told["missing"]] == missing
    assert [fate.name for fate in told["unknown"]] == []
    assert sorted(
        fate.name for fate in told["assumed"] if fate.name not in {"reward.NAME.type", "machine.devices"}
    ) == sorted(assumed)


@pytest.mark.parametrize("given", ["", "I"])
def test_an_alpaca_row_is_rendered_with_and_without_an_input(given):
    """The prompt has the section of the input only where there is one, and ends where the answer begins."""
    text = render_own(value_names().forms["alpaca"], {"instruction": "Do.", "input": given})
    assert text.startswith("Below is an instruction that describes a task")
    assert ("### Input:\nI\n\n" in text) == bool(given)
    assert text.endswith("### Response:\n")


SKYRL = """python -m skyrl.train.entrypoints.main_base \\
  data.train_data=data/train.parquet trainer.policy.model.path=org/model trainer.epochs=1 \\
  trainer.algorithm.kl_estimator_type=k2 trainer.algorithm.use_kl_loss={loss} trainer.algorithm.use_kl_in_reward={reward}
"""


@pytest.mark.parametrize(
    ("loss", "reward", "said"),
    [
        ("false", "true", {"reward.kl.beta": 0.001, "reward.kl.kl": "k2"}),
        ("true", "false", {"loss.beta": 0.001, "loss.kl": "k2"}),
        ("true", "true", {"loss.beta": 0.001, "reward.kl.beta": 0.001}),
        ("false", "false", {}),
    ],
)
def test_the_kl_of_skyrl_is_where_its_switches_put_it(loss, reward, said):
    """One coefficient, with a default, is of the loss, of the reward, or of both."""
    made = import_recipe("a.sh", SKYRL.format(loss=loss, reward=reward)).made.settings
    found = {
        path: made[path].value for path in made if path.startswith("reward.kl.") or path in {"loss.beta", "loss.kl"}
    }
    assert said.items() <= found.items()
    assert bool(said) == bool(found)


@pytest.mark.parametrize(("many", "verdict"), [("100", "other"), ("0.5", "same"), ("1.0", "same")])
def test_rows_that_are_drawn_at_random_have_another_meaning(many, verdict):
    """Numbers of rows of open-instruct are reported, shares are not."""
    made = import_recipe(
        "a.sh", f"python open_instruct/dpo.py --model_name_or_path org/m --mixer_list org/d {many}"
    ).made
    assert [fate.verdict for fate in made.fates if fate.name == "mixer_list"] == [verdict]


def test_names_that_others_refer_to_are_no_mistakes():
    """A value under a name of its own, which the tool's names take over, is in the recipe."""
    text = (Path(__file__).parent / "files" / "areal_grpo.yaml").read_text() + "length: 77\n"
    text = text.replace("max_new_tokens: 1024", "max_new_tokens: ${length}")
    found = import_recipe("a.yaml", text).made
    assert found.settings["sampler.max_completion_length"].value == 77
    assert next(fate.verdict for fate in found.fates if fate.name == "length") == "unneeded"


def test_models_without_an_organisation_have_one_on_the_hub():
    """GPT-2 is known under its name alone."""
    made = import_recipe("a.sh", "trl sft --model_name_or_path gpt2 --dataset_name org/data").made.settings
    assert made["from"].value == "openai-community/gpt2"


@pytest.mark.parametrize(("reduction", "verdict"), [("token_mean", "same"), ("token_mean_legacy", "other")])
def test_a_name_that_begins_like_ours_may_mean_another_thing(reduction, verdict):
    """A mean of means of micro-batches is reported as different, the mean over the minibatch is not."""
    text = f"{SKYRL.format(loss='false', reward='false').rstrip()} trainer.algorithm.loss_reduction={reduction}\n"
    (fate,) = [fate for fate in import_recipe("a.sh", text).made.fates if fate.name.endswith("loss_reduction")]
    assert fate.verdict == verdict
    assert ("micro-batches" in fate.text) == (verdict == "other")


@pytest.mark.parametrize(
    ("estimator", "verdict"), [("grpo", "same"), ("remax", "other"), ("reinforce_plus_plus", "other")]
)
def test_a_penalty_of_tokens_is_one_of_rows_where_rows_are_compared(estimator, verdict):
    """REINFORCE++ of verl gives a token the penalties from it on; GRPO sums them over the row, as we do."""
    words = "algorithm.use_kl_in_reward=True algorithm.kl_ctrl.kl_coef=0.01"
    made = import_recipe("a.sh", f"{VERL} algorithm.adv_estimator={estimator} {words}").made
    assert [fate.verdict for fate in made.fates if fate.name == "algorithm.kl_ctrl.kl_coef"] == [verdict]


@pytest.mark.parametrize("estimator", ["rloo", "reinforce_baseline", "group_norm"])
def test_a_penalty_next_to_compared_rewards_is_reported(estimator):
    """OpenRLHF compares rewards first, and gives a token the penalties from it on; here both are compared."""
    script = (
        "python3 -m openrlhf.cli.train_ppo_ray --pretrain org/m --prompt_data org/d --n_samples_per_prompt 4 "
        f"--rollout_batch_size 16 --init_kl_coef 0.01 --advantage_estimator {estimator} --generate_max_len 8"
    )
    (fate,) = [fate for fate in import_recipe("a.sh", script).made.fates if fate.name == "init_kl_coef"]
    assert (fate.verdict, "next to its credit" in fate.text) == ("other", True)


@pytest.mark.parametrize(("batch", "verdict"), [(16, "same"), (64, "other")])
def test_a_warm_up_of_one_update_each_rollout_is_the_same(batch, verdict):
    """The note is on rollouts with several updates."""
    script = f"{VERL} data.train_batch_size={batch} actor_rollout_ref.actor.ppo_mini_batch_size=16 "
    made = import_recipe("a.sh", f"{script} actor_rollout_ref.actor.optim.lr_warmup_steps=10").made
    assert [fate.verdict for fate in made.fates if fate.name.endswith("lr_warmup_steps")] == [verdict]
