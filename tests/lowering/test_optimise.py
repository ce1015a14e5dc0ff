"""What is left out, when, and that nothing else changes; the equality of loss and gradient is tested where they run."""

import pytest
from support.built_recipes import dpo, part, recipe, rl, scratch, sft

from recipec.graph import Loop, StageGraph
from recipec.lowering.grammar import verify
from recipec.lowering.lower import lower
from recipec.lowering.optimise import REWRITES, one_update, optimise
from recipec.spec.recipe import Budget, Stage


def stages(built: Stage) -> tuple[StageGraph, StageGraph]:
    """A stage before and after."""
    before = lower(recipe(a=built))
    return before.stages[0], verify(optimise(before)).stages[0]


def names(stage: StageGraph) -> list[str]:
    """Names of the nodes in order."""
    return [node.id.partition("/")[2] for node in stage.nodes()]


def removed(stage: StageGraph) -> set[str]:
    """What was left out."""
    return {removal.what for removal in stage.removed}


OLD, ZERO, REFERENCE = (
    "old-policy forward pass",
    "forward and backward passes of zero-advantage samples",
    "reference forward pass",
)
CLIPPED = part("loss", "clipped")


def test_old_pass_goes() -> None:
    """With one update a batch the policy's own log-probabilities are the old ones, taken in the update."""
    before, after = stages(rl())
    assert "old" in names(before)
    assert OLD in removed(after)
    assert names(after)[-5:] == ["weigh", "policy", "detach", "loss", "optimizer"]
    inner = next(item for item in after.loop.body if isinstance(item, Loop))
    loss = inner.body[3]
    assert {i.parameter: i.value.node for i in loss.inputs}["ratio_to_RT"] == "a/detach"


@pytest.mark.parametrize(
    "more",
    [
        {"budget": Budget(steps=5, prompts_per_step=2, passes=2)},
        {"budget": Budget(steps=5, prompts_per_step=2, updates_per_step=2)},
        {"budget": Budget(steps=5, prompts_per_step=2, prompts_per_update=1)},
        {"budget": Budget(steps=5, prompts_per_step=2, rows_per_update=7)},
        {"policy": part("policy", "causal_lm", dropout=0.1)},
        {"policy": part("policy", "causal_lm", lora={"dropout": 0.1})},
        {"loss": part("loss", "clipped", sampler_correction="truncate")},
        {"reward": {"r": part("reward", "verifier"), "close": part("reward", "kl_penalty")}},
    ],
)
def test_old_pass_stays(more: dict[str, object]) -> None:
    """Several updates, dropout, a corrected mismatch or another reader need the old policy as it was."""
    before, after = stages(rl(**more))
    assert OLD not in removed(after)
    assert [name for name in names(after) if name in {"old", "detach"}] == ["old"]
    assert names(before) == names(after)


@pytest.mark.parametrize(
    ("budget", "one"),
    [
        ({}, True),
        ({"updates_per_step": 1}, True),
        ({"prompts_per_update": 2}, True),
        ({"prompts_per_update": 3}, True),
        ({"rows_per_update": 8}, True),
        ({"rows_per_update": 7}, False),
        ({"prompts_per_update": 1}, False),
        ({"passes": 2}, False),
    ],
)
def test_one_update(budget: dict[str, int], one: bool) -> None:
    """Two prompts of four rows take one update if all of them are in it, once."""
    before, _ = stages(rl(budget=Budget(steps=5, prompts_per_step=2, **budget)))
    assert one_update(before) is one


def test_rows_of_steps_are_not_known() -> None:
    """How many rows an episode of steps gives is not known before: it may take several updates."""
    sampler = part("sampler", "chain", num_generations=4, rows="step")
    before, _ = stages(rl(sampler=sampler, budget=Budget(steps=5, prompts_per_step=2, rows_per_update=100)))
    assert not one_update(before)


def test_unasked_reference_goes() -> None:
    """A reference that no term is held against is not run, and its keys count as read by the stage."""
    built = rl(reference=part("reference", "frozen"))
    before, after = stages(built)
    assert "reference" in names(before)
    assert "reference" not in names(after)
    assert after.settings["reference"] is None
    assert REFERENCE in removed(after)
    assert optimise(lower(recipe(a=built))).consumed["stages.a.reference.from"] == "a"


def test_asked_reference_stays() -> None:
    """A KL needs its reference."""
    _, after = stages(rl(loss=part("loss", "clipped", beta=0.1)))
    assert "reference" in names(after)
    assert REFERENCE not in removed(after)


def test_rows_without_credit_stay_out() -> None:
    """Where the objective is credit alone, rows without it need no pass; the node of the policy says so."""
    _, after = stages(rl())
    assert ZERO in removed(after)
    policy = next(node for node in after.nodes() if node.id == "a/policy")
    assert policy.decided["drop_zero_credit"] is True


@pytest.mark.parametrize(
    "more",
    [
        {"loss": part("loss", "clipped", beta=0.1)},
        {"loss": part("loss", "clipped", entropy=0.1)},
        {"policy": part("policy", "causal_lm", dropout=0.1)},
    ],
)
def test_rows_without_credit_count(more: dict[str, object]) -> None:
    """KL and entropy pull at rows without credit, and dropout makes every pass another."""
    _, after = stages(rl(**more))
    assert ZERO not in removed(after)
    assert not any("drop_zero_credit" in node.decided for node in after.nodes())


def test_reference_of_fixed_rows_is_kept() -> None:
    """A frozen reference of rows that stay the same is computed once, whatever it is."""
    before, after = stages(dpo())
    assert before.settings["reference"]["mode"] == "weights_copy"
    assert after.settings["reference"]["mode"] == "cached"
    assert "reference forward pass of later epochs" in removed(after)


def test_lagged_reference_is_not_kept() -> None:
    """What changes while the stage runs cannot be computed before it."""
    _, after = stages(dpo(reference=part("reference", "lagged")))
    assert after.settings["reference"]["mode"] == "weights_copy"


def test_imitation_has_nothing_to_drop() -> None:
    """A stage that imitates loses only logits that nobody reads."""
    _, after = stages(sft(policy=scratch()))
    assert removed(after) == {"logits of untrained tokens"}


@pytest.mark.parametrize("built", [rl(), rl(reference=part("reference", "frozen")), dpo(), sft(policy=scratch())])
def test_meaning_stays(built: Stage) -> None:
    """No digest changes: not the stage's, nor that of any node that both graphs have."""
    before, after = stages(built)
    assert before.digest == after.digest
    was = {node.id: node.digest for node in before.nodes()}
    assert all(was[node.id] == node.digest for node in after.nodes() if node.id in was)


def test_everything_is_told() -> None:
    """Each removal says what, why and what it saves."""
    _, after = stages(rl())
    assert all(r.what and r.why and r.saves for r in after.removed)


def test_each_can_be_switched_off() -> None:
    """Unoptimised, the graph stays as it was lowered; each rewrite can be taken alone."""
    graph = lower(recipe(a=rl(reference=part("reference", "frozen"))))
    assert optimise(graph, ()) == graph
    for rewrite in REWRITES:
        assert len(optimise(graph, {rewrite.__name__}).stages[0].removed) <= 1
    assert removed(optimise(graph, {"drop_old_pass"}).stages[0]) == {OLD}


def test_idempotent() -> None:
    """Optimising twice drops nothing twice, but for what is only recorded."""
    once = optimise(lower(recipe(a=rl())), {"drop_old_pass", "drop_reference"})
    assert optimise(once, {"drop_old_pass", "drop_reference"}) == once
