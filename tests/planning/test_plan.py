"""What a plan says: costs by counting, what runs and for which key, and what it does not know."""

import json
import math
from dataclasses import replace

import pytest
from support.built_recipes import dpo, part, recipe, rl, scratch, sft, three

from recipec.graph import Graph
from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.planning.cost import backward, operations, phases
from recipec.planning.memory import disk, memory
from recipec.planning.model_shapes import known_shape, scratch_shape
from recipec.planning.plan import Plan, Previous, plan
from recipec.planning.plan_text import render_plan
from recipec.planning.stage_workload import LOGITS, StageWorkload
from recipec.planning.step_sizes import lengths
from recipec.planning.token_runs import Counts
from recipec.spec.machine import Machine
from recipec.spec.recipe import Budget, Recipe

SHAPE = scratch_shape({"hidden_size": 32, "layers": 2, "heads": 2})
QWEN = known_shape("Qwen/Qwen2.5-1.5B")
assert SHAPE is not None
assert QWEN is not None


def graph(built: Recipe) -> Graph:
    """Compiled."""
    return optimise(lower(built))


def planned(built: Recipe, previous: Previous | None = None, **more: object) -> Plan:
    """The plan of a recipe with a small model everywhere."""
    return plan(graph(built), dict.fromkeys(built.stages, SHAPE), previous, **more)


def on(built: Recipe, **more: object) -> Recipe:
    """A recipe on a machine."""
    return built.model_copy(update={"machine": Machine(**more)})


def work(built: Recipe, shape=SHAPE, **more: object) -> StageWorkload:
    """One stage with its sizes."""
    stage = graph(built).stages[0]
    return StageWorkload(stage, shape, lengths(stage), **more)


def test_forward_counts_pairs() -> None:
    """Matrices cost by tokens, attention by pairs, the head by written tokens."""
    tasks = part("data", "reasoning_gym", task="chain_sum", size=10, max_length=5)
    sampler = part("sampler", "chain", num_generations=3, max_completion_length=2)
    counts = work(recipe(a=rl(data=tasks, sampler=sampler))).trained_rows()
    rows = 2 * 3
    assert counts == Counts(rows * 7, rows * sum(range(1, 8)), rows * 2)
    assert operations(SHAPE, counts, 1, 0, 0) == 2 * SHAPE.linear * rows * 7
    assert operations(SHAPE, counts, 0, 1, 0) == 4 * 2 * 16 * 2 * rows * sum(range(1, 8))
    assert operations(SHAPE, counts, 0, 0, 1) == 2 * 32 * SHAPE.vocabulary * rows * 2


def test_logits_are_counted_again_where_they_are_in_chunks() -> None:
    """A backward pass multiplies the head by 2, by 1 under an adapter; one more where logits do not fit in a chunk."""
    assert SHAPE is not None
    few, many = Counts(0, 0, 100.0), Counts(0, 0, 1.0 + LOGITS // SHAPE.vocabulary)
    full, adapter = work(recipe(a=rl())), work(recipe(a=rl(policy=part("policy", "causal_lm", lora={"r": 2}))))
    for counts, again in ((few, 0), (many, 1)):
        head = operations(SHAPE, counts)
        assert backward(full, counts) == (2 + again) * head
        assert backward(adapter, counts) == (1 + again) * head


def test_sampling_counts_pairs() -> None:
    """A group's prompt is computed once, and each written token attends to all before it."""
    sample = next(phase for phase in phases(work(recipe(a=rl()))) if phase.name == "sample")
    prompts, rows, prompt, written = 2, 8, 32, 16
    tokens = prompts * prompt + rows * written
    pairs = prompts * sum(range(1, prompt + 1)) + rows * sum(range(prompt + 1, prompt + written + 1))
    head = 2 * 32 * SHAPE.vocabulary * rows * written
    assert sample.tokens == tokens
    assert sample.flops == 2 * SHAPE.linear * tokens + 4 * 32 * 2 * pairs + head


def test_phases_follow_the_graph() -> None:
    """What the compiler left out is not among the phases; what stays is."""
    assert [p.name for p in phases(work(recipe(a=rl())))] == ["sample", "reward", "update"]
    loss, budget = part("loss", "clipped", beta=0.1), Budget(steps=5, prompts_per_step=2, passes=2)
    names = [p.name for p in phases(work(recipe(a=rl(loss=loss, budget=budget))))]
    assert names == ["sample", "reward", "reference", "old", "update"]


def test_passes_multiply() -> None:
    """Two passes over the rows are twice the update."""
    once, twice = (
        list(phases(work(recipe(a=rl(budget=Budget(steps=5, prompts_per_step=2, passes=n))))))[-1] for n in (1, 2)
    )
    assert twice.flops == 2 * once.flops


def test_adapter_costs_less() -> None:
    """A frozen matrix needs no gradient of its own, and the optimizer holds the adapter alone."""
    full, adapter = work(recipe(a=rl())), work(recipe(a=rl(policy=part("policy", "causal_lm", lora={"r": 2}))))
    assert list(phases(adapter))[-1].flops < list(phases(full))[-1].flops
    held = {one.name: one.bytes for one in memory(adapter)}
    assert held["optimizer"] == 8 * SHAPE.adapter(2)


def test_checkpointing_trades() -> None:
    """Checkpointing computes more and holds less."""
    built = recipe(a=rl())
    plain, again = (
        work(on(built, train=part("train_engine", "local", gradient_checkpointing=c))) for c in (False, True)
    )
    assert list(phases(again))[-1].flops > list(phases(plain))[-1].flops
    assert _held(again)["activations"] < _held(plain)["activations"]


def _held(one: StageWorkload) -> dict[str, float | None]:
    return {held.name: held.bytes for held in memory(one)}


def test_gradients_and_activations_of_one_pass_follow_each_other() -> None:
    """One pass frees its activations as it makes gradients; several passes of an update add gradients up."""
    parts = []
    for tokens in (1 << 20, 64):
        one = work(recipe(a=rl(budget=Budget(steps=5, prompts_per_step=2, microbatch_tokens=tokens))))
        parts.append({held.name: held.when for held in memory(one)}["gradients"])
    assert parts == ["step", "update"]


def test_activations_are_of_the_tokens_that_are_computed() -> None:
    """Where common prefixes are computed once, a pass that holds all of a step has the unique tokens alone."""
    one = work(recipe(a=rl(budget=Budget(steps=5, prompts_per_step=2, microbatch_tokens=1 << 20))))
    whole, merged = (
        {held.name: held.bytes for held in memory(one, unique)}["activations"] for unique in (None, one.microbatch // 2)
    )
    assert merged == whole / 2


def test_narrow_weights_keep_wide_copies() -> None:
    """bfloat16 weights take two bytes, and their float32 copies and gradients four more each."""
    held = _held(work(recipe(a=rl(policy=part("policy", "causal_lm", dtype="bfloat16")))))
    n = SHAPE.parameters
    assert (held["weights"], held["gradients"], held["optimizer"]) == (2 * n, 6 * n, 12 * n)


def test_four_bits() -> None:
    """Of a quantized model the decoder's matrices take four bits and their scales, all else stays as wide as it was."""
    wide = part("policy", "vision_lm", dtype="bfloat16", lora={"r": 2})
    narrow = part("policy", "vision_lm", dtype="bfloat16", lora={"r": 2}, quantization="nf4")
    one, other = (_held(replace(work(recipe(a=rl(policy=p))), shape=QWEN))["weights"] for p in (wide, narrow))
    assert one is not None
    assert other is not None
    assert one - other == pytest.approx(QWEN.linear * (2 - 4.127 / 8), rel=1e-4)
    eight = part("policy", "causal_lm", dtype="bfloat16", lora={"r": 2}, quantization="int8")
    held = _held(replace(work(recipe(a=rl(policy=eight))), shape=QWEN))["weights"]
    assert one - held == pytest.approx(QWEN.linear)


def test_eight_bit_moments() -> None:
    """Moments of eight bits take a quarter of those of float32."""
    one, other = (
        _held(work(recipe(a=rl(optimizer=part("optimizer", "adamw", moments=moments)))))["optimizer"]
        for moments in ("float32", "paged_int8")
    )
    assert one == 4 * other


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, SHAPE.parameters * 4), ({"policy": part("policy", "causal_lm", lora={"r": 2})}, None)],
)
def test_reference_is_held(more: dict[str, object], expected: float | None) -> None:
    """A copy of the weights is held; an adapter that is switched off costs nothing."""
    held = _held(work(recipe(a=rl(loss=part("loss", "clipped", beta=0.1), **more))))
    assert held.get("reference") == expected


def test_recorded_rows_are_on_disk_twice() -> None:
    """The rows of every step of an rl stage are kept as samples and as rollouts; without a number of steps, unknown."""
    found = {part.name: part.bytes for part in disk(work(recipe(a=rl())), 5)}
    text = 48 + 32  # one byte a token of so few; the prompt is a column too
    assert SHAPE is not None
    assert found["samples"] == 2 * 5 * 8 * (400 + 48 * (len(str(SHAPE.vocabulary)) + 2) + text)
    assert "samples" not in {part.name for part in disk(work(recipe(a=rl())), None)}
    assert "samples" not in {part.name for part in disk(work(recipe(a=sft())), 5)}


def test_logits_bound_is_the_runtimes() -> None:
    """The plan counts the chunk that the runtime takes."""
    from recipec.runtime.model.logprob_head import LOGITS as RUNTIME

    assert LOGITS == RUNTIME


def test_savings_are_counted() -> None:
    """The old-policy pass saves one forward pass over every row of a step."""
    left = {r.what: r.flops for r in planned(recipe(a=rl())).stages[0].removed}
    assert left["old-policy forward pass"] == operations(SHAPE, Counts(8 * 48, 8 * sum(range(1, 49)), 8 * 16))
    assert left["forward and backward passes of zero-advantage samples"] is None


def test_unknown_model() -> None:
    """Of a model whose sizes are not known the plan says so, and guesses nothing."""
    found = plan(graph(recipe(a=rl())), {"a": None}).stages[0]
    assert (found.model, found.phases, found.memory) == ("unknown", (), ())
    assert any("`org/name`" in what for what in found.unknown)


def test_unknown_lengths() -> None:
    """Rows of unknown length make unknown costs, and prompts of unknown length are left out and said to be."""
    data = part("data", "file", path="a.jsonl")
    imitate = plan(graph(recipe(a=sft("org/name", data=data))), {"a": SHAPE}).stages[0]
    assert [phase.flops for phase in imitate.phases] == [None]
    assert any("length" in what for what in imitate.unknown)
    explore = plan(graph(recipe(a=rl(data=data))), {"a": SHAPE}).stages[0]
    assert any("prompts are of unknown length, and left out" in what for what in explore.unknown)
    assert all(phase.flops is not None for phase in explore.phases)


def test_new_models_bound_their_rows() -> None:
    """The positions of a new model are a parameter of the recipe: no row is longer."""
    built = recipe(a=sft(policy=scratch(), data=part("data", "file", path="a.jsonl")))
    update = planned(built).stages[0].phases[-1]
    assert update.tokens == 4 * 1024


@pytest.mark.parametrize(
    ("budget", "rows", "steps"),
    [
        (Budget(steps=7, pairs_per_step=4), None, 7),
        (Budget(epochs=2, pairs_per_step=4), 10, 6),
        (Budget(epochs=2, pairs_per_step=4, remainder="drop"), 10, 4),
        (Budget(epochs=2, pairs_per_step=4), None, None),
    ],
)
def test_steps(budget: Budget, rows: int | None, steps: int | None) -> None:
    """Steps are given, or counted from the rows where these are known."""
    built = recipe(a=dpo(budget=budget))
    assert planned(built, rows={"a": rows} if rows else {}).stages[0].steps == steps


# what runs, and why

DONE = {"warm": "done", "explore": "done", "align": "done"}


def test_first_run() -> None:
    """Where nothing was run, everything runs."""
    made = planned(three())
    assert made.changes
    assert {stage.action for stage in made.stages} == {"run"}
    assert "no previous run" in made.stages[0].reason


def test_nothing_to_do() -> None:
    """Where nothing changed, nothing runs."""
    made = planned(three(), Previous(graph(three()), DONE))
    assert not made.changes
    assert {stage.action for stage in made.stages} == {"skip"}


def test_key_and_line_are_the_reason() -> None:
    """A changed parameter names itself and its place; stages that build on it follow, those before it are skipped."""
    stages = dict(three().stages)
    stages["explore"] = rl("warm", loss=part("loss", "clipped", epsilon=0.1))
    made = planned(recipe(**stages), Previous(graph(three()), DONE), where=lambda key: f"r.yaml:{len(key)}")
    assert [stage.action for stage in made.stages] == ["skip", "run", "run"]
    assert made.stages[1].reason == "changed: `stages.explore.loss.epsilon` (r.yaml:27)"
    assert made.stages[2].reason == "depends on stage `explore`, which runs"


def test_seed_is_a_reason() -> None:
    """Another seed re-runs everything."""
    made = planned(three().model_copy(update={"seed": 1}), Previous(graph(three()), DONE), where=lambda _: "r.yaml:3")
    assert {stage.reason for stage in made.stages} == {"changed: `seed` (r.yaml:3)"}


def test_file_is_the_reason() -> None:
    """A changed data file is named."""
    states = {**DONE, "warm": "stale"}
    made = planned(
        three(), Previous(graph(three()), states, {"warm": {"a.jsonl": "1"}}), inputs={"warm": {"a.jsonl": "2"}}
    )
    assert made.stages[0].reason == "changed: the file a.jsonl"


@pytest.mark.parametrize(
    ("state", "action", "words"),
    [("begun", "continue", "checkpoint"), ("absent", "run", "not finished"), ("stale", "run", "data package")],
)
def test_states(state: str, action: str, words: str) -> None:
    """A stage that was interrupted continues; one whose artifact is of another stage runs."""
    first = planned(three(), Previous(graph(three()), {**DONE, "warm": state})).stages[0]
    assert first.action == action
    assert words in first.reason


def test_new_stage() -> None:
    """A stage that was not there runs, and those before it are skipped."""
    stages = three().stages
    before = graph(recipe(warm=stages["warm"], explore=stages["explore"]))
    made = planned(three(), Previous(before, DONE))
    assert [stage.action for stage in made.stages] == ["skip", "skip", "run"]
    assert made.stages[2].reason == "new stage"


def test_text_and_json() -> None:
    """The text tells every stage, phase and removal; the JSON is plain and finite."""
    made = planned(three())
    text, data = render_plan(made), json.loads(made.to_json())
    for stage in made.stages:
        assert f"stage {stage.name} " in text
        assert all(removal.what in text for removal in stage.removed)
    assert [stage["action"] for stage in data["stages"]] == ["run"] * 3
    assert all(math.isfinite(phase["flops"]) for stage in data["stages"] for phase in stage["phases"])


# episodes, and hours


def agents(sampler: object, *, steps: bool = False, **world: object) -> Recipe:
    """A stage that plays the search dialogue: three turns and a forced answer."""
    made = part("environment", "search_qa", max_turns=3, max_observation_length=50, **world)
    rewards = {"right": part("reward", "answer_match")}
    tasks = part("data", "file", path="a.jsonl", max_length=32)
    return recipe(a=rl(environment=made, sampler=sampler, reward=rewards, data=tasks))


def test_episodes_are_counted_by_turns() -> None:
    """A trajectory holds prompt, four turns and three answers; the answers are read and not trained."""
    found = work(agents(part("sampler", "chain", num_generations=4, max_completion_length=16)))
    assert (found.size.rows, found.size.completion, found.size.observed, found.size.row) == (8, 64, 150, 246)
    sample, _, update = phases(found)
    assert sample.tokens == 2 * 32 + 8 * (64 + 150)
    assert update.tokens == 8 * 246


def test_trees_cost_half_an_episode_an_expansion() -> None:
    """Two trees of one chain and two expansions cost four episodes and make six rows; kept rows are trained."""
    tree = {"trees": 2, "expansions": 2, "rounds": 1, "max_turn_length": 16}
    whole, some = (work(agents(part("sampler", "tree", **tree, **more))) for more in ({}, {"keep": 2}))
    assert (whole.size.rows, some.size.rows) == (2 * 6, 2 * 4)
    assert whole.size.sampled is not None
    assert whole.size.sampled.episodes == 2 * 4
    assert next(phases(whole)).tokens == next(phases(some)).tokens == 2 * 32 + 8 * (64 + 150)


def test_windows_compute_every_prompt_anew() -> None:
    """With a window a row is a turn, and its prompt, up to the whole context, is computed for every turn."""
    sampler = part("sampler", "chain", num_generations=4, max_completion_length=16, rows="step", max_context_length=100)
    found = work(agents(sampler, history=2))
    assert (found.size.rows, found.size.prompt, found.size.completion) == (2 * 4 * 4, 84, 16)
    assert next(phases(found)).tokens == 2 * 4 * 4 * 100


def test_contexts_end_episodes() -> None:
    """No row is longer than the context."""
    sampler = part("sampler", "chain", num_generations=4, max_completion_length=16, max_context_length=139)
    assert work(agents(sampler)).size.row == pytest.approx(139, abs=1)


def test_group_filter_is_counted_at_its_most() -> None:
    """Groups may be sampled as often as `max_tries` says; what is trained stays the same."""
    once, thrice = (
        work(agents(part("sampler", "chain", num_generations=4, max_completion_length=16, **more)))
        for more in ({}, {"group_filter": {"max_tries": 3}})
    )
    few, many = next(phases(once)), next(phases(thrice))
    assert (many.tokens, many.assumes) == (3 * few.tokens, few.assumes)
    assert list(phases(once))[-1] == list(phases(thrice))[-1]
    assert any("3 times" in said for said in thrice.size.assumes)


def test_updates_of_step_rows_are_not_known_before() -> None:
    """Where updates are counted in rows and rows are turns, the plan says that their number is open."""
    sampler = part("sampler", "chain", num_generations=4, max_completion_length=16, rows="step", max_context_length=100)
    built = agents(sampler, history=2)
    stage = built.stages["a"].model_copy(update={"budget": Budget(steps=5, prompts_per_step=2, rows_per_update=8)})
    said = work(recipe(a=stage)).size.assumes
    assert any("how many turns there are is not known" in one for one in said)


def test_memory_between_turns() -> None:
    """What the engine keeps between turns is held, up to its bound or all there is; one-turn rows keep nothing."""
    built = agents(part("sampler", "chain", num_generations=4, max_completion_length=16))
    row = SHAPE.cached * 4 * 246
    for bound, expected in ((2.0, 8 * row), (row / 2**30, row), (0.0, None)):
        rollout = part("rollout_engine", "hf", max_memory=bound)
        made = planned(built.model_copy(update={"machine": Machine(rollout=rollout)}))
        held = {one.name: one.bytes for one in made.stages[0].memory}
        assert held.get("between turns") == (expected if expected is None else pytest.approx(expected))
    default = {one.name: one.bytes for one in planned(built).stages[0].memory}
    assert default["between turns"] == 8 * row
    assert "between turns" not in _held(work(recipe(a=rl())))
