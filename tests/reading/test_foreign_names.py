"""Names of other tools: what is said of them is right for the section and the kind of stage, and compiles."""

import json
from pathlib import Path

import pytest

from recipec.compile import check_recipe
from recipec.component import component_names
from recipec.reading.field_descriptions import keys_of
from recipec.reading.foreign import converters
from recipec.reading.foreign.advice import for_name, of_recipe
from recipec.reading.foreign.converters import registry
from recipec.reading.foreign.tables import find, tools
from recipec.reading.foreign.values import value_names
from recipec.reading.suggestions import for_key
from recipec.spec.recipe import COMPONENT_SLOTS, Stage
from recipec.yaml_io import from_yaml, text_of

STAGES = {
    "rl": """
    data: {path: a.jsonl, max_length: 128, overlong: drop}
    sampler: {num_generations: 8, max_completion_length: 64}
    reward: {right: {type: exact_match}}
    advantage: {g: {type: group_relative}}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-6}
    budget: {steps: 10, prompts_per_step: 16}
""",
    "sft": """
    policy: {lora: {r: 8}}
    data: {path: a.jsonl}
    optimizer: {learning_rate: 1.0e-6}
    budget: {epochs: 1, rows_per_step: 16}
""",
    "dpo": """
    data: {path: a.jsonl}
    loss: {type: dpo}
    optimizer: {learning_rate: 1.0e-6}
    budget: {epochs: 1, pairs_per_step: 16}
""",
}


def helps(kind, before="", after="", more=""):
    """Messages and helps of a small recipe of one stage, with an edit."""
    text = f"recipec: 1\nname: a\nstages:\n  s:\n    kind: {kind}\n    from: org/model{STAGES[kind]}{more}"
    assert before in text
    found = check_recipe("r.yaml", text=text.replace(before, after, 1) if before else text).diagnostics
    return " ".join(f"{d.code} {d.message}; {d.help}" for d in found)


# what is typed; what must be said; what must not
# ruff: noqa: E501
SAID = {
    "critic": ("rl", "", "", "    critic: {optim: {lr: 1e-5}, model: {path: org/m}}\n", ["critic.optimizer.learning_rate"], ["here it is `optimizer.learning_rate`", "here it is `from`"]),
    "reward model": ("rl", "", "", "    reward_model: {model: {path: org/m}}\n", ["type: model"], ["here it is `from`"]),
    "kind orpo": ("dpo", "kind: dpo", "kind: orpo", "", ["loss: {type: orpo}"], ["is `dpo` here"]),
    "kind cpo": ("dpo", "kind: dpo", "kind: cpo", "", ["loss: {type: cpo}"], ["did you mean"]),
    "loss gvpo": ("rl", "{type: clipped}", "{type: gvpo}", "", ["GVPO compares"], ["did you mean"]),
    "loss gpg": ("rl", "{type: clipped}", "{type: gpg}", "", ["with one update a step"], ["did you mean"]),
    "advantage gpg": ("rl", "{type: group_relative}", "{type: gpg}", "", ["`scale: none`"], ["did you mean"]),
    "kind reward": ("dpo", "kind: dpo", "kind: reward", "", ["kind `rm`"], ["did you mean `rl`"]),
    "variant simpo": ("dpo", "type: dpo", "type: dpo, variant: simpo", "", ["loss: {type: simpo}"], ["did you mean"]),
    "variant kto_pair": ("dpo", "type: dpo", "type: dpo, variant: kto_pair", "", ["another objective"], ["did you mean"]),
    "apo_zero": ("dpo", "type: dpo", "type: apo_zero", "", ["variant: apo_zero"], ["did you mean"]),
    "loss dapo": ("rl", "type: clipped", "type: dapo", "", ["algorithms/dapo"], ["did you mean"]),
    "gae": ("rl", "type: group_relative", "type: gae", "", ["add `critic"], ["did you mean"]),
    "ppo": ("rl", "kind: rl", "kind: ppo", "", ["algorithms/ppo"], ["did you mean"]),
    "luspo": ("rl", "type: clipped", "type: luspo", "", ["aggregate: seq_mean_token_sum"], ["not offered"]),
    "staleness": ("rl", "num_generations: 8", "max_off_policy_steps: 2", "", ["sampler.max_staleness"], ["not offered"]),
    "thinking": ("sft", "learning_rate: 1.0e-6", "enable_thinking: false", "", ["data.chat_template_kwargs.enable_thinking"], []),
    "reinforce++": ("rl", "type: group_relative", "type: reinforce_plus_plus", "", ["`reinforce` here", "reinforce_pp"], ["batch_standardised"]),
    "baseline": ("rl", "type: group_relative", "type: reinforce_plus_plus_baseline", "", ["`group_relative` here"], ["batch_standardised"]),
    "accuracy": ("rl", "type: exact_match", "type: accuracy_reward", "", ["`math_verify` here"], ["`exact_match` here"]),
    "judge": ("rl", "type: exact_match", "type: llm_judge", "", ["`judge` here"], ["did you mean"]),
    "verl's warm-up": ("rl", "learning_rate: 1.0e-6", "lr_warmup_steps: 10", "", ["counts rollouts"], []),
    "warm-up by share": ("sft", "learning_rate: 1.0e-6", "warmup_steps: 0.1", "", ["warmup_ratio: 0.1"], ["warmup_updates: 0.1"]),
    "accumulation in rl": ("rl", "steps: 10", "steps: 10, gradient_accumulation_steps: 4", "", ["prompts_per_step"], ["rows_per_step"]),
    "batch size in rl": ("rl", "steps: 10", "steps: 10, batch_size: 4", "", ["rollouts there"], ["rows_per_step"]),
    "batch size in sft": ("sft", "epochs: 1", "epochs: 1, gradient_accumulation_steps: 4", "", ["rows_per_step"], []),
    "rows of an update": ("rl", "steps: 10", "steps: 10, train_batch_size: 4", "", ["rows_per_update`: completions"], []),
    "env": ("rl", "", "", "    env: {env_name: Webshop, max_steps: 50}\n", ["environment.type: webshop", "environment.max_turns"], ["RC650"]),
    "env variables": ("rl", "", "", "    env: {HF_HOME: /x}\n", ["RC650"], []),
    "8-bit AdamW": ("sft", "optimizer: {learning_rate: 1.0e-6}", "optimizer: adamw_bnb_8bit", "", ["moments: int8"], ["{type: adamw_bnb_8bit}"]),
    "hub as text": ("sft", "data: {path: a.jsonl}", "data: org/name", "", ["data: {hub: org/name}"], []),
    "own key elsewhere": ("rl", "", "", "    temperature: 1.0\n", ["belongs to sampler `chain`"], ["evaluation"]),
    "value is told": ("rl", "type: clipped", "type: clipped, kl_loss_type: low_var_kl", "", ["loss.kl: k3"], []),
    "cosine floor": ("sft", "learning_rate", "schedule: cosine_with_min_lr, learning_rate", "", ["`schedule: cosine` with `min_ratio`"], []),
    "evaluation": ("sft", "", "", "    eval_strategy: steps\n", ["held-out data is named under `evaluate`"], ["data.split"]),
    "saves by steps": ("sft", "", "", "    save_strategy: steps\n", ["counted in steps (`budget.save_every`)"], []),
    "saves are moved": ("sft", "epochs: 1", "epochs: 1, save_steps: 100", "", ["several tools' name; here it is `budget.save_every`"], ["updates; `save_steps`"]),
    "one type": ("rl", "", "", "    bf16: true\n", ["here it is `policy.dtype: bfloat16`", "(SkyRL)"], ["both are; `bf16`"]),
    "a type of the machine": ("rl", "", "", "machine: {dtype: bfloat16}\n", ["for rollouts; of the weights it is `policy: {dtype: …}`"], []),
    "a number of steps": ("sft", "budget: {epochs: 1, rows_per_step: 16}", "budget: 100", "", ["`budget: {steps: 100, rows_per_step: …}`"], ["KEY"]),
    "a learning rate alone": ("sft", "optimizer: {learning_rate: 1.0e-6}", "optimizer: 0.001", "", ["`optimizer: {learning_rate: 0.001}`"], []),
    "steps of an episode": ("sft", "learning_rate: 1.0e-6", "learning_rate: 1.0e-6, max_steps: 5", "", ["budget.steps"], ["environment.max_turns"]),
    "a bound of samples": ("rl", "num_generations: 8", "num_generations: 8, val_kwargs: {top_k: 5}", "", ["`evaluate.NAME.sampler.top_k`"], []),
    "log-probabilities": ("rl", "num_generations: 8", "num_generations: 8, rollout_logprobs: true", "", ["is not needed here"], ["here it is `sampler`"]),
    "another tokenizer": ("sft", "", "", "    tokenizer_name: org/t\n", ["cannot be written here: another tokenizer"], ["here it is `from`"]),
    "whole section": (
        "rl", "", "", ("    actor_rollout_ref: {rollout: {n: 8, top_p: 1, temperature: 1, name: vllm}, model: {path: org/m}, "
        "actor: {clip_ratio: 0.2, ppo_epochs: 1, grad_clip: 1, entropy_coeff: 0.1, strategy: megatron, "
        "optim: {lr: 1e-6, weight_decay: 0.1}}}\n"),
        ["sampler.num_generations", "`machine.rollout.type`", "optimizer.weight_decay", "loss.entropy", "Megatron"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_advice_knows_its_section_and_its_kind(case):
    """What is said of names and values of other tools is right where they stand, and nothing wrong is said."""
    kind, before, after, more, must, never = SAID[case]
    text = helps(kind, before, after, more)
    assert [word for word in must if word not in text] == [], text
    assert [word for word in never if word in text] == [], text


def errors_with(kind, edits):
    """Errors of a small recipe with values at dotted paths."""
    text = f"recipec: 1\nname: a\nstages:\n  s:\n    kind: {kind}\n    from: org/model{STAGES[kind]}"
    data = from_yaml(text).plain()
    for path, value in edits:
        words = path.split(".") if of_recipe(path) else ["stages", "s", *path.split(".")]
        inner = data
        for word in words[:-1]:
            inner = inner.setdefault(word, {})
        inner.setdefault(words[-1], json.loads(value))
    paths = [path if of_recipe(path) else f"stages.s.{path}" for path, _ in edits]
    found = check_recipe("r.yaml", text=text_of(data)).diagnostics
    return [d for d in found if d.is_error and any(f"{d.path}.".startswith(f"{path}.") for path in paths)]


@pytest.mark.parametrize("kind", STAGES)
def test_every_proposed_edit_compiles(kind):
    """Each place that the tables name is proposed in a kind of stage only if the recipe compiles with it."""
    rows = {row.to: row for tool in tools() for row in tool.rows if row.verdict == "kept" and row.kind in {"", kind}}
    wrong, proposed = [], 0
    for row in rows.values():
        word = row.name.removesuffix(".*").split(".")[-1]
        advice = for_name((), (word,), 3, kind)
        if advice is None or advice.proposal is None:
            continue
        said = helps(kind, more=f"    {word}: 3\n")
        if advice.proposal.text in said:
            proposed += 1
            problems = errors_with(kind, advice.proposal.edits)
            wrong += [(word, d.message) for d in problems if advice.proposal.exact or d.code != "RC132"]
    assert wrong == []
    assert proposed > 20


def test_the_tables_are_sound():
    """Converters exist, choices have tables, names are given once for each kind, and components exist."""
    for tool in tools():
        for row in tool.rows:
            how, _, only = row.how.partition(" if ")
            how = (how.split() or ["same"])[0]
            assert how in converters.names(), row
            assert not only or only.split()[0] in registry.conditions(), row
            assert how != "choice" or row.name in tool.choices, row
            assert row.verdict == "kept" or row.note, row
    components = value_names().components
    for slot, names in components.items():
        assert slot in COMPONENT_SLOTS
        for ours in names.values():
            assert not ours or ours in component_names(slot), ours


@pytest.mark.parametrize(
    ("tail", "kind", "to"),
    [
        (("data", "train_batch_size"), "rl", "budget.prompts_per_step"),
        (("rollout", "n"), "rl", "sampler.num_generations"),
        (("lora_r",), "sft", "policy.lora.r"),
        (("kl_loss_coef",), "rl", "loss.beta"),
        (("num_train_epochs",), "dpo", "budget.epochs"),
        (("history_length",), "rl", "environment.history"),
        (("similarity_thresh",), "rl", "grouping.threshold"),
        (("max_epochs",), "sft", "budget.epochs"),
        (("max_epochs",), "rl", "budget.passes"),
    ],
)
def test_the_commonest_names_are_known(tail, kind, to):
    """The names that most users type, by the kind of stage."""
    assert {row.to for row in find((), tail, kind)} == {to}


def test_a_section_of_another_kind_is_never_the_policy():
    """A rate below a critic is the critic's, and a leaf in an unknown section is nobody's."""
    assert for_name((), ("critic", "optim", "lr"), 1e-5, "rl").meant == ("critic.optimizer.learning_rate",)
    assert for_name((), ("my_tool", "optim", "lr"), 1e-5, "rl") is None


@pytest.mark.parametrize(
    ("more", "secret"),
    [
        ("sampler: {stop: ['<|im_end|>']}\n", False),
        ("eos_token: '<|im_end|>'\n", False),
        ("pad_token: '<|end_of_text|>'\n", False),
        ("hub_token: abc\n", True),
        ("token: 'a8f3b2c9d1e4f5a6b7c8d9e0f1'\n", True),
        ("api_key: x\n", True),
    ],
)
def test_secrets_are_known_by_names_and_forms_of_secrets(more, secret):
    """Tokens of a vocabulary are none."""
    text = f"recipec: 1\nname: a\nvars: {{{more.strip()}}}\nstages: {{}}\n"
    assert any(d.code == "RC651" for d in check_recipe("r.yaml", text=text).diagnostics) == secret


LISTS = Path(__file__).parents[2] / "benchmarks" / "names"


@pytest.mark.parametrize("name", ["trl.rl", "trl.sft", "trl.dpo", "verl.rl", "openrlhf.rl", "skyrl.rl", "prime_rl.sft"])
def test_names_of_whole_tools_are_answered_and_never_with_another_key(name):
    """Four of five names of a tool get help, and where it is a key, it is the one of the tool's table."""
    slug, kind = name.split(".")
    tool = next(tool for tool in tools() if tool.slug == slug)
    names = [word for word in (LISTS / f"{name}.txt").read_text().split() if word not in keys_of(Stage)]
    answered = 0
    for word in names:
        first, *rest = word.split(".")
        value = 3
        for part in reversed(rest):
            value = {part: value}
        found = for_key(first, value, ("stages", "s"), keys_of(Stage), {}, kind)
        answered += bool(found.text) and not found.text.startswith("did you mean")
        row = tool.row(word, kind)
        if row is not None and row.verdict == "kept" and row.to:
            assert row.to.split(".")[-1] in found.text, (word, row.to, found.text)
    assert answered >= 0.8 * len(names), (answered, len(names))


def test_the_benchmark_of_names_counts_what_is_answered(monkeypatch):
    """It types names as `validate` reads them: a name with a key here, one without, one that is not needed."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import foreign_names

    typed = ("rollout.n", "algorithm.use_pf_ppo", "trainer.logger", "zzyzx")
    assert [foreign_names.verdict(name, "rl") for name in typed] == ["named", "missing", "unneeded", "no help"]
