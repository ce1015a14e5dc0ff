"""Rows become nodes: their order, the compiler's own among them, hand-over, and digests over meaning alone."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st
from support.built_recipes import dpo, part, recipe, rl, scratch, sft, three

from recipec.component import Section, is_signal
from recipec.graph import BOOKKEEPING, Graph, Loop, Node, StageGraph, to_json
from recipec.lowering.lower import lower, topological_order
from recipec.spec.machine import Machine
from recipec.spec.recipe import SLOT, Budget, Evaluation, Recipe, Stage
from recipec.yaml_io import from_yaml, to_yaml


def stage(built: Stage, name: str = "a") -> StageGraph:
    """One stage, lowered."""
    return lower(recipe(**{name: built})).stage(name)


def once(lowered: StageGraph) -> list[str]:
    """Names of the nodes of a step, in order."""
    return [item.id.partition("/")[2] for item in lowered.loop.body if isinstance(item, Node)]


def update(lowered: StageGraph) -> list[str]:
    """Names of the nodes of an update, in order."""
    inner = next(item for item in lowered.loop.body if isinstance(item, Loop))
    return [item.id.partition("/")[2] for item in inner.body if isinstance(item, Node)]


def node(lowered: StageGraph, name: str) -> Node:
    """The node called ``name``."""
    return next(n for n in lowered.nodes() if n.id == f"{lowered.name}/{name}")


def test_rl_row() -> None:
    """GRPO is a row, its sums and broadcasts visible."""
    lowered = stage(rl(loss=part("loss", "clipped", beta=0.1)))
    assert once(lowered) == [
        "data", "sampler", "reward.right", "sum.reward_R", "reference", "old",
        "advantage.group", "sum.advantage_R", "broadcast.advantage_RT",
    ]  # fmt: skip
    assert update(lowered) == ["weigh", "policy", "loss", "optimizer"]
    assert lowered.artifacts == ("policy", "rollouts")
    assert lowered.loop.carries == ("weights", "optimizer", "cursors", "draws")


def test_sft_row() -> None:
    """Imitation collates given answers."""
    lowered = stage(sft(policy=scratch()))
    assert (once(lowered), update(lowered)) == (["data", "collate"], ["weigh", "policy", "loss", "optimizer"])
    assert node(lowered, "data").outputs == ("completion_P",)
    assert lowered.artifacts == ("policy",)


def test_dpo_row() -> None:
    """Preference holds the policy against a reference that nobody had to ask for."""
    lowered = stage(dpo())
    assert (once(lowered), update(lowered)) == (
        ["data", "collate", "reference"],
        ["weigh", "policy", "loss", "optimizer"],
    )
    assert node(lowered, "reference").type == "frozen"
    assert lowered.artifacts == ("policy",)


def test_pairs_are_made_before() -> None:
    """A preference that reads rollouts makes its pairs once, and they are an artifact."""
    lowered = lower(three()).stage("align")
    assert [n.id for n in lowered.before] == ["align/preference"]
    assert once(lowered) == ["collate", "reference"]
    assert lowered.artifacts == ("policy", "pairs")


def test_kl_in_the_reward() -> None:
    """KL in the reward needs reference and old policy before the reward, by its signals alone."""
    reward = {"right": part("reward", "verifier"), "close": part("reward", "kl_penalty")}
    order = once(stage(rl(reward=reward)))
    assert order.index("reference") < order.index("reward.close") < order.index("sum.reward_R")
    assert order.index("old") < order.index("reward.close")


def test_levels_add() -> None:
    """Levels are summed in the order of their names, rewards by their weights."""
    reward = {"right": part("reward", "verifier"), "close": part("reward", "length", max_length=9, weight=0.5)}
    lowered = stage(rl(reward=reward))
    total = node(lowered, "sum.reward_R")
    assert [i.value.node for i in total.inputs] == ["a/sampler", "a/reward.close", "a/reward.right"]
    assert total.params == {"weights": [0.5, 1.0]}
    assert total.keys == ("stages.a.reward.close.weight", "stages.a.reward.right.weight")


def test_references_are_bound() -> None:
    """A parameter that names a signal chooses the column; an optional one that is off is not there."""
    loss = part("loss", "clipped", ratio_to="sampler_logprob_RT")
    lowered = stage(rl(loss=loss))
    bound = {i.parameter: i.value for i in node(lowered, "loss").inputs}
    assert bound["ratio_to_RT"].signal == "sampler_logprob_RT"
    assert "ref_logprob_RT" not in bound
    assert "entropy_RT" not in bound
    assert "old" not in once(lowered)


def test_score_is_made_where_it_is_asked_for() -> None:
    """The total of an episode is a node of its own."""
    credit = {"group": part("advantage", "group_relative", value="score_R")}
    assert "sum.score_R" in once(stage(rl(advantage=credit)))
    assert "sum.score_R" not in once(stage(rl()))


def test_failed_rows_are_weighed_out() -> None:
    """Where rewards can fail, the denominators know."""
    assert [i.parameter for i in node(stage(rl()), "weigh").inputs] == ["trained_RT", "failed_R"]
    assert [i.parameter for i in node(stage(sft(policy=scratch())), "weigh").inputs] == ["trained_RT"]
    assert node(stage(dpo()), "weigh").type == "weigh_pairs"


def test_lagged_is_carried() -> None:
    """A lagged reference crosses from step to step."""
    lowered = stage(rl(reference=part("reference", "lagged"), loss=part("loss", "clipped", beta=0.1)))
    assert "reference" in lowered.loop.carries
    assert lowered.settings["reference"]["mode"] == "weights_copy"


@pytest.mark.parametrize(
    ("built", "mode"),
    [
        (rl(loss=part("loss", "clipped", beta=0.1)), "weights_copy"),
        (rl(loss=part("loss", "clipped", beta=0.1), policy=part("policy", "causal_lm", lora={})), "adapter_off"),
        (
            rl(loss=part("loss", "clipped", beta=0.1), policy=part("policy", "causal_lm", lora={}), adapter="continue"),
            "adapter_copy",
        ),
        (
            rl(loss=part("loss", "clipped", beta=0.1), policy=part("policy", "causal_lm", lora={}), adapter="merge"),
            "adapter_off",
        ),
        (dpo(reference=part("reference", "frozen", **{"from": "org/judge"})), "other"),
    ],
)
def test_how_the_reference_is_kept(built: Stage, mode: str) -> None:
    """The cheapest way that is sound: an adapter that is switched off only where that is the policy as it entered."""
    found = stage(built).settings["reference"]
    assert found["mode"] == mode
    assert found["why"]


def test_policy_crosses() -> None:
    """What is said once holds for the stages after it, but for what builds a new model."""
    lowered = lower(recipe(a=sft(policy=scratch(lora={"r": 4})), b=rl("a", adapter="continue"), c=sft("b")))
    assert lowered.stage("a").settings["policy"]["scratch"] is not None
    for name in ("b", "c"):
        assert lowered.stage(name).settings["policy"]["lora"]["r"] == 4
        assert lowered.stage(name).settings["policy"]["scratch"] is None
    assert [lowered.stage(name).settings["adapter_start"] for name in "abc"] == ["fresh", "continue", "fresh"]


def test_greedy_has_a_space() -> None:
    """Log-probabilities of a greedy sampler are those of the plain logits."""
    assert stage(rl(sampler=part("sampler", "chain", temperature=0.0))).settings["temperature"] == 1.0
    assert stage(rl(sampler=part("sampler", "chain", temperature=0.7))).settings["temperature"] == 0.7


def test_stages_in_order() -> None:
    """A stage comes after those it starts from and reads, whatever the order of the file."""
    pairs = part("preference", "best_vs_worst", rollouts="explore.rollouts")
    built = recipe(align=dpo("org/name", data=None, preference=pairs), explore=rl("warm"), warm=sft(policy=scratch()))
    assert [s.name for s in lower(built).stages] == ["warm", "explore", "align"]


@given(st.permutations(range(6)), st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_in_order(keys: list[int], edges: set[tuple[int, int]]) -> None:
    """Sources come first; what is free keeps the mapping's order."""
    sources = {key: [a for a, b in edges if b == key and a < b] for key in keys}
    order = list(topological_order(sources))
    assert sorted(order) == list(range(6))
    assert all(order.index(a) < order.index(key) for key in keys for a in sources[key])
    if not any(sources.values()):
        assert order == list(keys)


def test_evaluations_take_the_first_rewards() -> None:
    """An evaluation without rewards is scored as the first rl stage is."""
    built = three().model_copy(update={"evaluate": {"held": Evaluation(data=part("data", "file", path="b.jsonl"))}})
    assert lower(built).evaluate["held"]["reward"]["right"]["type"] == "verifier"


def test_every_key_is_consumed() -> None:
    """Every parameter of every component is in the map of who read it, the lowered ones at the node that has them."""
    consumed = lower(three()).consumed
    assert consumed["stages.explore.loss.epsilon"] == "explore/loss"
    assert consumed["stages.explore.loss.aggregate"] == "explore/weigh"
    assert consumed["stages.explore.reward.right.weight"] == "explore/sum.reward_R"
    assert consumed["stages.warm.policy.scratch.hidden_size"] == "warm/policy"
    assert consumed["stages.align.preference.margin"] == "align/preference"
    assert consumed["stages.warm.from"] == "warm"
    assert consumed["machine.train.type"] == "machine"


# digests


def digests(built: Recipe) -> dict[str, str]:
    """Spec digests of the stages."""
    return {s.name: s.digest for s in lower(built).stages}


def test_order_of_keys_is_nothing() -> None:
    """Neither levels nor slots nor parameters mean anything by their order."""
    reward = {"right": part("reward", "verifier"), "close": part("reward", "length", max_length=9)}
    turned = dict(reversed(reward.items()))
    assert to_json(lower(recipe(a=rl(reward=reward)))) == to_json(lower(recipe(a=rl(reward=turned))))


def test_defaults_written_out_are_nothing() -> None:
    """A default that is written out changes no byte of the graph."""
    full = part("loss", "clipped", epsilon=0.2, beta=0.0, aggregate="token_mean", normaliser=None)
    assert to_json(lower(recipe(a=rl(loss=full)))) == to_json(lower(recipe(a=rl())))


@pytest.mark.parametrize(
    "update",
    [
        {"machine": Machine(devices=4, threads=2)},
        {"vars": {"x": 1}},
        {"name": "other"},
        {"evaluate": {"held": Evaluation(data=part("data", "file", path="b.jsonl"))}},
    ],
)
def test_speed_and_names_are_nothing(update: dict[str, object]) -> None:
    """What changes speed, or what is looked at, is in no digest of the weights."""
    assert digests(three().model_copy(update=update)) == digests(three())


@pytest.mark.parametrize(
    "more",
    [
        {"attention": part("attention", "packed")},
        {"budget": Budget(steps=5, prompts_per_step=2, microbatch_tokens=100, save_every=1, keep=9)},
        {"reference": part("reference", "frozen")},
        {"allow": {"RC405": "so published"}},
    ],
)
def test_what_means_nothing(more: dict[str, object]) -> None:
    """Attention, micro-batches, checkpoints and a reference that nobody asks for change no digest."""
    assert digests(recipe(a=rl(**more))) == digests(recipe(a=rl()))


CHANGES = {
    "data": {"data": part("data", "reasoning_gym", task="chain_sum", size=11, max_length=32)},
    "sampler": {"sampler": part("sampler", "chain", num_generations=4, max_completion_length=16, top_p=0.9)},
    "reward": {"reward": {"right": part("reward", "verifier", weight=2.0)}},
    "advantage": {"advantage": {"group": part("advantage", "group_relative", epsilon=1e-3)}},
    "loss": {"loss": part("loss", "clipped", epsilon=0.3)},
    "aggregate": {"loss": part("loss", "clipped", aggregate="seq_mean_token_sum")},
    "optimizer": {"optimizer": part("optimizer", "adamw", learning_rate=1e-4)},
    "policy": {"policy": part("policy", "causal_lm", dtype="bfloat16")},
    "budget": {"budget": Budget(steps=6, prompts_per_step=2)},
    "adapter": {"adapter": "merge"},
    "from": {"from": "org/other"},
}


@pytest.mark.parametrize("more", CHANGES.values(), ids=CHANGES)
def test_what_means_something(more: dict[str, object]) -> None:
    """Every other parameter changes the digest of its stage, and of those that start from it."""
    before = digests(recipe(a=rl(), b=sft("a")))
    origin = more.get("from", "org/name")
    after = digests(recipe(a=rl(origin, **{key: value for key, value in more.items() if key != "from"}), b=sft("a")))
    assert before["a"] != after["a"]
    assert before["b"] != after["b"]


def test_knobs_of_others_are_nothing() -> None:
    """A parameter changes no digest of a node that does not depend on it."""

    def found(graph: Graph) -> dict[str, str]:
        return {n.id: n.digest for n in graph.stages[0].nodes()}

    before, after = found(lower(recipe(a=rl()))), found(lower(recipe(a=rl(**CHANGES["loss"]))))
    assert {name for name in before if before[name] != after[name]} == {"a/loss", "a/optimizer"}


def test_seed_is_in_every_stage() -> None:
    """Another seed is another run of every stage."""
    before, after = digests(three()), digests(three().model_copy(update={"seed": 1}))
    assert not set(before.values()) & set(after.values())


def test_artifacts_are_followed() -> None:
    """Pairs made of rollouts change with the stage that sampled them."""
    pairs = part("preference", "best_vs_worst", rollouts="a.rollouts")
    before = digests(recipe(a=rl(), b=dpo("org/name", data=None, preference=pairs)))
    after = digests(recipe(a=rl(**CHANGES["loss"]), b=dpo("org/name", data=None, preference=pairs)))
    assert before["b"] != after["b"]


KL = part("reward", "kl_penalty")
RICH = {
    "rl": rl(
        reward={
            "close": KL,
            "long": part("reward", "length", max_length=9),
            "right": part("reward", "verifier"),
            "match": part("reward", "exact_match"),
            "shape": part("reward", "regex_format", pattern="a"),
            "maths": part("reward", "math_verify"),
            "own": part("reward", "function", name="f"),
        },
        advantage={
            name: part("advantage", name) for name in ("group_relative", "rloo", "signed", "batch_standardised")
        },
        loss=part("loss", "clipped", beta=0.1, sampler_correction="truncate"),
        reference=part("reference", "lagged"),
        policy=part("policy", "causal_lm", lora={"r": 4}),
    ),
    "sft": sft(policy=scratch()),
    "dpo": dpo(reference=part("reference", "frozen")),
    "pairs": dpo(data=None, preference=part("preference", "best_vs_worst", rollouts="other.rollouts")),
}


def other(value: Any) -> Any:
    """Another value of a parameter; whether it is a sensible one does not matter to a digest."""
    changed: Any = 7
    match value:
        case bool():
            changed = not value
        case int() | float():
            changed = value + 1
        case str():
            changed = f"{value}x"
        case Section():
            name = next(iter(type(value).model_fields))
            changed = value.model_copy(update={name: other(getattr(value, name))})
        case dict():
            changed = {**value, "x": 1}
        case tuple():
            changed = (*value, *value, "x")
    return changed


def places(stage: Stage) -> Iterator[tuple[str, str, str]]:
    """Slot, level and parameter of everything in a stage that means something."""
    for slot in SLOT:
        held = getattr(stage, slot)
        if slot == "attention" or held is None:
            continue
        for level, spec in held.items() if isinstance(held, dict) else [("", held)]:
            for name, info in type(spec).model_fields.items():
                if name != "type" and not is_signal(info):
                    yield slot, level, name


EVERY = [(name, *place) for name, stage in RICH.items() for place in places(stage)]
EVERY.remove(("rl", "policy", "", "scratch"))  # it builds nothing where the weights come from elsewhere


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(("name", "slot", "level", "param"), EVERY, ids=lambda part: part)
def test_every_knob_means_something(name: str, slot: str, level: str, param: str) -> None:
    """There is no parameter of a component whose change leaves the digest of its stage as it was."""
    built = RICH[name]
    held = getattr(built, slot)
    spec = held[level] if level else held
    turned = spec.model_copy(update={param: other(getattr(spec, param))})
    changed = built.model_copy(update={slot: {**held, level: turned} if level else turned})
    assert digests(recipe(a=changed)) != digests(recipe(a=built))


@pytest.mark.parametrize("param", [name for name in Budget.model_fields if name not in BOOKKEEPING])
def test_every_budget_means_something(param: str) -> None:
    """Every count of a budget is in the digest, but for what is only kept or only faster."""
    budget = RICH["rl"].budget
    changed = RICH["rl"].model_copy(update={"budget": budget.model_copy(update={param: other(getattr(budget, param))})})
    with warnings.catch_warnings(action="ignore"):
        assert digests(recipe(a=changed)) != digests(recipe(a=RICH["rl"]))


def test_combined_levels() -> None:
    """Levels that follow each other hand their credit on, as written; tokens are compared by nodes of the compiler."""
    levels = {name: part("advantage", "group_relative") for name in ("b", "a")}
    first, second = (node(stage(rl(advantage=levels, combine="sequential")), f"advantage.{name}") for name in "ba")
    assert [i.value.node for i in first.inputs if i.parameter == "value_R"] == ["a/sum.reward_R"]
    assert [i.value.node for i in second.inputs if i.parameter == "value_R"] == ["a/advantage.b"]
    total = node(stage(rl(advantage=levels, combine="sequential")), "sum.advantage_R")
    assert [i.value.node for i in total.inputs] == ["a/advantage.a"]
    tokens = stage(rl(advantage=levels, combine="per_token"))
    assert node(tokens, "advantage.a").type == "token_relative"
    assert node(tokens, "sum.advantage_RT").outputs == ("advantage_RT",)
    assert not [n for n in once(tokens) if n.startswith("broadcast")]
    built = recipe(a=rl(advantage=levels, combine="sequential"))
    again = from_yaml(to_yaml(built))
    assert again == built
    assert list(again.stages["a"].advantage) == ["b", "a"]
