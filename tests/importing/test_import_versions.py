"""Names of earlier versions and of forks mean what the present ones do, and defaults that changed are reported."""

import pytest

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
