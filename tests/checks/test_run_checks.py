"""Checks as one: planted faults are found one by one, what is broken does not cascade, what is allowed is silent."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, strategies as st

from recipec import component as components
from recipec.checks import run_checks
from recipec.checks.run_checks import check_all
from recipec.component import Component, SignalRef, component, param
from recipec.diagnostics.model import Diagnostic, checks_of
from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source
from recipec.reading.recipe import read_recipe
from recipec.spec.advantage import Advantage
from recipec.spec.sampler import Chain, Sampler

GOOD = """\
recipec: 1
name: planted
stages:
  imitate:
    kind: sft
    from: org/model
    data: {path: answers.jsonl, max_length: 512}
    optimizer: {learning_rate: 1.0e-5, schedule: cosine}
    budget: {steps: 10, rows_per_step: 8, save_every: 5}
  explore:
    kind: rl
    from: imitate
    data: {path: tasks.jsonl, max_length: 512}
    sampler: {num_generations: 8, temperature: 1.0, top_p: 1.0, max_completion_length: 256}
    reward:
      right: {type: exact_match, correct: 1.0}
      long: {type: length, max_length: 256, soft: 64}
    advantage: {group: {type: group_relative, group: by_prompt_R}}
    loss: {type: clipped, epsilon: 0.2, epsilon_high: 0.28, kl: k3, beta: 0.01, aggregate: token_mean}
    reference: {type: frozen}
    optimizer: {learning_rate: 1.0e-6, warmup_updates: 2}
    budget: {steps: 10, prompts_per_step: 8, prompts_per_update: 4}
  align:
    kind: dpo
    from: explore
    preference: {type: best_vs_worst, rollouts: explore.rollouts}
    loss: {beta: 0.1, variant: sigmoid}
    optimizer: {learning_rate: 1.0e-6}
    budget: {steps: 10, pairs_per_step: 8}
evaluate:
  dev: {data: {path: dev.jsonl}, every: 5, sampler: {num_generations: 4, temperature: 0.7}, metrics: [pass@4]}
"""
FAULTS = (
    ("imitate.budget", "save_every: 5", "save_every: 50", "RC322"),
    ("imitate.optimizer", "schedule: cosine", "schedule: cosin", "RC132"),
    ("explore.from", "from: imitate", "from: imitat", "RC301"),
    ("explore.sampler", "top_p: 1.0", "top_p: 0.9", "RC405"),
    ("explore.reward.right", "correct: 1.0", "correct: 0.0", "RC411"),
    ("explore.reward.right", "exact_match, correct: 1.0", "math_verify, correct: 0.0", "RC411"),
    ("explore.reward.long", "max_length: 256, soft", "max_length: 300, soft", "RC413"),
    ("explore.advantage", "group: by_prompt_R", "group: by_tree_R", "RC204"),
    ("explore.loss.clip", "epsilon_high: 0.28", "epsilon_high: 0.1", "RC421"),
    ("explore.loss.kl", "kl: k3", "kl: k1", "RC422"),
    ("explore.loss.mean", "aggregate: token_mean", "aggregate: fixed", "RC423"),
    ("explore.reference", "{type: frozen}", "{type: frozn}", "RC131"),
    ("explore.optimizer", "warmup_updates: 2", "warmup_updates: 200", "RC441"),
    ("explore.budget", "prompts_per_update: 4", "prompts_per_update: 3", "RC320"),
    ("align.preference", "explore.rollouts", "imitate.rollouts", "RC207"),
    ("align.loss", "variant: sigmoid", "variant: ipo", "RC426"),
    ("align.loss", "beta: 0.1,", "betta: 0.1,", "RC130"),
    ("evaluate.every", "every: 5,", "every: 50,", "RC323"),
    ("evaluate.metrics", "pass@4", "pass@8", "RC324"),
)
"""Where, a text of the good recipe, what it is replaced by, and the one code of it.

Faults of one place are not independent: a component that cannot be read is not checked further.
"""
Fault = tuple[str, str, str, str]


def diagnose(text: str) -> list[Diagnostic]:
    """Run the front end over a text."""
    resolved = resolve(read_source("recipe.yaml", text))
    reading = read_recipe(resolved)
    return [*resolved.diagnostics, *reading.diagnostics, *check_all(reading)]


def planted(errors: list[Fault]) -> str:
    """Plant faults into the good recipe."""
    text = GOOD
    for _, good, bad, _ in errors:
        assert text.count(good) == 1, good
        text = text.replace(good, bad)
    return text


def test_the_good_recipe_is_good() -> None:
    """Nothing is wrong with the recipe that faults are planted in."""
    assert diagnose(GOOD) == []


@given(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=6, unique_by=lambda fault: fault[0]))
def test_as_many_diagnostics_as_faults(errors: list[Fault]) -> None:
    """Up to six independent faults give exactly their own codes: none hides another, none causes one."""
    found = diagnose(planted(errors))
    assert Counter(d.code for d in found) == Counter(code for *_, code in errors)


def test_diagnostics_point_into_the_text() -> None:
    """Every diagnostic of every fault has a place in the text, and a path that begins where a recipe does."""
    lines = GOOD.count("\n")
    for fault in FAULTS:
        for found in diagnose(planted([fault])):
            assert 1 <= found.spans[0].line <= lines
            assert found.path.split(".")[0] in {"stages", "evaluate"}


@pytest.mark.parametrize("slot", ["sampler", "loss", "reward", "advantage", "policy", "data", "reference"])
def test_a_broken_component_breaks_nothing_else(slot: str) -> None:
    """A component whose type is unknown counts for what its slot could provide."""
    changed = {
        "sampler": ("sampler: {num_generations: 8", "sampler: {type: chian, num_generations: 8"),
        "loss": ("type: clipped", "type: cliped"),
        "reward": ("type: exact_match", "type: exact_mach"),
        "advantage": ("type: group_relative", "type: group_relativ"),
        "policy": ("    kind: sft\n", "    kind: sft\n    policy: {type: causal}\n"),
        "data": ("data: {path: tasks", "data: {type: fil, path: tasks"),
        "reference": ("type: frozen", "type: frozn"),
    }
    assert [d.code for d in diagnose(planted([("", *changed[slot], "RC131")]))] == ["RC131"]


def test_a_reference_to_nothing_is_said_once() -> None:
    """A value whose reference leads nowhere is not judged as if it were the text that was written."""
    assert [d.code for d in diagnose(GOOD.replace("from: imitate", 'from: "${vars.nope}"'))] == ["RC127"]


def test_a_text_that_breaks_off_is_not_held_against_its_rest() -> None:
    """Where reading stops, what stands below is not missed: neither stages that others name nor what they need."""
    lines = GOOD.split("\n")
    for end in range(5, len(lines) - 1):
        found = diagnose("\n".join(lines[:end]) + "\n  ]broken: [\n")
        assert [d.code for d in found] == ["RC105"], end


def test_allowed_warnings_are_silent_in_their_own_stage() -> None:
    """What one stage allows another does not; an error cannot be allowed."""
    allowed = "    allow: {RC405: 'published so'}\n"
    text = planted([FAULTS[3], FAULTS[0]]).replace("    kind: rl\n", f"    kind: rl\n{allowed}")
    assert [d.code for d in diagnose(text)] == ["RC322"]
    moved = planted([FAULTS[3]]).replace("    kind: sft\n", f"    kind: sft\n{allowed}")
    assert sorted(d.code for d in diagnose(moved)) == ["RC332", "RC405"]


def test_a_fragment_is_held_against_itself() -> None:
    """A fragment is not asked for what others must bring, but for what it says."""
    good = "recipec: 1\nloss: {type: clipped, epsilon: 0.2}\nsampler: {num_generations: 16}\n"
    assert diagnose(good) == []
    assert [d.code for d in diagnose(good.replace("0.2}", "0.2, dual_clip: 1.1}"))] == ["RC420"]


def test_every_check_runs() -> None:
    """Every module with a check is in the families that are run, and each check in it is run."""
    families = (run_checks.WIRING, run_checks.STAGES, run_checks.NUMERICS, run_checks.MACHINE, run_checks.TRUST)
    named = read_recipe(resolve(read_source("r.yaml", GOOD + "machine: {accelerator: h100}\n")))
    modules = [module for family in (*families, run_checks.planned(named)) for module in family]
    listed = {one.__name__ for module in modules for one in checks_of(module)}
    owned = {name for path in Path(run_checks.__file__).parent.glob("*.py") for name in _checks(path)}
    assert owned == listed
    assert len(listed) >= 35


def _checks(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            named = [d.func.id for d in node.decorator_list if isinstance(d, ast.Call) and isinstance(d.func, ast.Name)]
            if "check" in named:
                yield node.name


@pytest.fixture
def plug_in() -> Iterator[Callable[..., Any]]:
    """Register components for one test."""
    components.components_of("advantage")
    before = dict(components._REGISTRY["advantage"])
    yield component
    components._REGISTRY["advantage"].clear()
    components._REGISTRY["advantage"].update(before)


def test_credit_of_tokens_with_a_ratio_of_rows(plug_in: Callable[..., Any]) -> None:
    """A plug-in that gives credit to each token is warned of under a ratio of whole rows, not of tokens."""

    @plug_in("advantage", requires=("reward_R",), provides=("advantage_RT",), impl="nowhere:fine")
    class Fine(Advantage):
        """Credit each token."""

        type: Literal["fine"] = "fine"

    fine = GOOD.replace("{type: group_relative, group: by_prompt_R}", "{type: fine}")
    rows = fine.replace("aggregate: token_mean", "aggregate: seq_mean_token_mean, ratio: sequence")
    assert [d.code for d in diagnose(rows)] == ["RC407"]
    assert diagnose(fine) == []


def test_a_component_without_an_implementation(plug_in: Callable[..., Any]) -> None:
    """A plug-in that is declared and leaves the work to its next version is refused with those that do it."""

    @plug_in("advantage", requires=("reward_R",), provides=("advantage_RT",))
    class Later(Advantage):
        """Credit rows some day."""

        type: Literal["later"] = "later"

    (found,) = diagnose(GOOD.replace("{type: group_relative, group: by_prompt_R}", "{type: later}"))
    assert (found.code, "`group_relative`" in (found.help or "")) == ("RC501", True)


def test_a_plug_in_that_compares_groups_of_one(plug_in: Callable[..., Any]) -> None:
    """A level of a plug-in is warned of groups of one, and refused where it says that such a row is worth nothing."""

    @plug_in("advantage", requires=("value_R", "group_R"), provides=("advantage_R",), impl="nowhere:ranked")
    class Ranked(Advantage):
        """Credit each row with its rank."""

        type: Literal["ranked"] = "ranked"
        group: SignalRef = param("by_prompt_R", "Rows that are compared.")

    @plug_in("advantage", requires=("value_R", "group_R"), provides=("advantage_R",), impl="nowhere:ranked")
    class Centred(Advantage):
        """Credit each row with its distance from the group's middle."""

        type: Literal["centred"] = "centred"
        group: SignalRef = param("by_prompt_R", "Rows that are compared.")

        @property
        def alone(self) -> Literal["zero"]:
            """Nothing: a row alone is the middle."""
            return "zero"

    single = GOOD.replace("num_generations: 8", "num_generations: 1")
    for name, code in (("ranked", "RC401"), ("centred", "RC402")):
        level = f"{{type: {name}, group: by_prompt_R}}"
        assert diagnose(GOOD.replace("{type: group_relative, group: by_prompt_R}", level)) == []
        assert [d.code for d in diagnose(single.replace("{type: group_relative, group: by_prompt_R}", level))] == [code]


def test_a_class_that_cannot_fill_its_slot_is_refused(plug_in: Callable[..., Any]) -> None:
    """A component must subclass the base class of its slot, and answer what nobody else can."""

    class Loose(Component):
        """Credit rows."""

        type: Literal["loose"] = "loose"

    class Unsized(Sampler):
        """Sample some rows."""

        type: Literal["unsized"] = "unsized"

    with pytest.raises(TypeError, match=r"must subclass the base class of its slot, in `recipec.spec.advantage`"):
        plug_in("advantage", impl="nowhere:loose")(Loose)
    with pytest.raises(TypeError, match="does not define `rows_per_prompt`"):
        plug_in("sampler", impl="nowhere:unsized")(Unsized)


def test_a_sampler_that_knows_no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncated rows cannot be left out where the sampler does not say which they are."""
    monkeypatch.setattr(Chain, "_provides", tuple(s for s in Chain._provides if s != "truncated_R"))
    text = GOOD.replace("num_generations: 8,", "num_generations: 8, truncated: drop,")
    reading = read_recipe(resolve(read_source("a.yaml", text=text)))
    assert {d.code for d in check_all(reading)} == {"RC439"}


@pytest.mark.parametrize("left", ["{}", "{reward: {label: {type: exact_match}}}", "{metrics: [margin]}"])
def test_a_fragment_may_leave_an_evaluation_open(left: str) -> None:
    """No check asks an evaluation without data what its data is."""
    resolved = resolve(read_source("fragment.yaml", text=f"recipec: 1\nevaluate: {{dev: {left}}}\n"))
    check_all(read_recipe(resolved))


FOLLOWERS = {
    "RC303": ("    from: imitate\n", "    from: imitate\n    adapters: merge\n", "policy: {lora: {r: 8}}"),
    "RC304": ("    from: imitate\n", "    from: imitate\n    adapter: merge\n", "lora: {r: 8}"),
    "RC331": ("{type: exact_match, correct: 1.0}", "{type: functon, name: score}", ""),
}


@pytest.mark.parametrize("code", FOLLOWERS)
def test_what_follows_from_an_unreadable_key_is_not_reported(code):
    """A misspelt key has one message; what its absence would cause is reported once the key is right."""
    before, after, first = FOLLOWERS[code]
    name = "name: planted\nuse: [./rewards.py]" if code == "RC331" else "name: planted"
    text = GOOD.replace(before, after).replace("name: planted", name)
    text = text.replace("    kind: sft\n", f"    kind: sft\n    {first}\n")
    reading = read_recipe(resolve(read_source("r.yaml", text)))
    assert reading.diagnostics
    assert code not in {found.code for found in check_all(reading)}
