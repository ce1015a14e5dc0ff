"""Files of other tools become recipes that compile, with the right values, lines and reasons."""

# ruff: noqa: E501 - one line for each file

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recipec.cli import app
from recipec.compile import check_recipe
from recipec.diagnostics.model import RecipeError
from recipec.importing.run import import_recipe
from recipec.importing.shell_script import read_script
from recipec.importing.sources import read_foreign
from recipec.yaml_io import from_yaml

FILES = Path(__file__).parent / "files"
# file: tool and trainer; values of the recipe; names that cannot be written
EXPECTED = {
    "trl_grpo.yaml": ("TRL", "grpo", {"budget.prompts_per_step": 4, "loss.normaliser": 2048, "loss.epsilon_high": 0.28, "advantage.group.scale": "none", "reward.think_format_reward.weight": 0.2, "optimizer.min_ratio": 0.1, "machine.rollout.type": "vllm"}, []),
    "trl_sft.yaml": ("TRL", "sft", {"budget.rows_per_step": 16, "policy.lora.r": 32, "data.packing": True, "optimizer.schedule": "linear", "evaluate.held_out.metrics": ["loss"], "evaluate.held_out.every": 100, "policy.eos_token": "<|im_end|>"}, []),
    "trl_dpo.sh": ("TRL", "dpo", {"budget.pairs_per_step": 64, "budget.steps": 1000, "loss.variant": "ipo", "machine.devices": 4}, []),
    "trl_rloo.sh": ("TRL", "rloo", {"advantage.group.type": "rloo", "loss.ratio": "product", "loss.aggregate": "seq_mean_token_mean", "reward.kl.beta": 0.05, "budget.prompts_per_step": 2, "data.split": "train[:5%]"}, []),
    "axolotl_reward.yaml": ("axolotl", "rm", {"data.columns.prompt": "input", "data.chat": True, "data.overlong": "truncate", "policy.lora.r": 8, "loss.center": 0.01, "budget.pairs_per_step": 8}, []),
    "trl_gkd.sh": ("TRL", "gkd", {"reference.from": "org/large-instruct", "loss.type": "gkd", "loss.beta": 0.1, "loss.temperature": 1.0, "sampler.temperature": 0.9, "sampler.max_completion_length": 128, "budget.prompts_per_step": 32}, []),
    "verl_distillation.sh": ("verl", "ppo", {"reference.from": "org/large", "loss.type": "gkd", "loss.top_k": 64, "loss.beta": 0.0, "loss.clamp": 10.0, "loss.aggregate": "token_mean", "budget.prompts_per_step": 128}, []),
    "trl_reward.sh": ("TRL", "reward", {"policy.lora.r": 32, "policy.lora.targets": ["q_proj", "v_proj"], "optimizer.learning_rate": 1e-4}, []),
    "trl_kto.yaml": ("TRL", "kto", {"loss.type": "kto", "loss.undesirable_weight": 1.33, "loss.beta": 0.1, "budget.rows_per_step": 16, "optimizer.warmup_ratio": 0.1, "policy.quantization": "nf4"}, []),
    "axolotl_qlora.yml": ("axolotl", "sft", {"policy.quantization": "nf4", "optimizer.moments": "int8", "budget.rows_per_step": 8, "data.hub": "teknium/GPT4-LLM-Cleaned", "data.val_share": 0.1, "data.packing": True, "evaluate.held_out.data.part": "val", "evaluate.held_out.per_epoch": 4, "budget.saves_per_epoch": 1}, ["loss_watchdog_threshold"]),
    "axolotl_dpo.yaml": ("axolotl", "dpo", {"loss.beta": 0.2, "budget.pairs_per_step": 8, "policy.quantization": "int8"}, []),
    "axolotl_full.yaml": ("axolotl", "sft", {"budget.steps": 500, "optimizer.warmup_updates": 20, "machine.train.zero": 3, "data.sources.chat.path": "data/chat.jsonl", "data.sources.more.max_length": 8192}, []),
    "llama_factory_lora.yaml": ("LLaMA-Factory", "sft", {"policy.lora.alpha": 32, "budget.rows_per_step": 8, "data.type": "mix", "data.sources.identity.path": "data/identity.jsonl", "data.sources.alpaca_en_demo.limit": 1000}, []),
    "llama_factory_dpo.yaml": ("LLaMA-Factory", "dpo", {"loss.beta": 0.1, "machine.train.zero": 3, "budget.pairs_per_step": 8}, []),
    "llama_factory_simpo.sh": ("LLaMA-Factory", "dpo", {"loss.type": "simpo", "loss.gamma": 1.0, "loss.beta": 2.0, "from": "Qwen/Qwen2.5-3B-Instruct"}, []),
    "verl_grpo.sh": ("verl", "ppo", {"budget.prompts_per_step": 1024, "budget.prompts_per_update": 256, "optimizer.warmup_updates": 40, "sampler.num_generations": 5, "sampler.max_completion_length": 2048, "loss.kl": "k3", "loss.aggregate": "fixed", "loss.normaliser": 2048, "data.path": "data/gsm8k/train.parquet", "loss.dual_clip": 3.0}, []),
    "verl_dapo.sh": ("verl", "ppo", {"loss.epsilon_high": 0.28, "sampler.group_filter.max_tries": 10, "sampler.group_filter.level": "score", "reward.overlong.soft": 4096, "reward.overlong.max_length": 20480, "reward.score.name": "score_math", "machine.nodes": 16, "data.overlong": "truncate", "data.truncation_side": "left"}, []),
    "verl_ppo.yaml": ("verl", "ppo", {"sampler.num_generations": 1, "loss.entropy": 0.001, "sampler.max_completion_length": 512, "critic.optimizer.learning_rate": 1e-5, "critic.cliprange_value": 0.5, "advantage.credit.lam": 0.95, "advantage.whiten": "tokens"}, []),
    "verl_ppo_rm.sh": ("verl", "ppo", {"critic.from": "org/other-7b", "critic.warmup_steps": 5, "critic.optimizer.warmup_ratio": 0.05, "optimizer.warmup_ratio": 0.1, "reward.quality.from": "org/reward-7b", "reward.quality.max_length": 2048, "advantage.credit.beta": 0.01, "advantage.credit.kl": "k3", "advantage.credit.gamma": 0.99}, ["critic.ppo_mini_batch_size"]),
    "openrlhf_ppo.sh": ("OpenRLHF", "ppo", {"reward.quality.from": "org/llama-3-8b-rm", "critic.optimizer.learning_rate": 9e-6, "critic.cliprange_value": 0.2, "advantage.credit.lam": 0.95, "advantage.credit.beta": 0.01, "optimizer.learning_rate": 5e-7}, []),
    "trl_ppo.sh": ("TRL", "ppo", {"from": "org/pythia-1b-sft", "reward.quality.from": "org/pythia-1b-rm", "budget.passes": 2, "advantage.credit.beta": 0.03, "advantage.credit.lam": 0.9, "advantage.credit.gamma": 1.0, "critic.coefficient": 0.1, "sampler.num_generations": 1, "budget.steps": 7812, "budget.prompts_per_step": 128}, []),
    "openrlhf_sft.sh": ("OpenRLHF", "sft", {"budget.rows_per_step": 256, "data.columns.completion": "response", "optimizer.min_ratio": 0.1, "data.limit": 500000}, []),
    "openrlhf_rloo.sh": ("OpenRLHF", "ppo", {"budget.prompts_per_step": 128, "budget.rows_per_update": 128, "reward.kl.beta": 0.001, "advantage.group.type": "rloo", "budget.epochs": 2, "budget.passes": 1, "reward.score.name": "reward_func"}, []),
    "openrlhf_dpo.sh": ("OpenRLHF", "dpo", {"loss.variant": "ipo", "budget.pairs_per_step": 256, "data.chat": True}, []),
    "prime_rl.toml": ("prime-rl", "rl", {"budget.prompts_per_step": 32, "sampler.num_generations": 16, "sampler.max_completion_length": 512, "budget.save_every": 50, "policy.lora.r": 8}, ["orchestrator.env.id"]),
    "prime_sft.toml": ("prime-rl", "sft", {"optimizer.min_ratio": 0.1, "budget.rows_per_step": 32, "optimizer.warmup_updates": 10}, []),
    "prime_rl_new.toml": ("prime-rl", "rl", {"sampler.temperature": 0.9, "budget.prompts_per_step": 32, "machine.devices": 2, "sampler.max_staleness": 8, "loss.sampler_correction": "truncate"}, ["trainer.loss.type", "orchestrator.max_off_policy_steps"]),
    "skyrl_gsm8k.sh": ("SkyRL", "rl", {"budget.prompts_per_step": 1024, "machine.devices": 4, "loss.beta": 0.001, "data.path": "data/gsm8k/train.parquet"}, ["environment.env_class"]),
    "skyrl_dapo.sh": ("SkyRL", "rl", {"sampler.truncated": "drop", "loss.sampler_correction": "truncate", "sampler.group_filter.max_tries": 30}, []),
    "skyrl_cispo.yaml": ("SkyRL", "rl", {"loss.type": "cispo", "loss.ratio_max": 5, "loss.ratio_min": 0, "budget.steps": 100}, []),
    "open_instruct_grpo.sh": ("open-instruct", "grpo", {"budget.steps": 195, "loss.kl": "k3", "advantage.group.scale": "none", "budget.microbatch_tokens": 8192}, ["apply_verifiable_reward"]),
    "areal_grpo.yaml": ("AReaL", "grpo", {"loss.epsilon": 0.4, "budget.prompts_per_step": 256, "optimizer.betas": [0.9, 0.999]}, []),
}  # fmt: skip


def imported(name):
    """Import one of the files."""
    return import_recipe(name, (FILES / name).read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_another_tool_becomes_a_recipe(name):
    """Tool and trainer are recognised, values and units are right, the recipe compiles, every name has its fate."""
    tool, trainer, values, lost = EXPECTED[name]
    found = imported(name)
    assert (found.made.found.tool.name, found.made.found.trainer.name) == (tool, trainer)
    given = {path: found.made.settings[path].value for path in values}
    assert given == values
    assert [fate.name for fate in found.made.fates if fate.verdict == "unknown"] == []
    missing = {fate.name for fate in found.made.fates if fate.verdict == "missing"}
    if lost is None:
        return
    assert found.left == (), [d.message for d in found.left]
    assert from_yaml(found.text).stages["train"].kind
    told = {fate.name for fate in found.made.fates if fate.verdict in {"missing", "other"}}
    assert set(lost) <= missing | told, missing
    read = read_foreign(name, (FILES / name).read_text())
    names = {fate.name for fate in found.made.fates}
    assert {entry.name for entry in read.entries} - names <= {"no_remove_unused_columns"}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_line_names_where_it_comes_from(name):
    """A value has the line of its name, or says that it is a default, assumed, or of the trainer."""
    text = (FILES / name).read_text().splitlines()
    for line in imported(name).text.splitlines()[3:]:
        value = re.match(r"\s*[\w-]+: \S", line)
        if not value:
            continue
        comment = line.partition("  # ")[2]
        assert comment, line
        source = re.match(r"(\d+): ([\w.]+)", comment)
        if source:
            last = source[2].split(".")[-1]
            assert last in text[int(source[1]) - 1].replace("-", "_"), (line, text[int(source[1]) - 1])


@pytest.mark.parametrize("name", EXPECTED)
def test_validate_says_whose_file_it_is(name, tmp_path):
    """One error, which names the tool and the command that imports."""
    path = tmp_path / name
    path.write_text((FILES / name).read_text())
    result = CliRunner().invoke(app, ["validate", "--format", "concise", str(path)])
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.strip()]
    assert "RC170" in line
    assert f"is a file of {EXPECTED[name][0]}" in line


@pytest.mark.parametrize(
    ("text", "tool", "remedy"),
    [
        ("base_model: org/m\nmicro_batch_size: 1\nsequence_len: 64\n", "axolotl", "`recipec import"),
        ("zero_optimization: {stage: 3}\nbf16: {enabled: auto}\n", "DeepSpeed", "`recipec new`"),
    ],
)
def test_validate_says_what_to_do_with_a_file_of_another_tool(text, tool, remedy, tmp_path):
    """The first line names the tool, and the help a command that does something with the file, or without it."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    result = CliRunner().invoke(app, ["validate", str(path)])
    first, *rest = result.output.splitlines()
    assert f"is a file of {tool}" in first
    (help_line,) = [line for line in rest if "help:" in line]
    assert remedy in help_line


def test_what_a_critic_says_never_reaches_the_policy():
    """PPO's critic has a rate of its own, and the policy keeps its own."""
    found = imported("verl_ppo.yaml")
    assert found.made.settings["optimizer.learning_rate"].value == 1e-6
    assert found.made.settings["from"].value == "deepseek-ai/deepseek-llm-7b-chat"
    assert found.made.settings["critic.optimizer.learning_rate"].value == 1e-5


def test_without_gae_a_critic_is_not_needed():
    """Under another estimator what a file says of a critic has no effect, and none is made."""
    text = (FILES / "verl_ppo_rm.sh").read_text().replace("adv_estimator=gae", "adv_estimator=grpo")
    found = import_recipe("a.sh", text)
    assert not any(path.startswith(("critic.", "advantage.credit.")) for path in found.made.settings)
    assert found.made.settings["reward.kl.beta"].value == 0.01
    unneeded = {fate.name: fate.text for fate in found.made.fates if fate.verdict == "unneeded"}
    assert unneeded["critic.optim.lr"] == "`grpo` has no critic"


def test_import_writes_a_recipe_and_a_report(tmp_path):
    """The recipe goes to a new file and the report to standard output; JSON has the same; nothing is overwritten."""
    dest = tmp_path / "a" / "recipe.yaml"
    arguments = ["import", str(FILES / "trl_grpo.yaml")]
    result = CliRunner().invoke(app, [*arguments, str(dest), "--devices", "8"])
    assert result.exit_code == 0, result.output
    assert "Kept with the same meaning" in result.output
    assert check_recipe(str(dest)).ok
    assert from_yaml(dest.read_text()).stages["train"].budget.prompts_per_step == 32
    assert CliRunner().invoke(app, [*arguments, str(dest)]).exit_code == 1
    assert '"verdict": "same"' in CliRunner().invoke(app, [*arguments, "--format", "json"]).output


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("a.yaml", "a: 1\nb: 2\n", "RC911"),
        ("a.yaml", "", "RC910"),
        ("a.yaml", "model_name_or_path: org/m\nbeta: 0.1\ndataset_name: [org/d\nmax_length: 64\n", "RC910"),
        ("a.sh", "echo hello\n", "RC910"),
        ("a.toml", "= nothing", "RC910"),
        ("a.yaml", "recipec: 1\nname: a\nstages: {}\n", "RC911"),
    ],
)
def test_what_is_no_configuration_is_refused(name, text, code):
    """A file of no known tool gives one error."""
    with pytest.raises(RecipeError) as raised:
        import_recipe(name, text)
    assert [d.code for d in raised.value.diagnostics] == [code]


def test_an_unknown_trainer_is_refused():
    """`--trainer` names one of the tool's."""
    with pytest.raises(RecipeError) as raised:
        import_recipe("a.yaml", (FILES / "trl_sft.yaml").read_text(), trainer="grp")
    assert raised.value.diagnostics[0].code == "RC912"


@pytest.mark.parametrize(
    ("script", "value"),
    [
        ("A=1\npython t.py x.y=$A", "1"),
        ("python t.py x.y=${A:-2}", "2"),
        ("A=${1:-3}\npython t.py x.y=$A", "3"),
        ("A=4; B=$((A * 2 + 1))\npython t.py x.y=${B}", "9"),
        (': "${A:=5}"\npython t.py x.y="$A"', "5"),
        ("A='a b'\npython t.py x.y=\"$A\"", "a b"),
        ("python t.py x.y='$A'", "$A"),
        ('A=(x.y=6 x.z=1)\npython t.py "${A[@]}"', "6"),
        ("A=x\nA=$A-z\npython t.py x.y=$A", "x-z"),
        ("python t.py \\\n  x.y=7 \\\n  x.z=8", "7"),
        ("read -r -d '' C <<EOF\nt.py x.y=8\nEOF\npython $C", "8"),
        ("python t.py x.y=$(hostname)", "$(hostname)"),
        ("python t.py x.y=$A", "$A"),
        ("B=$B$B$B\nB=$B$B$B\npython t.py x.y=${C:+1}2", "2"),
    ],
)  # fmt: skip
def test_variables_of_a_script_are_resolved_and_nothing_runs(script, value):
    """Assignments, defaults, arithmetic, arrays and documents are read; what only a shell knows stays as it is."""
    found = {a.name: a for command in read_script(script).commands for a in command.arguments}
    assert found["x.y"].value == value
    assert bool(found["x.y"].unresolved) == (value.startswith("$") and "'" not in script)


@pytest.mark.parametrize(
    "script",
    [
        "A=xxxxxxxxxxxxxxxx\n" + "A=$A$A\n" * 60 + "python t.py x.y=$A",
        "python t.py x.y=" + "${A:-" * 5000,
        "A=(" + "a " * 5000 + ")\npython t.py x.y=1 " + '"${A[@]}" ' * 200,
        "python t.py x.y=$((" + "(" * 3000 + "))",
        "python t.py x.y=" + "$(" * 3000,
        "(" * 20000,
    ],
)
def test_a_script_cannot_grow_without_bound(script):
    """Variables that double, references without end and open brackets are read in bounded time and space."""
    for argument in [a for command in read_script(script).commands for a in command.arguments]:
        assert len(argument.value) <= 2 * 65536
