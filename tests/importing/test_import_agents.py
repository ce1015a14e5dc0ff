"""Agents' trainers, launchers of several nodes, files of tools that are not read, and names that are one choice here."""

# ruff: noqa: E501 - one line for each file

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.importing import report
from recipec.importing.run import foreign_tool, import_recipe

AGENT = (
    "N=8\npython3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=org/m data.train_files=$HOME/a.parquet data.val_files=b.parquet "
    "data.train_batch_size=16 data.val_batch_size=32 data.max_prompt_length=1024 data.max_response_length=256 trainer.total_epochs=50 "
    "actor_rollout_ref.actor.ppo_mini_batch_size=64 env.rollout.n=$N env.max_steps=20 trainer.test_freq=5 data.truncation=error "
)
VERL = "python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=org/m data.train_files=a.parquet algorithm.adv_estimator=grpo actor_rollout_ref.rollout.n=4 "
AREAL = (
    "trial_name: a\nexperiment_name: b\nactor: {path: org/m, backend: 'fsdp:d4', ppo_n_minibatches: 1, eps_clip: 0.3, reward_norm: NORM}\n"
    "train_dataset: {path: org/d, batch_size: 8}\ngconfig: {n_samples: 4}\n"
)
ROLL = (
    "exp_name: a\npretrain: Qwen/Qwen2.5-0.5B-Instruct\nrollout_batch_size: 8\nadv_estimator: grpo\nmax_steps: 5\nnum_return_sequences_in_group: 8\n"
    "actor_train:\n  data_args: {file_name: [data/a.jsonl], template: qwen2_5, domain_interleave_probs: {math: 1.0}}\n"
    "  training_args: {per_device_train_batch_size: 1, gradient_accumulation_steps: 8, learning_rate: 1.0e-6, adam_beta2: 0.95}\n"
    "actor_infer: {generating_args: {repetition_penalty: 1.1, num_beams: 1}}\nvalidation:\n  data_args: {file_name: [data/b.jsonl]}\n"
    "  generating_args: {top_k: 5, max_new_tokens: 64}\n"
)
ROLL_AGENT = (
    "exp_name: a\npretrain: org/m\nrollout_batch_size: 1024\nsequence_length: 1024\nmax_steps: 5\nadv_estimator: grpo\nmax_tokens_per_step: 64\n"
    "actor_train:\n  training_args: {per_device_train_batch_size: 1, gradient_accumulation_steps: 8, learning_rate: 1.0e-6}\n"
    "actor_infer: {generating_args: {max_new_tokens: 128, num_return_sequences: 1}}\ncustom_envs: {FrozenLake: {env_type: frozen_lake}}\n"
    "train_env_manager: {num_env_groups: 128, group_size: 8, tags: [FrozenLake]}\n"
)
ROLL_LOST = ["custom_envs.FrozenLake.env_type", "train_env_manager.tags"]
MIXTURE = (
    "model_name_or_path: org/m\nbeta: 0.1\nper_device_train_batch_size: 2\neval_strategy: steps\neval_steps: 5\ndataset_mixture:\n"
    "  datasets:\n    - {id: org/d, split: one, weight: 0.5}\n    - {id: org/d, split: two}\n"
)
SFT = "torchrun --nnodes 2 --nproc_per_node 8 -m verl.trainer.sft_trainer model.path=org/m data.train_files=a.parquet data.messages_key=messages"
MASON = "python mason.py --num_nodes 4 --gpus 8 -- accelerate launch --num_processes 8 open_instruct/dpo_tune_cache.py --model_name_or_path org/m --per_device_train_batch_size 1 --gradient_accumulation_steps 2 --mixer_list org/d 1.0"
OPEN = "python open_instruct/grpo_fast.py --model_name_or_path org/m --dataset_mixer_list org/d 1.0 --num_samples_per_prompt_rollout 4 --total_episodes 640 "
SPARK = "python -m accelerate.commands.launch --mixed_precision bf16 --num_processes 1 open_instruct/dpo_tune_cache.py --model_name_or_path org/m --mixer_list org/d 1.0 --beta 5"
SCRIPT = "accelerate launch --num_machines 2 --num_processes 16 trl/scripts/dpo.py --model_name_or_path org/m --dataset_name org/d --per_device_train_batch_size 1"
# name: file, text, settings of the recipe, names that cannot be written
MEANINGS = {
    "steps of episodes are rows": ("a.sh", AGENT + "algorithm.adv_estimator=gigpo algorithm.gamma=0.95 algorithm.gigpo.mode=mean_norm env.env_name=alfworld/AlfredTWEnv", {"environment.type": "alfworld", "environment.max_turns": 20, "environment.history": 2, "data.type": "environment", "data.path": None, "budget.rows_per_update": 64, "budget.prompts_per_update": None, "budget.steps": 50, "budget.epochs": None, "sampler.rows": "step", "sampler.num_generations": 8, "sampler.max_context_length": 1280, "reward.task.gamma": 0.95, "reward.task.invalid_action_penalty": 0.1, "advantage.step.scale": "none", "advantage.episode.value": "score_R", "evaluate.held_out.data.split": "valid_seen", "evaluate.held_out.data.size": 32, "loss.entropy": 0.001}, []),
    "episodes alone are compared": ("a.sh", AGENT + "algorithm.adv_estimator=grpo algorithm.gamma=0.95 algorithm.gigpo.mode=mean_norm env.env_name=Webshop actor_rollout_ref.actor.use_invalid_action_penalty=False", {"environment.type": "webshop", "advantage.step.type": None, "advantage.episode.scale": None, "grouping.type": None, "reward.task.gamma": None, "reward.task.invalid_action_penalty": None}, []),
    "tasks that come from data": ("a.sh", AGENT + "algorithm.adv_estimator=gigpo algorithm.gigpo.enable_similarity=True env.env_name=search env.search.search_url=http://127.0.0.1:8000/retrieve env.seed=1", {"environment.type": "search_qa", "data.path": "a.parquet", "budget.epochs": 50, "grouping.match": "similarity", "grouping.threshold": 0.95, "environment.retriever.service": "retriever", "machine.services.retriever.url": "http://127.0.0.1:8000/retrieve", "data.task_seed": None}, []),
    "a model that a function asks": ("a.sh", VERL + "custom_reward_function.path=score.py custom_reward_function.name=f reward_model.enable=True reward_model.model.path=org/judge", {"reward.quality.type": None, "reward.score.name": "f"}, ["reward_model.model.path"]),
    "a greedy baseline": ("a.sh", VERL.replace("grpo", "remax") + "algorithm.use_kl_in_reward=True algorithm.kl_ctrl.kl_coef=0.001", {"advantage.greedy.type": "remax", "sampler.greedy_first": True, "sampler.num_generations": 5, "reward.kl.beta": 0.001, "advantage.group.type": None}, []),
    "a greedy baseline of one sample": ("a.sh", VERL.replace("grpo", "remax").replace("rollout.n=4", "rollout.name=vllm"), {"sampler.num_generations": 2}, []),
    "a penalty of length": ("a.sh", VERL + "reward_model.reward_manager=dapo reward_model.overlong_buffer.enable=True reward_model.overlong_buffer.len=64 reward_model.reward_kwargs.max_resp_len=512 reward_model.reward_kwargs.overlong_buffer_cfg.log=True", {"reward.overlong.soft": 64}, []),
    "an SFT trainer with engines": ("a.sh", SFT + " optim.warmup_style=cosine optim=fsdp model_engine=fsdp", {"optimizer.learning_rate": 1e-3, "optimizer.schedule": "cosine", "machine.devices": 8, "machine.nodes": 2, "machine.launcher": "ray"}, []),
    "means of groups": ("a.yaml", AREAL.replace("NORM", "{mean_level: group, std_level: null}"), {"advantage.group.type": "group_relative", "advantage.group.scale": "none"}, []),
    "means of the others": ("a.yaml", AREAL.replace("NORM", "{mean_level: group, mean_leave1out: true, std_level: null}"), {"advantage.group.type": "rloo", "advantage.group.scale": None}, []),
    "deviations of the batch": ("a.yaml", AREAL.replace("NORM", "{mean_level: group, std_level: batch}"), {"advantage.group.type": "batch_standardised"}, []),
    "means of the batch": ("a.yaml", AREAL.replace("NORM", "{mean_level: batch, std_level: batch}"), {"advantage.group.type": "reinforce", "advantage.whiten": "rows"}, []),
    "no means": ("a.yaml", AREAL.replace("NORM", "null"), {"advantage.group.type": "reinforce"}, []),
    "levels that are not offered": ("a.yaml", AREAL.replace("NORM", "{mean_level: null, std_level: group}"), {"advantage.group.type": "reinforce"}, ["actor.reward_norm.mean_level"]),
    "rows that are held out by number": ("dpo.yaml", MIXTURE + "  test_split_size: 1500\n", {"evaluate.held_out.every": 5, "data.sources.one.val_rows": 1000, "evaluate.held_out.data.sources.two.val_rows": 1000, "evaluate.held_out.data.sources.one.weight": 0.5}, []),
    "rows of one source that are held out by number": ("dpo.yaml", MIXTURE.replace("    - {id: org/d, split: two}\n", "") + "  test_split_size: 1000\n", {"evaluate.held_out.every": 5, "evaluate.held_out.data.sources.one.val_rows": 2000}, []),
    "rows of several files that are held out": ("a.yaml", "stage: sft\ndo_train: true\nmodel_name_or_path: org/m\ntemplate: chatml\ndataset: a,b\ncutoff_len: 64\nval_size: 100\n", {"data.sources.a.val_rows": 50, "evaluate.held_out.data.sources.b.val_rows": 50}, []),
    "a share that is held out": ("dpo.yaml", MIXTURE + "  test_split_size: 0.1\n", {"evaluate.held_out.every": 5, "evaluate.held_out.data.sources.one.val_share": 0.1}, []),
    "a launcher on each of several nodes": ("a.sh", MASON, {"machine.devices": 8, "machine.nodes": 4, "budget.pairs_per_step": 64}, []),
    "processes of all nodes together": ("a.sh", SCRIPT, {"machine.devices": 8, "machine.nodes": 2, "budget.pairs_per_step": 16}, []),
    "a launcher that is a module": ("a.sh", SPARK, {"loss.beta": 5, "machine.devices": None, "data.hub": "org/d"}, []),
    "duplicates that leave": ("a.yml", "base_model: org/m\nmicro_batch_size: 1\nnum_epochs: 1\nsequence_len: 64\nlearning_rate: 1e-5\ndataset_exact_deduplication: true\ndatasets:\n  - {path: org/d, type: chat_template}\n", {"data.hub": "org/d"}, ["dataset_exact_deduplication"]),
    "evaluations as AReaL writes them": ("a.yaml", AREAL.replace("NORM", "{mean_level: group, std_level: group}") + "valid_dataset: {path: org/e}\neval_gconfig: {n_samples: 4, temperature: 0.6, max_new_tokens: 64, top_p: 0.9, stop: [x]}\nref: {path: org/other}\n", {"evaluate.held_out.sampler.num_generations": 4, "evaluate.held_out.sampler.temperature": 0.6, "evaluate.held_out.sampler.max_completion_length": 64, "evaluate.held_out.sampler.stop": ["x"], "reference.from": "org/other"}, []),
    "episodes of ROLL": ("agent.yaml", ROLL_AGENT, {"environment.type": "own", "environment.history": "append_only", "use": ["./environment.py"], "data.type": "environment", "data.max_length": None, "budget.prompts_per_step": 128, "budget.remainder": "copy", "sampler.num_generations": 8, "sampler.max_completion_length": 64, "sampler.max_context_length": 1024}, ROLL_LOST),
    "steps of ROLL's GiGPO": ("agent.yaml", ROLL_AGENT.replace("grpo", "gigpo\nbatch_adjust_mode: delete"), {"environment.history": 4, "budget.remainder": "drop", "sampler.rows": "step"}, ROLL_LOST),
    "earlier turns of ROLL": ("agent.yaml", ROLL_AGENT.replace("grpo", "gigpo\ndefault_history_length: 3"), {"environment.history": 2}, ROLL_LOST),
    "what the prompt leaves of ROLL's sequence": ("a.yaml", ROLL + "sequence_length: 4096\nprompt_length: 512\nresponse_length: 9\n", {"sampler.max_completion_length": 3584, "sampler.max_context_length": None, "data.max_length": 512}, ["actor_train.data_args.domain_interleave_probs.math", "actor_infer.generating_args.repetition_penalty"]),
    "worker settings of ROLL": ("a.yaml", ROLL, {"optimizer.betas": [0.9, 0.95], "policy.chat_template": None, "evaluate.held_out.sampler.max_completion_length": None}, ["actor_train.data_args.domain_interleave_probs.math", "actor_infer.generating_args.repetition_penalty"]),
    "held-out sets of SkyRL": ("a.sh", "python -m skyrl.train.main_sft model.path=org/m model.lora.rank=8 model.lora.dropout=0.1 train_datasets=['org/d'] eval_datasets=['org/e'] eval_dataset_splits=['test'] eval_interval=5 batch_size=8 num_steps=5", {"policy.lora.dropout": 0.1, "evaluate.held_out.data.hub": "org/e", "evaluate.held_out.data.split": "test", "evaluate.held_out.every": 5}, []),
    "rollouts ahead are not replaced": ("a.sh", OPEN + "--async_steps 2 --active_sampling --stop_strings x", {"sampler.group_filter.action": "drop", "loss.sampler_correction": "truncate"}, ["active_sampling"]),
    "what cannot be corrected": ("a.yaml", ROLL.replace("top_k: 5, ", "").replace("repetition_penalty: 1.1", "top_p: 0.9").replace(", domain_interleave_probs: {math: 1.0}", "") + "async_generation_ratio: 1\n", {"loss.sampler_correction": "none", "allow.RC541": "as in the file"}, []),
    "an engine by its settings": ("a.sh", "python -m skyrl.train.entrypoints.main_base trainer.policy.model.path=org/m data.train_data=['a.parquet'] environment.env_class=gsm8k generator.n_samples_per_prompt=4 generator.inference_engine.gpu_memory_utilization=0.5", {"machine.rollout.type": "vllm", "machine.rollout.memory": 0.5}, []),
    "a sequence over devices": ("a.sh", VERL + "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2", {"machine.train.type": "fsdp", "machine.train.sequence_parallel": 2}, []),
    "images are on one device": ("a.sh", VERL.replace("org/m", "Qwen/Qwen2.5-VL-3B-Instruct") + "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2", {"policy.type": "vision_lm", "machine.train.sequence_parallel": None}, []),
    "texts that are cut": ("a.yml", "base_model: org/m\nmicro_batch_size: 1\nmax_steps: 5\nsequence_len: 64\nlearning_rate: 1e-5\npretraining_dataset:\n  - {path: org/d, type: pretrain}\n", {"data.overlong": "truncate", "data.columns.text": "text"}, []),
    "the engine that is usual there": ("a.sh", VERL, {"machine.rollout.type": "vllm"}, []),
    "a critic has whole rows": ("a.sh", VERL.replace("grpo", "gae") + "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2", {"critic.type": "value_model", "machine.train.sequence_parallel": None}, []),
    "layers by Megatron's names": ("a.yaml", AREAL.replace("NORM", "null, use_lora: true, lora_rank: 8, peft_type: lora, target_modules: [linear_qkv, linear_fc2]"), {"policy.lora.targets": ["q_proj", "k_proj", "v_proj", "down_proj"]}, []),
    "a command inside a shell's": ("a.sh", "N=2\nsrun --nodes=$N bash -c 'cd /x && " + VERL + "trainer.save_freq=$N'\n", {"budget.save_every": 2, "sampler.num_generations": 4}, []),
    "an objective that is not offered": ("a.yml", "base_model: org/m\nmicro_batch_size: 1\nmax_steps: 5\nsequence_len: 64\nlearning_rate: 1e-5\nrl: ebft\ndatasets:\n  - {path: org/d, type: chat_template}\n", {"data.hub": "org/d"}, ["rl"]),
    "prompts that are cut": ("a.sh", "X=\npython3 -m openrlhf.cli.train_ppo_ray --pretrain org/m --prompt_data org/d --prompt_max_len 64 --generate_max_len 32 --n_samples_per_prompt 4 --wandb_run_name a $X --advantage_estimator rloo --rollout_batch_size 8", {"data.max_length": 64, "data.overlong": "truncate", "data.truncation_side": "right"}, []),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANINGS)
def test_a_meaning_is_kept_or_reported(case):
    """Values and units are those of the tool, the recipe compiles, and nothing else is lost."""
    file, text, values, missing = MEANINGS[case]
    found = import_recipe(file, text)
    assert [d.message for d in found.left] == []
    settings = found.made.settings
    assert {path: settings[path].value if path in settings else None for path in values} == values
    assert [fate.name for fate in found.made.fates if fate.verdict == "missing"] == missing
    assert [fate.name for fate in found.made.fates if fate.verdict == "unknown"] == []


def test_a_new_name_of_a_section_is_not_taken_for_a_harmless_one():
    """A name that the table does not have is reported as not known, also in a section of workers or devices."""
    found = import_recipe("a.yaml", ROLL.replace("template: qwen2_5", "my_filter: 0.1"))
    assert [f.name for f in found.made.fates if f.verdict == "unknown"] == ["actor_train.data_args.my_filter"]


def test_an_environment_that_is_not_shipped_is_named():
    """Without its environment a recipe is not complete, and the report has its name."""
    found = import_recipe("a.sh", AGENT + "algorithm.adv_estimator=gigpo env.env_name=Sokoban")
    assert found.left
    [lost] = [fate for fate in found.made.fates if fate.name == "env.env_name"]
    assert lost.verdict == "missing"
    assert "Sokoban is not shipped" in lost.text


def test_a_fork_is_told_from_its_tool_by_its_own_names():
    """Files of verl have no environment of verl-agent, and files of verl-agent have."""
    assert import_recipe("a.sh", VERL).made.found.tool.name == "verl"
    agent = import_recipe("a.sh", AGENT + "env.env_name=Webshop algorithm.adv_estimator=grpo")
    assert agent.made.found.tool.name == "verl-agent"


@pytest.mark.parametrize(
    ("file", "text", "tool"),
    [
        ("a.sh", "swift rlhf --rlhf_type grpo --model org/m --dataset a --learning_rate 1e-6", "ms-swift"),
        ("a.yaml", "policy: {model_name: org/m, train_global_batch_size: 8}\ngrpo: {num_prompts_per_step: 8}\nloss_fn: {ratio_clip_min: 0.2}\ncheckpointing: {checkpoint_dir: a}\n", "NeMo-RL"),
        ("a.yaml", "output_dir: /a\nmodel: {_component_: torchtune.models.llama3.llama3_8b}\noptimizer: {_component_: torch.optim.AdamW, lr: 2e-5}\n", "torchtune"),
        ("a.sh", "python3 -m verl.trainer.main_generation trainer.nnodes=1 data.path=a.parquet model.path=org/m rollout.temperature=1.0", "generation"),
        ("a.yaml", "model_name_or_path: a/b\ntemplate: qwen3_nothink\nexport_dir: out\nexport_size: 5\nexport_device: cpu\n", "LLaMA-Factory's export"),
        ("a.yaml", "model_name_or_path: a/b\ntemplate: llama3\ninfer_backend: huggingface\ntrust_remote_code: true\n", "LLaMA-Factory's inference"),
        ("a.json", "zero_optimization: {stage: 3}\ntrain_batch_size: auto\nbf16: {enabled: auto}\n", "DeepSpeed"),
        ("a.yaml", "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nnum_processes: 8\nmixed_precision: bf16\n", "Accelerate"),
    ],
)  # fmt: skip
def test_a_tool_that_is_not_read_is_named(file, text, tool):
    """A file of a known tool that cannot be read is refused with the name of the tool."""
    with pytest.raises(RecipeError) as refused:
        import_recipe(file, text)
    [found] = refused.value.diagnostics
    assert (found.code, tool in found.message) == ("RC911", True)
    name, read = foreign_tool(file, text)
    assert (tool in name, read) == (True, False)


def test_a_file_with_many_unknown_names_is_reported():
    """The first lines of the report count the names that the tool does not have."""
    ours = " ".join(f"my.name{number}={number}" for number in range(6))
    found = import_recipe("a.sh", VERL + ours)
    assert "6 of 11 names are not those of verl" in report.text(found.made, found.left).splitlines()[1]
