"""Names of earlier versions and of forks mean what the present ones do, and defaults that changed are reported."""

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.importing.report import text as report
from recipec.importing.run import import_recipe
from recipec.reading.foreign.tables import tools

VERL = (
    "python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=org/m data.train_files=a.parquet "
    "algorithm.adv_estimator=grpo actor_rollout_ref.rollout.n=4 data.train_batch_size=16 "
)
OPENRLHF = (
    "python3 -m openrlhf.cli.train_ppo_ray --pretrain org/m --prompt_data org/d --n_samples_per_prompt 4 "
    "--rollout_batch_size 16 --train_batch_size 64 --generate_max_len 32 --advantage_estimator group_norm "
)
TRL = "model_name_or_path: org/m\ndataset_name: org/d\nnum_generations: 8\nper_device_train_batch_size: 8\n"


def values(text, file="a.sh"):
    """Return the values of the recipe, by path."""
    found = import_recipe(file, text)
    assert [d.message for d in found.left] == []
    return {path: setting.value for path, setting in found.made.settings.items()}


def fates(text, verdict, file="a.sh"):
    """Return the names that have a verdict, with their texts."""
    return {fate.name: fate.text for fate in import_recipe(file, text).made.fates if fate.verdict == verdict}


def test_a_name_of_an_earlier_version_has_the_row_of_the_present_one():
    """Aliases lead to rows of some kind, and are no names of their own."""
    for tool in tools():
        for old, present in tool.aliases.items():
            assert {row.to for row in tool.index[old]} <= {row.to for name in present for row in tool.index[name]}
            assert not set(present) & {*tool.aliases}


def test_zero_switches_off_what_has_another_default():
    """A coefficient of 0 under the earlier name is 0, though the present name has a default of 0.01."""
    made = values(f"{OPENRLHF} --init_kl_coef 0.0")
    assert [path for path in made if path.startswith("reward.kl.")] == []
    assert values(OPENRLHF)["reward.kl.beta"] == 0.01


def test_earlier_names_meet_conditions_on_present_ones():
    """The switch of the loss is read under its earlier name, too."""
    made = values(f"{OPENRLHF} --use_kl_loss --init_kl_coef 0.02 --kl_estimator k2")
    assert (made["loss.beta"], made["loss.kl"]) == (0.02, "k2")


def test_names_of_verl_before_they_moved():
    """The entropy losses of their authors' scripts, with a percentage of tokens."""
    made = values(
        f"{VERL} actor_rollout_ref.actor.loss_mode=kl_cov actor_rollout_ref.actor.k_percent=0.2 "
        "actor_rollout_ref.actor.ppo_kl_coef=1 data.val_files=b.parquet actor_rollout_ref.rollout.n_val=8 "
        "+actor_rollout_ref.rollout.val_temperature=0.6 algorithm.grpo_use_std=False"
    )
    assert (made["loss.type"], made["loss.share"], made["loss.penalty"]) == ("kl_cov", 0.002, 1)
    assert made["evaluate.held_out.sampler.num_generations"] == 8
    assert made["evaluate.held_out.sampler.temperature"] == 0.6
    assert made["advantage.group.scale"] == "none"


@pytest.mark.parametrize(
    ("minibatch", "made"),
    [
        (8, {"budget.prompts_per_update": 8}),
        (32, {"budget.rows_per_update": 32}),
        (64, {}),
        (256, {}),
    ],
)
def test_a_minibatch_of_more_than_the_prompts_of_a_step_counts_rows(minibatch, made):
    """With 16 prompts of 4 rows, 32 can only be rows, and 64 are all of them."""
    found = values(f"{VERL} actor_rollout_ref.actor.ppo_mini_batch_size={minibatch}")
    assert {path: found[path] for path in found if path.endswith("_per_update")} == made


def test_a_default_that_changed_is_reported_where_the_file_says_nothing():
    """Of a value that the file has, or that another one makes needless, nothing is said."""
    assert {"beta", "loss_type", "temperature"} <= {*fates(TRL, "earlier", "grpo.yaml")}
    assert "beta" not in fates(f"{TRL}beta: 0.0\n", "earlier", "grpo.yaml")
    name = "algorithm.use_kl_in_reward"
    assert "in the reward" in fates(VERL, "earlier")[name]
    assert name not in fates(f"{VERL} actor_rollout_ref.actor.use_kl_loss=True", "earlier")
    found = import_recipe("grpo.yaml", TRL)
    assert "Defaults that earlier versions had otherwise (" in report(found.made, found.left)


def test_a_name_that_the_tool_refuses_tells_of_a_fork():
    """With `+` Hydra takes any name; without, verl would not start."""
    for sign, fork in (("", True), ("+", False)):
        found = import_recipe("a.sh", f"{VERL} {sign}agent_grpo.n=16")
        assert "agent_grpo.n" in fates(f"{VERL} {sign}agent_grpo.n=16", "unknown")
        assert ("of a fork or another version of verl" in report(found.made, found.left)) == fork


@pytest.mark.parametrize(
    ("program", "own"),
    [("-m verl.trainer.main_ppo", True), ("-m recipe.flowrl.main_flowrl", False), ("train.py", False)],
)
def test_a_program_that_is_not_of_the_tool_is_named(program, own):
    """What the code of another program does is not in the names of its script."""
    script = VERL.replace("-m verl.trainer.main_ppo", program)
    assert [name for name in fates(script, "assumed") if "NAME" not in name] == ([] if own else [program.split()[-1]])


EASY_R1 = """data: {train_files: org/math@train, val_files: org/math@test, rollout_batch_size: 64}
algorithm: {adv_estimator: grpo, use_kl_loss: true, kl_coef: 1.0e-2, kl_penalty: low_var_kl, disable_kl: false}
worker:
  actor: {global_batch_size: 16, model: {model_path: org/m}, loss_type: gspo, clip_ratio_high: 0.28}
  rollout: {n: 5, val_override_config: {temperature: 0.6}}
  reward: {reward_function: "./rewards.py:score"}
trainer: {n_gpus_per_node: 4, save_limit: 3}
"""


def test_easy_r1_has_names_and_units_of_its_own():
    """Prompts are counted, the split is behind the data set, and the function behind its file."""
    made = values(EASY_R1, "config.yaml")
    expected = {
        "data.hub": "org/math",
        "data.split": "train",
        "evaluate.held_out.data.split": "test",
        "evaluate.held_out.sampler.temperature": 0.6,
        "budget.prompts_per_step": 64,
        "budget.prompts_per_update": 16,
        "loss.beta": 0.01,
        "loss.kl": "k3",
        "loss.ratio": "sequence",
        "loss.epsilon_high": 0.28,
        "reward.score.name": "score",
        "use": ["./rewards.py"],
        "machine.devices": 4,
    }
    assert {path: made[path] for path in expected} == expected
    assert "loss.beta" not in values(EASY_R1.replace("disable_kl: false", "disable_kl: true"), "config.yaml")
    in_reward = values(EASY_R1.replace("use_kl_loss: true", "use_kl_loss: false"), "config.yaml")
    assert (in_reward["reward.kl.beta"], "loss.beta" in in_reward) == (0.01, False)


TULU = """model_name_or_path: org/m
use_slow_tokenizer: true
tokenizer_name: org/m
dataset_mixer: {org/a: 100, org/b: 200, org/c: 300, org/d: 400, org/e: 500, org/f: 1.0}
with_tracking: true
checkpointing_steps: epoch
max_seq_length: 64
per_device_train_batch_size: 1
gradient_accumulation_steps: 16
"""


@pytest.mark.parametrize(
    ("text", "tool", "trainer"),
    [
        (TULU, "open-instruct", "sft"),
        (VERL.replace("main_ppo", "main_x") + " ".join(f"my.name{n}={n}" for n in range(28)), "verl", "ppo"),
        (
            "model_name_or_path: org/m\nper_device_train_batch_size: 1\nloss_type: sigmoid\nmax_length: 9\n",
            "TRL",
            "dpo",
        ),
        ("model_name_or_path: org/m\nper_device_train_batch_size: 1\nmax_length: 9\n", "TRL", "sft"),
    ],
)
def test_a_file_is_of_the_tool_with_the_most_of_its_names(text, tool, trainer):
    """Data sets are one name, a fork may have many of its own, and a loss tells the trainer where no name does."""
    many = " trainer.nnodes=1 trainer.n_gpus_per_node=1 trainer.save_freq=1 trainer.test_freq=1 trainer.total_epochs=1 "
    more = many + " ".join(f"actor_rollout_ref.rollout.{name}=1" for name in ("top_p", "top_k", "temperature", "dtype"))
    actor = (f"actor_rollout_ref.actor.{name}=1" for name in ("grad_clip", "ppo_epochs", "clip_ratio", "use_kl_loss"))
    lengths = " data.max_prompt_length=8 data.max_response_length=8 data.shuffle=False data.seed=1 "
    file, text = ("a.sh", f"{text}{more}{lengths}{' '.join(actor)}") if text.startswith("python") else ("a.yaml", text)
    found = import_recipe(file, text).made.found
    assert (found.tool.name, found.trainer.name) == (tool, trainer)


@pytest.mark.parametrize(
    ("file", "text", "tool"),
    [
        ("a.yaml", "model: org/m\ntuner_type: lora\ndataset: org/d\nper_device_train_batch_size: 1\n", "ms-swift"),
        ("a.sh", "uv run examples/run_grpo.py --config a.yaml grpo.max_num_steps=1", "NeMo-RL"),
        ("a.yaml", "defaults: ../a.yaml\npolicy: {megatron_cfg: {enabled: true}}\n", "NeMo-RL"),
        (
            "a.yaml",
            "data: {path: a.parquet, data_source_key: b, reward_model_key: c}\n",
            "verl's generation and evaluation",
        ),
        ("a.yaml", "num_generations: 8\ndataset_name: org/d\npass_rate_min: 0\npass_rate_max: 1\n", "open-r1's filter"),
        ("a.sh", "deepspeed --module openrlhf.cli.train_kd --pretrain org/m --kd_coef 0.4", "OpenRLHF's distillation"),
        (
            "a.yaml",
            "actor: {type: {_class: qwen2}, path: org/m}\nppo: {gen: {n: 8}}\n",
            "AReaL before its lite version",
        ),
        (
            "a.yaml",
            "env: {group_size: 8, max_token_length: 9}\nopenai: {model_name: m}\n",
            "the environments of atropos",
        ),
        ("a.sh", "python t.py model.lora_rank=8 training.group_size=8 data.max_prompt_length=8", "rLLM's own trainer"),
    ],
)
def test_files_that_are_not_read_are_named(file, text, tool):
    """The error says whose file it is, and that it is not read."""
    with pytest.raises(RecipeError) as error:
        import_recipe(file, text)
    assert f"is a file of {tool}" in error.value.diagnostics[0].message


def test_a_batch_of_one_device_is_an_assumption():
    """Where neither the file nor `--devices` says it."""
    assert "machine.devices" in fates(TULU, "assumed", "a.yaml")
    for devices in (1, 8):
        made = import_recipe("a.yaml", TULU, devices=devices).made
        assert "machine.devices" not in [fate.name for fate in made.fates if fate.verdict == "assumed"]
    assert "machine.devices" not in fates(VERL, "assumed")
