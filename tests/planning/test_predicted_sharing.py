"""What a plan says of prefixes: the published figures, the choice of attention, and what it cannot know."""

import json
from dataclasses import replace
from typing import Any

import pytest
from support.built_recipes import dpo, part, recipe, rl, scratch, sft, three

from recipec.graph import Graph
from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.planning.model_shapes import Shape, known_shape, scratch_shape
from recipec.planning.plan import StagePlan, plan
from recipec.planning.plan_text import render_plan
from recipec.planning.sharing import Sharing, Update, form, measure_sharing
from recipec.planning.stage_workload import StageWorkload
from recipec.planning.step_sizes import lengths
from recipec.planning.token_runs import Counts, Episode, Group, append_only, total
from recipec.spec.machine import Machine
from recipec.spec.recipe import Budget, Recipe

SMALL = scratch_shape({"hidden_size": 32, "layers": 2, "heads": 2})
QWEN = known_shape("Qwen/Qwen2.5-1.5B")
assert SMALL is not None
assert QWEN is not None
BF16 = {"policy": part("policy", "causal_lm", dtype="bfloat16")}


def planned(built: Recipe, shape: Shape | None = QWEN) -> StagePlan:
    """The plan of the last stage."""
    return plan(compiled(built), dict.fromkeys(built.stages, shape)).stages[-1]


def compiled(built: Recipe) -> Graph:
    """Compiled."""
    return optimise(lower(built))


def shared(built: Recipe, shape: Shape | None = QWEN) -> Sharing:
    """What its last stage shares."""
    found = planned(built, shape).sharing
    assert found is not None
    return found


def group(prompt: int, answer: int, size: int, **more: Any) -> Recipe:
    """A stage of one group a step."""
    sampler = part("sampler", "chain", num_generations=size, max_completion_length=answer)
    data = part("data", "file", path="a.jsonl", max_length=prompt)
    budget = Budget(steps=5, prompts_per_step=1, microbatch_tokens=1 << 20)
    return recipe(a=rl(**{"data": data, "sampler": sampler, "budget": budget, **BF16, **more}))


@pytest.mark.parametrize(
    ("prompt", "answer", "size", "ideal"),
    [(2048, 512, 8, 2.99), (2048, 2048, 8, 1.61), (4096, 512, 8, 4.03), (4096, 512, 16, 5.15), (8192, 512, 16, 7.28)],
)
def test_groups_gain_as_computed_before(prompt: int, answer: int, size: int, ideal: float) -> None:
    """The ideal of a group on Qwen2.5-1.5B is that of the table of goals, whose head computes its logits once less."""
    found = shared(group(prompt, answer, size))
    (update,) = found.forms[0].phases
    assert update.ideal == pytest.approx(ideal, rel=0.05)
    assert found.forms[0].token_ratio == pytest.approx(size * (prompt + answer) / (prompt + size * answer))
    assert found.forms[0] == replace(found.forms[1], attention="trie")


@pytest.mark.parametrize(("prompt", "answer", "ideal"), [(512, 512, 1.31), (1024, 512, 1.47), (4096, 512, 1.78)])
def test_pairs_gain_as_computed_before(prompt: int, answer: int, ideal: float) -> None:
    """Two answers of a prompt, as a preference makes them of an earlier stage's rows."""
    pairs = part("preference", "best_vs_worst", rollouts="a.rollouts")
    built = recipe(a=group(prompt, answer, 4).stages["a"], b=dpo("a", data=None, preference=pairs))
    assert shared(built).forms[0].ideal == pytest.approx(ideal, rel=0.05)


def test_pairs_of_files_are_not_guessed() -> None:
    """How a pair divides into prompt and answers is not in the recipe."""
    found = planned(recipe(a=dpo()))
    assert found.sharing is None
    assert any("prefix sharing" in what and "--rows" in what for what in found.unknown)


def test_imitation_shares_nothing() -> None:
    """Rows of examples have prompts of their own: nothing is said."""
    found = planned(recipe(a=sft(policy=scratch())), SMALL)
    assert found.sharing is None
    assert not any("sharing" in what for what in found.unknown)


def test_unknown_prompts_are_said() -> None:
    """Without a bound of prompts no saving is made up."""
    found = planned(recipe(a=rl(data=part("data", "file", path="a.jsonl"))))
    assert found.sharing is None
    assert any("`data.max_length`" in what for what in found.unknown)


def test_long_answers_are_packed() -> None:
    """Where the ideal is below the worth of a tree, the compiler says so and chooses packed."""
    found = shared(group(200, 8192, 8))
    assert found.forms[0].ideal == pytest.approx(1.015, abs=0.01)
    assert (found.best, found.why) == ("packed", f"ideal {found.forms[0].ideal:.2f}x: packed")
    assert found.why in render_plan(plan(compiled(group(200, 8192, 8)), {"a": QWEN}))


def test_auto_takes_what_is_predicted() -> None:
    """The choice is told, and `auto` runs it; another attention stays what the recipe says."""
    found = shared(group(4096, 512, 8))
    assert (found.asked, found.runs, found.best, found.fixed) == ("auto", "trie", "trie", True)
    text = render_plan(plan(compiled(group(4096, 512, 8)), {"a": QWEN}))
    assert f"attention       {found.why}\n" in text
    said = shared(group(4096, 512, 8, attention=part("attention", "dense")))
    assert (said.asked, said.runs) == ("dense", "dense")


def test_a_model_of_unknown_sizes_leaves_the_choice_to_the_rows() -> None:
    """Without sizes there are tokens to compare, and no operations: the first rows decide."""
    (stage,) = plan(compiled(group(4096, 512, 8)), {"a": None}).stages
    assert stage.sharing is not None
    assert not stage.sharing.fixed


def test_dropout_forbids_sharing() -> None:
    """A policy that drops out cannot share, whatever the lengths."""
    lora = part("policy", "causal_lm", lora={"r": 2, "dropout": 0.1})
    assert shared(group(4096, 512, 8, policy=lora)).best == "packed"


def test_every_phase_is_told() -> None:
    """Reference, old and update, the last with its backward; the step by the share of generation."""
    loss = part("loss", "clipped", beta=0.1)
    budget = Budget(steps=5, prompts_per_step=2, passes=2, microbatch_tokens=1 << 20)
    found = shared(group(4096, 512, 8, loss=loss, budget=budget))
    trie = found.forms[0]
    assert [saving.phase for saving in trie.phases] == ["reference", "old", "update"]
    assert [saving.backward is None for saving in trie.phases] == [True, True, False]
    assert found.generation is not None
    assert found.step == pytest.approx(1 / (found.generation + (1 - found.generation) / trie.ideal))
    assert found.generation_of == "operations"


def test_without_sizes_tokens_are_still_counted() -> None:
    """The ratio of tokens needs no model; operations do."""
    found = shared(group(4096, 512, 8), None)
    assert found.forms[0].token_ratio == pytest.approx(4.5)
    assert (found.forms[0].ideal, found.forms[0].phases, found.step) == (None, (), None)


def agents(history: Any = "append_only", **budget: Any) -> Recipe:
    """Games of ten turns, eight of a task, a row a turn."""
    world = part("environment", "alfworld", max_turns=10, history=history)
    sampler = part(
        "sampler", "chain", num_generations=8, rows="step", max_completion_length=64, max_context_length=2048
    )
    made = Budget(steps=5, prompts_per_step=8, **{"microbatch_tokens": 1 << 20, **budget})
    tasks = part("data", "environment", max_length=256)
    rewards = {"won": part("reward", "environment")}
    return recipe(a=rl(environment=world, sampler=sampler, data=tasks, reward=rewards, budget=made))


def test_windows_share_little_and_appended_turns_much() -> None:
    """The same games: a window is packed, a conversation goes as a trie; the two-level form gains little on either."""
    window, appended = shared(agents(2)), shared(agents())
    assert window.best == "packed"
    assert any("--rows" in said for said in window.assumes)
    assert appended.best == "trie"
    trie, two = appended.forms
    assert trie.token_ratio > 5
    assert 1 <= two.token_ratio < 1.2


def test_calls_of_tools_continue_the_conversation() -> None:
    """An environment without a window appends its answers: what all calls of a turn may return is a part of a row."""
    world = part("environment", "tool_use", functions=("add",), max_turns=3, max_calls=2, max_observation_length=50)
    built = group(100, 20, 8, environment=world)
    size = lengths(compiled(built).stages[0])
    assert (size.prompt, size.completion, size.observed) == (100, 3 * 20, 2 * 2 * 50)
    found = shared(built)
    assert found.tokens == 8 * (100 + 3 * 20 + 2 * 100)
    assert found.assumes == ()


def test_shuffled_rows_cost_what_they_lose() -> None:
    """Passes without a gradient see the whole step; updates drawn from all rows compute prefixes again."""
    whole = shared(agents(rows_per_update=32, passes=2))
    dealt = shared(agents(rows_per_update=32, passes=2, shuffle_rows=True))
    old, update = dealt.forms[0].phases
    assert old.ideal == pytest.approx(whole.forms[0].phases[0].ideal)
    assert update.ideal < 0.5 * whole.forms[0].phases[1].ideal
    assert dealt.unshuffled == pytest.approx(whole.forms[0].phases[1].ideal)
    assert whole.unshuffled is None
    assert "if groups stayed together" in render_plan(
        plan(compiled(agents(rows_per_update=32, shuffle_rows=True)), {"a": QWEN})
    )


@pytest.mark.parametrize(("machine", "prompts"), [({}, 1), ({"exactness": "exact"}, 2), ({"devices": 2}, 1)])
def test_a_group_over_a_forward_pass_hands_its_prompt_over(machine: dict[str, Any], prompts: int) -> None:
    """Eight answers in two passes: one prompt, or two if results must have the same bits on several devices."""
    built = group(4096, 512, 8, budget=Budget(steps=5, prompts_per_step=1, microbatch_tokens=5000))
    built = built.model_copy(update={"machine": built.machine.model_copy(update=machine)})
    assert shared(built).forms[0].unique == prompts * 4096 + 8 * 512


def test_json_has_it_all() -> None:
    """The plan's JSON carries the ratio, the ideals and the choice."""
    made = plan(compiled(group(4096, 512, 8)), {"a": QWEN})
    found = json.loads(made.to_json())["stages"][0]["sharing"]
    assert {"tokens", "forms", "asked", "runs", "best", "reason", "generation", "step"} <= found.keys()
    assert found["forms"][0]["attention"] == "trie"
    assert found["forms"][0]["phases"][0]["phase"] == "update"


def test_what_is_measured_is_what_was_counted() -> None:
    """Counts of two updates of one step, of which the remainder leaves one: ratios over what is trained."""
    stage = compiled(group(16, 8, 4)).stages[0]
    one = {"rows": 4, "dense": [92, 1104, 32], "prefixes": [44, 900, 32], "prompts": [50, 950, 32], "padded": 100,
           "passes": 1, "lost": 0}  # fmt: skip
    twice = {name: [2 * v for v in value] if isinstance(value, list) else 2 * value for name, value in one.items()}
    work = StageWorkload(stage, SMALL, lengths(stage))
    found = measure_sharing(stage, [{"step": 3, **twice, "updates": [one], "kept": [40, 800, 32]}], work)
    assert (found.rows, found.steps, found.passes, found.lost) == (8, 1, 2, 0)
    assert found.sharing.forms[0].token_ratio == pytest.approx(92 / 44)
    assert found.updates == (Update(3, 0, 4, 92, 44, 92 / 44, pytest.approx(found.sharing.forms[0].phases[-1].ideal)),)
    assert found.sharing.unshuffled is not None


def test_ideals_are_ratios_of_operations() -> None:
    """With tokens, pairs and logits cut alike, every phase is as much faster."""
    train = part("train_engine", "local", gradient_checkpointing=True)
    stage = compiled(group(16, 8, 4).model_copy(update={"machine": Machine(train=train)})).stages[0]
    work = StageWorkload(stage, SMALL, lengths(stage))
    found = form("trie", Counts(90, 900, 9), Counts(30, 300, 3), Counts(45, 450, 4.5), work)
    assert [saving.ideal for saving in found.phases] == [pytest.approx(2)]
    assert found.ideal == pytest.approx(2)


def test_three_stages_are_planned() -> None:
    """Stages of every kind stand beside each other."""
    made = plan(compiled(three()), dict.fromkeys(three().stages, SMALL))
    assert [stage.sharing is not None for stage in made.stages] == [False, True, True]
    pair = total(s.once() for s in append_only(Group(2), Episode(32, 1, 16), steps=False))
    assert made.stages[2].sharing.forms[0].unique == 4 * pair.tokens


def test_phases_count_what_is_computed() -> None:
    """Tokens and operations of each phase are those of the attention that runs: unique ones under a tree."""
    loss = part("loss", "clipped", beta=0.1)
    by = {
        kind: planned(group(4096, 512, 8, loss=loss, attention=part("attention", kind))) for kind in ("trie", "packed")
    }
    auto = planned(group(4096, 512, 8, loss=loss))
    assert auto.phases == by["trie"].phases
    phases = {kind: {phase.name: phase for phase in made.phases} for kind, made in by.items()}
    ideal = {saving.phase: saving.ideal for saving in shared(group(4096, 512, 8, loss=loss)).forms[0].phases}
    for name in ("reference", "update"):
        found, dense = phases["trie"][name], phases["packed"][name]
        assert (found.tokens, dense.tokens) == (4096 + 8 * 512, 8 * (4096 + 512))
        assert dense.flops / found.flops == pytest.approx(ideal[name])
    assert phases["trie"]["sample"] == phases["packed"]["sample"]
    assert "8,192 of 36,864 tokens of rows are unique" in phases["trie"]["update"].assumes
    # how much of a step is generation is said of rows, which is what a saving is multiplied with
    assert by["trie"].sharing.generation == by["packed"].sharing.generation


def test_shuffled_rows_say_what_is_kept() -> None:
    """A group dealt over four updates keeps a part of what sharing saves, in hundredths."""
    budget = Budget(steps=5, prompts_per_step=16, updates_per_step=4, shuffle_rows=True, microbatch_tokens=1 << 20)
    built = group(4096, 512, 8, budget=budget)
    found = shared(built)
    *_, update = found.forms[0].phases
    assert 1 < update.ideal < found.unshuffled
    kept = (1 - 1 / update.ideal) / (1 - 1 / found.unshuffled)
    text = render_plan(plan(compiled(built), {"a": QWEN}))
    assert f"if groups stayed together: {kept:.0%} of what sharing saves is kept" in text
