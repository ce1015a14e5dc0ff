"""Of a script's branches those are read that would run, as far as the script itself decides it."""

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.importing.run import import_recipe
from recipec.importing.shell_script import read_script


def value_and_assumptions(script):
    """Return the value of the argument `x.y` and the conditions that were assumed."""
    read = read_script(script)
    found = {a.name: a.value for command in read.commands for a in command.arguments}
    return found["x.y"], [condition for _, condition, _ in read.assumed]


@pytest.mark.parametrize(
    ("script", "value"),
    [
        ('A=1\nif [ "$B" = b ]; then A=2; else A=3; fi', "3"),
        ('B=b\nif [ "$B" = b ]; then A=2; else A=3; fi', "2"),
        ("A=1\nif false; then A=2; elif [[ 3 -gt 2 ]]; then A=4; fi", "4"),
        ("A=1\nif true; then\n  if [ 1 -eq 2 ]; then A=2; fi\nfi", "1"),
        ('A=\nif [ -z "$A" ]; then A=5; fi', "5"),
        ('if [ "${V:-1}" != 0 ] && { [ "$W" = w ] || [ "$W" = "" ]; }; then A=6; fi', "6"),
        ('[[ -n "$B" || $C == 7 ]] && A=2\nA=${A:-1}', "1"),
        ('[ -n "$B" ] || A=8', "8"),
        ("A=1\nwhile [[ $# -gt 0 ]]; do\n  case $1 in --a) A=$2; shift 2 ;; esac\ndone", "1"),
        ("A=1\nparse() {\n  A=$1\n}\nparse 3", "1"),
        ("for A in 9 10; do", "9"),
        ('A=b\ncase "$A" in\n  a | b) A=11 ;;\n  *) A=12 ;;\nesac', "11"),
    ],
)
def test_conditions_of_a_script_are_decided(script, value):
    """Variables that it does not assign are empty, arguments from outside change nothing, loops are read once."""
    assert value_and_assumptions(f"{script}\npython t.py x.y=$A") == (value, [])


def test_what_only_a_shell_knows_is_assumed_and_said():
    """A condition does not hold, the first branch of a `case` is taken, and it decides about its variable."""
    script = (
        "D=$(uname)\nA=1\n"
        'case "${D}" in\n  gpu) A=2 ;;\n  npu) A=3 ;;\nesac\n'
        'if [ "$D" = npu ]; then A=4; fi\n'
        "if [ $(hostname) = node ]; then A=5; fi\n"
        "if ps aux | grep -q serve; then A=6; fi\n"
        "python t.py x.y=$A"
    )
    assert value_and_assumptions(script) == (
        "2",
        ['case "${D}"', "[ $(hostname) = node ] ;", "ps aux | grep -q serve ;"],
    )


def test_a_default_replaces_an_empty_value_where_a_shell_does():
    """`:-` replaces what is empty, `-` alone what is not set."""
    found = {a.name: a.value for a in read_script("A=\npython t.py x.y=${A:-1} x.z=${A-2}").commands[0].arguments}
    assert found == {"x.y": "1", "x.z": ""}


def test_every_branch_is_read_where_none_surely_trains():
    """A command that a condition hides is read, and the report says so."""
    script = "if [ -f data ]; then\n  python3 -m verl.trainer.main_ppo data.train_batch_size=64 trainer.seed=1\nfi"
    found = import_recipe("a.sh", script)
    assert found.made.settings["budget.prompts_per_step"].value == 64
    assert "every branch is read" in " ".join(fate.text for fate in found.made.fates)


def test_one_command_of_several_is_read_and_the_others_are_told():
    """The one with the most arguments becomes the recipe."""
    script = "python sft.py --learning_rate 1e-5\npython sft.py --learning_rate 1e-4 --use_peft \\"
    found = import_recipe("a.sh", f"{script}")
    assert found.made.settings["optimizer.learning_rate"].value == 1e-4
    assert [fate.line for fate in found.made.fates if "has more arguments" in fate.text] == [1]


def test_a_script_that_starts_another_says_that_it_is_not_read():
    """Defaults of the tool are not passed off as what the other script says."""
    script = "bash run_base.sh trainer.algorithm.policy_loss_type=gspo trainer.run_name=a trainer.epochs=2"
    found = import_recipe("a.sh", script)
    assert "run_base.sh" in [fate.name for fate in found.made.fates if fate.verdict == "missing"]


def test_processes_of_a_launcher_behind_another_program_are_counted():
    """`mason.py … -- accelerate launch --num_processes 4 train.py`: the batch is that of four devices."""
    script = (
        "python mason.py --gpus 8 -- accelerate launch --num_processes 4 --deepspeed_multinode_launcher standard "
        "open_instruct/dpo_tune_cache.py --model_name_or_path org/model --mixer_list org/pairs 1.0 --beta 5 "
        "--per_device_train_batch_size 2 --gradient_accumulation_steps 3"
    )
    assert import_recipe("a.sh", script).made.settings["budget.pairs_per_step"].value == 24


@pytest.mark.parametrize(
    "script",
    [
        "python t.py --x.y z 2>&1 | tee log",
        'python t.py --x.y z > "$LOG" 2>&1 &',
        "python t.py --x.y z &>> log",
        "python t.py --x.y z < in.txt",
        "python t.py --x.y z 2>/dev/null",
        "python t.py --x.y z > >(tee -a log) 2>&1",
    ],
)
def test_where_output_goes_is_no_argument(script):
    """Neither a file nor the number of a stream becomes a value of the last flag."""
    assert value_and_assumptions(script) == ("z", [])


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("${#G[@]}", "4"),
        ("${G[1]}", "b"),
        ("${M##*/}", "Qwen2.5-7B"),
        ("${M%%/*}", "Qwen"),
        ("${M%.*}", "Qwen/Qwen2"),
        ('"${M//./_}"', "Qwen/Qwen2_5-7B"),
        ("${M:0:4}", "Qwen"),
        ("${M,,}", "qwen/qwen2.5-7b"),
        ("${U##*/}", "${U##*/}"),
        ("${G[9]}", "${G[9]}"),
    ],
)
def test_parts_of_a_known_value_are_known(given, value):
    """Lengths, items and parts of variables that the script assigns are computed; of others the text is kept."""
    assert value_and_assumptions(f"G=(a b c d)\nM=Qwen/Qwen2.5-7B\npython t.py x.y={given}") == (value, [])


def test_a_variable_that_is_only_given_from_outside_is_not_known():
    """`${NAME:-}` is empty for the script's own tests, and no value or folder of the command."""
    script = (
        'M=${M:-}\nD="${D:-}"\nE=${E:-}\nR=\nif [ -z "$M" ]; then\n  echo no\n  exit 1\nfi\n'
        "python t.py x.m=$M x.d=$D/a.parquet x.r=$R/b.parquet x.n=${M:-org/m} $E --x.f $E"
    )
    found = {a.name: (a.value, a.unresolved) for a in read_script(script).commands[0].arguments}
    assert found == {
        "x.m": ("${M:-}", ("${M:-}",)),
        "x.d": ("${D:-}/a.parquet", ("${D:-}",)),
        "x.r": ("$R/b.parquet", ("$R",)),
        "x.n": ("org/m", ()),
        "x.f": (True, ()),
    }


def test_a_file_with_settings_that_a_script_names_is_reported():
    """Its settings count as defaults where the script has others; alone, it is named as what to import."""
    found = import_recipe("a.sh", "trl grpo --config recipes/a.yaml --num_generations 8 --model_name_or_path org/m")
    assert [(fate.name, fate.verdict) for fate in found.made.fates if fate.name == "config"] == [("config", "missing")]
    found = import_recipe("b.sh", "trl sft recipes/b.yaml --model_name_or_path org/m --dataset_name org/d")
    assert [fate.verdict for fate in found.made.fates if fate.name == "recipes/b.yaml"] == ["missing"]
    for script in ("llamafactory-cli train yaml/c.yaml", "python t.py yaml/c.yaml --other 1"):
        with pytest.raises(RecipeError) as error:
            import_recipe("c.sh", script)
        assert "yaml/c.yaml" in error.value.diagnostics[0].help


def test_a_setting_after_the_value_of_a_flag_is_an_argument_of_its_own():
    """`--config-name NAME model=org/m` has two arguments, though the second has no dot."""
    found = {
        a.name: a.value
        for a in read_script("python t.py --config-name a model=org/m --env A=1 B=2").commands[0].arguments
    }
    assert found == {"config-name": "a", "model": "org/m", "env": ["A=1", "B=2"]}
