"""What names of forks, shares of all steps, several commands and placeholders of a file become."""

# ruff: noqa: E501 - one line for each file

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.importing.run import import_recipe

VERL = "python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=org/m data.train_files=a.parquet actor_rollout_ref.rollout.n=4 "
GRPO = VERL + "algorithm.adv_estimator=grpo "
AXOLOTL = "base_model: org/m\nmicro_batch_size: 1\nnum_epochs: 2\nsequence_len: 64\nlearning_rate: 1e-5\n"
CHAT = AXOLOTL + "datasets:\n  - {path: data/a.jsonl, type: chat_template, "
FACTORY = "stage: ppo\ndo_train: true\nmodel_name_or_path: org/m\ndataset: a\ntemplate: chatml\nper_device_train_batch_size: 4\nreward_model: org/r\n"
AREAL = (
    "trial_name: a\nexperiment_name: b\nactor: {path: org/m, backend: 'fsdp:d4', ppo_n_minibatches: 1, eps_clip: 0.3, adv_norm: {mean_level: group, std_level: group}}\n"
    "train_dataset: {path: org/d, batch_size: 8}\ngconfig: {n_samples: 4}\n"
)
EASY = "algorithm: {adv_estimator: grpo}\ndata: {train_files: org/d@train, rollout_batch_size: 8}\ntrainer: {total_episodes: 3}\nworker:\n  actor: {model: {model_path: org/m}, global_batch_size: 4, ulysses_sequence_parallel_size: 2}\n  rollout: {n: 5}\n"
INSTRUCT = "python open_instruct/grpo_fast.py --model_name_or_path org/m --dataset_mixer_list org/d 1.0 --num_samples_per_prompt_rollout 4 --total_episodes 640 "
PAIRS = "python open_instruct/dpo.py --model_name_or_path org/m --mixer_list org/d 1.0 "
RLHF = "python3 -m openrlhf.cli.train_ppo_ray --pretrain org/m --advantage_estimator group_norm --n_samples_per_prompt 4 --generate_max_len 32 --prompt_max_len 32 --remote_rm_url ./score.py "
# name: file, text, settings of the recipe, names that cannot be written
FILES = {
    "several completions under another name": ("a.sh", VERL.replace("actor_rollout_ref.rollout.n", "data.n_samples") + "algorithm.adv_estimator=rloo", {"sampler.num_generations": 4}, []),
    "an advantage without a deviation": ("a.sh", VERL + "algorithm.adv_estimator=gpg actor_rollout_ref.actor.policy_loss.loss_mode=gpg", {"loss.type": "clipped", "advantage.group.type": "group_relative", "advantage.group.scale": "none"}, []),
    "code of a reward model": ("a.sh", GRPO + "reward_model.enable=True reward_model.model.path=org/r reward_model.model.trust_remote_code=True", {"reward.quality.from": "org/r"}, []),
    "turns that are switched off": ("a.sh", GRPO + "actor_rollout_ref.rollout.multi_turn.enable=False actor_rollout_ref.rollout.multi_turn.tool_config_path=t.yaml actor_rollout_ref.rollout.multi_turn.max_user_turns=3", {"environment.type": None, "environment.max_turns": None}, []),
    "a share of all steps": ("a.yml", CHAT + "split: train}\nval_set_size: 0.1\nsave_steps: 0.1\neval_steps: 0.25\n", {"budget.saves_per_epoch": 5, "budget.save_every": None, "evaluate.held_out.per_epoch": 2, "evaluate.held_out.every": None}, []),
    "held-out data with a file": ("a.yml", CHAT + "chat_template: tokenizer_default, roles_to_train: [gpt], train_on_eos: turn}\ntest_datasets:\n  - {path: data/b.jsonl, type: chat_template, ds_type: json}\neval_steps: 20\nsave_strategy: epoch\nrl_adapter_ref_model: false\n", {"evaluate.held_out.data.path": "data/b.jsonl", "evaluate.held_out.metrics": ["loss"], "evaluate.held_out.data.columns.messages": "messages", "evaluate.held_out.every": 20, "budget.saves_per_epoch": 1}, []),
    "roles that are trained": ("a.yml", CHAT + "roles_to_train: [user, assistant]}\n", {}, ["datasets.roles_to_train"]),
    "conversations of ShareGPT": ("a.yml", AXOLOTL + "datasets:\n  - {path: org/d, type: sharegpt}\n", {"data.columns.messages": "conversations"}, []),
    "the end of a turn": ("sft.yaml", "model_name_or_path: org/m\ndataset_name: org/d\nper_device_train_batch_size: 2\neos_token: <|im_end|>\npad_token: <pad>\n", {"policy.eos_token": "<|im_end|>"}, []),
    "the end of a turn in axolotl": ("a.yml", CHAT + "split: train}\nspecial_tokens: {eos_token: <|im_end|>, pad_token: x}\n", {"policy.eos_token": "<|im_end|>"}, []),
    "evaluated by a share": ("dpo.yaml", "model_name_or_path: org/m\nper_device_train_batch_size: 2\nbeta: 0.1\ndataset_name: org/d\neval_strategy: steps\neval_steps: 0.5\nmax_steps: 40\n", {"evaluate.held_out.every": 20}, []),
    "PPO of LLaMA-Factory": ("a.yaml", FACTORY + "reward_model_type: full\n", {"sampler.temperature": 0.95, "sampler.top_p": 0.7, "sampler.top_k": 50, "sampler.max_completion_length": 1024, "sampler.num_generations": 1, "budget.prompts_per_step": 4, "budget.passes": 4, "advantage.credit.beta": 0.2, "reward.quality.from": "org/r", "seed": 42}, ["stage: ppo", "stage: ppo"]),
    "batches of a launcher": ("a.yaml", "stage: sft\ndo_train: true\nmodel_name_or_path: org/m\ndataset: a\ntemplate: chatml\ncutoff_len: 64\nglobal_batch_size: 96\nattn: fa2\n", {"budget.rows_per_step": 96, "attention.type": "packed"}, []),
    "a margin as a share of beta": ("a.sh", PAIRS + "--dpo_loss_type simpo --dpo_beta 10 --dpo_gamma_beta_ratio 0.3", {"loss.type": "simpo", "loss.beta": 10, "loss.gamma": 3.0}, []),
    "the usual margin": ("a.sh", PAIRS + "--loss_type simpo --beta 2", {"loss.gamma": 0.6}, []),
    "no margin elsewhere": ("a.sh", PAIRS + "--loss_type dpo --beta 2", {"loss.gamma": None}, []),
    "ratios of tokens that are left out": ("a.sh", INSTRUCT + "--rho_mask_lower_bound 0.5 --rho_mask_upper_bound 5 --async_steps 1", {"loss.sampler_correction": "truncate", "loss.sampler_correction_cap": 2.0, "loss.sampler_rejection.level": "token", "loss.sampler_rejection.floor": 0.5, "loss.sampler_rejection.cap": 5}, []),
    "ratios of rows between bounds": ("a.sh", INSTRUCT + "--rho_mask_upper_bound 1.1 --rho_mask_sequence_level --rho_clamp_lower_bound 0.8 --async_steps 1", {"loss.sampler_correction": "clip", "loss.sampler_correction_floor": 0.8, "loss.sampler_correction_cap": 2.0, "loss.sampler_correction_level": "geometric", "loss.sampler_rejection.level": "geometric", "loss.sampler_rejection.floor": 0.0}, []),
    "ratios without a correction": ("a.sh", INSTRUCT + "--use_rho_correction False --rho_mask_upper_bound 5 --async_steps 1", {"loss.sampler_rejection.cap": None, "loss.sampler_correction_cap": None}, []),
    "another divergence than ratios": ("a.sh", INSTRUCT + "--rho_mask_upper_bound 5 --rho_mask_tv_divergence --async_steps 1", {"loss.sampler_rejection.cap": None}, ["rho_mask_upper_bound", "rho_mask_tv_divergence"]),
    "a warm-up of 0 under an earlier name": ("a.sh", RLHF + "--prompt_data org/d --lr_warmup_ratio 0.0", {"optimizer.warmup_ratio": None, "optimizer.schedule": "cosine"}, []),
    "an agent that rewards": ("a.sh", RLHF.replace("--remote_rm_url ./score.py", "--agent_func_path ./agent.py --async_train") + "--prompt_data org/d", {"environment.type": "own", "reward.episode.type": "environment", "reward.score.type": None, "sampler.max_staleness": 1}, []),
    "sets of SkyRL": ("a.sh", "python -m skyrl.train.entrypoints.main_base trainer.policy.model.path=org/m environment.env_class=gsm8k data.train_data=['org/d:test'] data.val_data=['$D/b.parquet']", {"data.hub": "org/d", "data.split": "test", "evaluate.held_out.data.path": "b.parquet"}, []),
    "raw text": ("a.sh", "deepspeed --module openrlhf.cli.train_sft --pretrain org/m --dataset org/d --input_key text --pretrain_mode --max_len 64", {"data.columns.text": "text", "data.columns.messages": None}, []),
    "defaults of labelled answers": ("a.sh", "deepspeed --module openrlhf.cli.train_kto --pretrain org/m --dataset org/d --input_key q --output_key a", {"loss.type": "kto", "loss.beta": 0.01, "optimizer.schedule": "cosine", "optimizer.min_ratio": 0.1, "optimizer.warmup_ratio": 0.03, "optimizer.betas": [0.9, 0.95], "data.columns.label": "label"}, []),
    "a process reward": ("a.sh", GRPO.replace("verl.trainer.main_ppo", "recipe.prime.main_prime") + "reward_model.model.path=org/r", {"reward.quality.from": None}, ["reward_model.model.path"]),
    "names of data sets with a dot": ("a.yaml", "model_name_or_path: org/m\ntokenizer_name: org/m\nuse_slow_tokenizer: true\ndataset_mixer: {org/a3.4-b: 1.0, org/b: 1.0}\nper_device_train_batch_size: 2\n", {"data.sources.a3_4_b.hub": "org/a3.4-b"}, []),
    "a folder of a data set": ("a.sh", RLHF + "--prompt_data 'org/gsm8k@main'", {"data.hub": "org/gsm8k", "data.config": "main"}, []),
    "advantages compared in their group": ("a.yaml", AREAL, {"advantage.group.type": "group_relative", "advantage.group.scale": "std"}, []),
    "earlier names of EasyR1": ("a.yaml", EASY, {"budget.epochs": 3, "machine.train.sequence_parallel": 2}, []),
    "rewards of another script": ("a.sh", "torchrun --nproc_per_node 8 src/open_r1/grpo_rec.py --model_name_or_path org/m --dataset_name org/d --num_generations 8 --per_device_train_batch_size 8 --reward_funcs accuracy format", {"reward.accuracy.type": "function", "reward.format.name": "format"}, []),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_name_is_read_as_its_tool_reads_it(case):
    """Values and units are those of the tool, what cannot be written is listed, and nothing counts as not known."""
    file, text, values, missing = FILES[case]
    found = import_recipe(file, text)
    settings, fates = found.made.settings, found.made.fates
    assert [d.message for d in found.left if "needs `functions`" not in d.message] == []
    assert {path: settings[path].value if path in settings else None for path in values} == values
    assert [fate.name for fate in fates if fate.verdict == "missing"] == missing
    assert [fate.name for fate in fates if fate.verdict == "unknown"] == []


def test_tools_of_a_file_with_settings_make_an_environment():
    """A file with tools is not called unneeded, though nothing else switches turns on: functions are left to write."""
    found = import_recipe("a.sh", GRPO + "actor_rollout_ref.rollout.multi_turn.tool_config_path=$PWD/t.yaml actor_rollout_ref.rollout.multi_turn.max_user_turns=3")  # fmt: skip
    assert {p: found.made.settings[p].value for p in ("environment.type", "environment.max_turns")} == {
        "environment.type": "tool_use",
        "environment.max_turns": 3,
    }
    assert [d.path for d in found.left] == ["stages.train.environment.functions"]


def test_rewards_that_a_script_may_call_otherwise_are_not_reported_as_the_same():
    """`accuracy` is that of open-r1, and other scripts have rewards of their own by this name; TRL's own are exact."""
    text = "model_name_or_path: org/m\ndataset_name: org/d\nnum_generations: 8\nper_device_train_batch_size: 8\nreward_funcs: [{}]\n"
    by_name = {name: import_recipe("grpo.yaml", text.replace("{}", name)).made.fates for name in ("accuracy", "accuracy_reward")}  # fmt: skip
    verdicts = {name: next(f.verdict for f in fates if f.name == "reward_funcs") for name, fates in by_name.items()}
    assert verdicts == {"accuracy": "other", "accuracy_reward": "same"}


def test_compared_rewards_without_names_are_left_to_write():
    """GDPO compares rewards that are in the script: none is made up, and the recipe lacks its advantage."""
    found = import_recipe("a.sh", VERL + "algorithm.adv_estimator=gdpo")
    assert [f.name for f in found.made.fates if f.verdict == "missing"] == ["algorithm.gdpo_reward_keys"]
    assert [d.path for d in found.left] == ["stages.train.advantage"]


LOOP = """read -r -d '' generate <<EOF
openrlhf.cli.batch_inference --eval_task generate_vllm --pretrain org/m --max_new_tokens 8 --dataset org/p \\
  --input_key q --temperature 1.0 --tp_size 4 --best_of_n 8 --output_path out.jsonl
EOF
python -m $generate
read -r -d '' train <<EOF
openrlhf.cli.train_dpo --max_len 64 --dataset out.jsonl --train_batch_size 16 --pretrain org/m
EOF
echo $train
deepspeed --module $train
"""


def test_of_several_commands_the_one_that_trains_is_read():
    """Commands that sample or score in a loop have more arguments, and are not the training."""
    found = import_recipe("loop.sh", LOOP)
    assert (found.made.found.trainer.name, found.made.settings["data.path"].value) == ("dpo", "out.jsonl")
    assert found.made.settings["budget.pairs_per_step"].line == 7


def test_a_placeholder_is_a_value_and_no_redirection():
    """`<PATH>` is for the reader to fill in: the arguments after it keep their names and values."""
    text = "torchrun --nproc_per_node 8 grpo.py --output_dir <OUT_DIR> --model_name_or_path <PATH TO MODEL> --dataset_name org/d --beta 0.1 > log.txt"
    found = import_recipe("a.sh", text)
    assert {e.name: e.value for e in found.made.fates if e.name in {"model_name_or_path", "beta"}} == {
        "model_name_or_path": "<PATH TO MODEL>",
        "beta": 0.1,
    }
    assert "from" not in found.made.settings


def test_a_name_that_is_nearly_one_of_the_tool_is_named():
    """The report says what the tool has in place of a name that it does not know."""
    found = import_recipe("a.sh", GRPO + "trainer.save_freqs=5")
    assert [f.text for f in found.made.fates if f.verdict == "unknown"] == [
        "not a name of verl (`trainer.save_freq` is), which refuses it without `+`"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("accelerate launch --config_file z.yaml run_dpo.py pairs.yaml\n", "`pairs.yaml`"),
        ('LR=1\nsource "$(dirname "$0")/run_common.sh"\n', "run_common.sh"),
    ],
    ids=["settings in a file", "another script"],
)
def test_a_script_without_names_says_what_to_import(text, told):
    """A script that only starts a program with a file, or another script, is refused, and names it."""
    with pytest.raises(RecipeError) as error:
        import_recipe("a.sh", text)
    [refusal] = error.value.diagnostics
    assert (refusal.code, told in f"{refusal.message} {refusal.help}") == ("RC910", True)


def test_a_choice_with_another_meaning_says_so():
    """GPG is written as what has its gradient, and both notes are in the recipe and the report."""
    found = import_recipe(
        "a.sh", VERL + "algorithm.adv_estimator=gpg actor_rollout_ref.actor.policy_loss.loss_mode=gpg"
    )
    notes = {f.name.rpartition(".")[2]: f.text for f in found.made.fates if f.verdict == "other"}
    assert notes == {
        "adv_estimator": "multiplied by the rows of a step over those with a reward there, a factor of the whole step",
        "loss_mode": "GPG has no ratio: the gradient is the same with one update a step",
    }
    assert all(note in found.text for note in notes.values())
