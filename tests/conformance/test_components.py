"""Every registered component, one table: what its spec declares is what its function or class takes and gives."""

import importlib.util
import inspect
import pkgutil
import typing

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import recipec.spec
from recipec.component import components_of
from recipec.runtime import protocols
from recipec.runtime.batch import Task
from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph
from recipec.runtime.logging.tracker import Tracker
from recipec.signals import SIGNALS, split_axes

SLOTS = tuple(module.name for module in pkgutil.iter_modules(recipec.spec.__path__))
TABLE = {f"{slot}.{name}": found for slot in SLOTS for name, found in components_of(slot).items()}
# Declared before their classes are there.
PENDING: set[str] = set()
HERE = {name: found for name, found in TABLE.items() if found.available() and name not in PENDING}

# Built by the loop and driven by their own verbs, so they take no columns.
DRIVEN = ("attention", "environment", "knowledge", "train_engine", "rollout_engine", "optimizer", "tracker")
# Asked by the loop to draw so many tasks.
SOURCES = ("data",)
# What every component of a slot implements.
PROTOCOLS = {
    "attention": protocols.Attention,
    "critic": protocols.Critic,
    "data": protocols.DataSource,
    "environment": protocols.Environment,
    "knowledge": KnowledgeGraph,
    "policy": protocols.Policy,
    "preference": protocols.Preference,
    "reference": protocols.Reference,
    "rollout_engine": protocols.RolloutEngine,
    "tracker": Tracker,
    "train_engine": protocols.TrainEngine,
}
# What a constructor takes beside its parts: the compiler's decisions, and the attention to follow.
DECIDED = {"attention.auto": {"choice", "reason", "leader"}}
# Loaded before the other parts: `use` gives a policy its attention.
LOADED = ("policy",)
# What keys the draws of a call.
KEYS = {"step", "attempt"}
# What must be given, because no default could be right.
REQUIRED = {
    "data.file": {"path": "tasks.jsonl"},
    "data.mix": {"sources": {"one": {"path": "tasks.jsonl"}}},
    "data.reasoning_gym": {"task": "chain_sum", "size": 4},
    "data.rollouts": {"rollouts": "explore.rollouts"},
    "environment.gymnasium": {"id": "FrozenLake-v1"},
    "environment.own": {"name": "House"},
    "environment.tool_use": {"functions": ("search",)},
    "knowledge.triples": {"path": "facts.graphml"},
    "knowledge.sparql": {"service": "facts"},
    "knowledge.extract": {"path": "texts.jsonl"},
    "preference.best_vs_worst": {"rollouts": "explore.rollouts"},
    "reward.regex_format": {"pattern": "a+"},
    "reward.judge": {"service": "judge", "model": "m", "rubric": "{{ completion }}"},
    "reward.length": {"max_length": 3},
    "reward.model": {"from_": "./judge"},
    "reward.function": {"name": "score"},
}
# Numbers that are pure: factors, shares, and bounds on ratios.
PURE = {
    "advantage.*": {"weight", "positive", "negative", "exponent", "offset", "gamma", "lam", "beta"},
    "critic.*": {"coefficient"},
    "loss.*": {
        "temperature",
        "epsilon",
        "epsilon_high",
        "dual_clip",
        "beta",
        "entropy",
        "sampler_correction_cap",
        "label_smoothing",
        "discopop_tau",
        "temperature_pos",
        "temperature_neg",
        "nll",
        "gamma",
        "center",
        "penalty",
    },
    "optimizer.*": {
        "learning_rate",
        "betas",
        "epsilon",
        "weight_decay",
        "warmup_ratio",
        "max_grad_norm",
        "min_ratio",
        "decay_ratio",
        "momentum",
        "beta2_decay",
        "scale_floor",
        "clip_threshold",
    },
    "policy.*": {"dropout"},
    "rollout_engine.*": {"memory"},
    "data.*": {"task_seed", "val_seed"},
    "reward.*": {"weight", "gamma", "temperature"},
    "sampler.*": {"temperature", "top_p", "min_p"},
    "knowledge.*": {"temperature", "top_p", "min_similarity", "min_confidence"},
}
# What a model gives to its loss.
LEARNT = {"logprob_RT", "model_score_R", "divergence_RT"}
# Which parameters to try beside the defaults.
VARIANTS = {
    "loss.gkd": [{"clamp": 0.5}],
    "advantage.group_relative": [{"scale": "none"}, {"singleton": "raw"}, {"statistics": "trajectories"}],
    "grouping.anchor_state": [{"match": "similarity", "threshold": 0.5}],
    "advantage.history_groups": [{"history": 0, "scale": "none"}],
    "advantage.state_action": [{"action_tag": "a", "scale": "std"}],
    "advantage.leaf_mean": [{"shared": "once", "scale": "none"}],
    "advantage.rloo": [{"singleton": "raw"}],
    "advantage.gae": [{"beta": 0.1, "lam": 0.5}, {"beta": 0.1, "kl": "k3", "gamma": 0.9}],
    "loss.clipped": [
        {"ratio": "turn", "dual_clip": 3.0, "log_ratio_clamp": 20.0},
        {"ratio": "sequence", "ratio_gradient": "own", "beta": 0.1, "kl_clamp": 10.0, "entropy": 0.01},
        {"sampler_correction": "truncate", "beta": 0.1, "kl": "k1"},
        {"sampler_correction": "mask", "ratio_to": "ref_logprob_RT", "beta": 0.1, "kl": "abs"},
        {"ratio": "product"},
        {"sampler_correction": "truncate", "sampler_rejection": {"cap": 1.1, "floor": 0.9}},
    ],
    "loss.cispo": [{"sampler_correction": "clip", "sampler_correction_level": "geometric", "beta": 0.1}],
    "loss.sapo": [{"entropy": 0.01, "sampler_correction": "reject", "sampler_correction_level": "sequence"}],
    "loss.gmpo": [
        {"epsilon_high": 0.2, "log_ratio_clamp": 20.0},
        {"sampler_correction": "truncate", "sampler_correction_normalised": True},
    ],
    "loss.cpo": [{"variant": "hinge"}, {"variant": "ipo"}, {"nll": 0.0, "label_smoothing": 0.1}],
    "loss.bradley_terry": [{"margin": "column", "center": 0.01}],
    "loss.simpo": [{"nll": 1.0}],
    "loss.dpo": [
        {"nll": 0.5},
        {"variant": "hinge"},
        {"variant": "ipo", "length_normalised": True},
        {"label_smoothing": 0.1},
        {"variant": "robust", "label_smoothing": 0.1},
        {"variant": "exo_pair", "label_smoothing": 0.1},
        *({"variant": v} for v in ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "discopop")),
    ],
    "reward.kl_penalty": [{"kl": "k1"}, {"kl": "k2"}, {"kl": "k3"}, {"kl": "abs"}],
    "reward.length": [{"soft": 2}],
    "reward.exact_match": [{"tag": "a"}],
    "reward.verifier": [{"tag": "a"}],
}
# What the compiler makes of the summed reward, because of the reward `environment`.
COMPILED = {"score_R", "return_R"}
RUNS = [
    (name, params)
    for name, found in HERE.items()
    # a class needs a place to run; a function, which our style writes in lower case, does not
    if found.impl.partition(":")[2].islower()
    for params in ({}, *VARIANTS.get(name, []))
]
CLASSES = [name for name in HERE if (name, {}) not in RUNS]
TOKENS = 5
RIGHT = {"2": 1.0, "3": 0.25, "": 0.0, "<a>2</a>": 0.0}.__getitem__


@pytest.mark.parametrize("name", sorted(PENDING))
def test_what_is_pending_is_not_there(name):
    """A component leaves the list of those without a class when its module arrives."""
    assert importlib.util.find_spec(TABLE[name].impl.partition(":")[0]) is None


def spec_of(name, **params):
    """Build a spec from its defaults and what must be given."""
    return TABLE[name](**{**REQUIRED.get(name, {}), **params})


def target_of(name):
    """Import what a component names as its implementation."""
    module, _, attribute = TABLE[name].impl.partition(":")
    return getattr(importlib.import_module(module), attribute)


def keywords(target):
    """Names of the keyword-only parameters of a class, those included that it passes on to its base."""
    found = set()
    for base in inspect.getmro(target):
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            found |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found


def numeric(annotation):
    """Whether a parameter is a number, or may be one."""
    kinds = {annotation, *typing.get_args(annotation)}
    return bool(kinds & {int, float}) and bool not in kinds


COLUMNS = {"answer": "2", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


def column(name, rows, dtype):
    """Make a column of so many rows; every group, episode and pair has two of them."""
    shape = (rows, TOKENS)
    place = torch.arange(rows)
    draw = torch.Generator().manual_seed(len(name) + rows)
    made = {
        "prompt_P": [Task(i, "1+1=", (1, 2), COLUMNS, score=RIGHT) for i in range((rows + 1) // 2)],
        "text_R": ["2", "3", "<a>2</a>", ""][:rows] + ["2"] * (rows - 4),
        "state_R": [("hall", "the hall", "kitchen")[i % 3] for i in range(rows)],
        "tokens_RT": torch.ones(shape, dtype=torch.int64),
        "attend_RT": torch.ones(shape, dtype=torch.bool),
        "trained_RT": (torch.arange(TOKENS) >= 2).expand(shape) & (place != 3)[:, None],
        "turn_RT": torch.tensor([0, 0, 1, 2, 2]).expand(shape),
        "chosen_R": place % 2 == 0,
        "selected_RT": (place[:, None] + torch.arange(TOKENS)) % 2 == 0,
        "desirable_R": place % 2 == 0,
        "failed_R": place == 4,
        "greedy_R": place == 0,
        "model_score_R": torch.rand(rows, generator=draw, dtype=dtype),
        "weight_R": torch.full((rows,), 2 / max(1, rows)),
        "weight_RT": torch.full(shape, 1 / max(1, rows)),
    }
    if name in made:
        return made[name]
    axes = split_axes(name)[1]
    if name == "group_R" or (axes == "R" and SIGNALS.get(name) and SIGNALS[name].dtype == "int64"):
        return place // 2
    if axes == "R":
        return torch.rand(rows, generator=draw, dtype=torch.float64)
    return -torch.rand(shape, generator=draw, dtype=dtype)


def call(name, spec, rows, dtype=torch.float32):
    """Run a component on so many rows."""
    found = HERE[name]
    needed = {need.parameter for need in spec.requires()}
    columns = {p: column(p, rows, dtype) if p in needed else None for p in found.parameters()}
    for trained in LEARNT & set(columns):
        columns[trained].requires_grad_()
    if name == "reward.iou":  # its answers are boxes
        columns["prompt_P"] = [Task(i, "?", (1, 2), {"answer": [0, 0, 2, 2]}) for i in range((rows + 1) // 2)]
    return columns, target_of(name)(**columns, **spec.params())


def same(one, other):
    """Assert that two answers are the same to the bit."""
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0, equal_nan=True)


def test_table_is_whole():
    """Every slot has a spec file, and every spec file fills a slot, but for those of recipe and machine."""
    assert {found.slot for found in TABLE.values()} == set(SLOTS) - {"recipe", "machine"}


@pytest.mark.parametrize("name", HERE)
def test_signature_is_the_declaration(name):
    """Parameters are named as the required columns; keyword-only ones are the parameters of the spec.

    One that takes some of them as `**shared` is called with all of them by `test_tiny_batch`.
    """
    found, target = HERE[name], target_of(name)
    params = set(found.model_fields) - {"type", *found.lowered, *found._refs}
    if inspect.isclass(target):
        assert list(inspect.signature(target).parameters)[:2] == ["spec", "context"]
        if found.slot in DRIVEN:
            return
        target, params = target.draw if found.slot in SOURCES else target.__call__, KEYS if found.draws else set()
    columns = {"count"} if found.slot in SOURCES else set(found.parameters())
    parameters = [p for p in inspect.signature(target).parameters.values() if p.name != "self"]
    if found.slot == "reference":
        parameters.pop()  # the compiler gives it the images that the policy sees, where it sees any
    named = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    only = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        parameters.pop()
        assert named <= columns
        assert only <= params
    else:
        assert (named, only) == (columns, params)
    own = [p for p in parameters if not (found.draws and p.name in KEYS)]  # a call outside a step is keyed by 0
    assert all(p.default is p.empty for p in own), "a default would be said in two places"
    assert all(p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY} for p in parameters)


@pytest.mark.parametrize("name", CLASSES)
def test_constructor_takes_the_parts(name):
    """The keyword parameters of a class are the parts that its spec uses, and what the compiler decides."""
    found = HERE[name]
    assert keywords(target_of(name)) == set(() if found.slot in LOADED else found.uses) | DECIDED.get(name, set())


@pytest.mark.parametrize("name", CLASSES)
def test_classes_implement_their_protocol(name):
    """A class that a spec names inherits what the stage calls, and leaves nothing of it open."""
    target, slot = target_of(name), HERE[name].slot
    assert issubclass(target, PROTOCOLS.get(slot, protocols.Part))
    assert not inspect.isabstract(target), target.__abstractmethods__


@pytest.mark.parametrize("name", HERE)
def test_draws_are_declared(name):
    """A call takes what keys its draws if and only if the spec says that it draws."""
    target = target_of(name)
    taken = inspect.signature(target.__call__ if inspect.isclass(target) else target).parameters
    assert KEYS & set(taken) == (KEYS if HERE[name].draws else set())


@pytest.mark.parametrize("name", HERE)
def test_state_is_declared(name):
    """Who declares state has `state()` and `load()`."""
    target = target_of(name)
    if HERE[name].state:
        assert callable(target.state)
        assert callable(target.load)


@pytest.mark.parametrize("name", TABLE)
def test_defaults_are_valid(name):
    """Defaults obey their own bounds; what must be given is in this file's table, and nothing else is."""
    TypeAdapter(TABLE[name]).validate_python(spec_of(name).model_dump(by_alias=True))
    if name in REQUIRED:
        with pytest.raises(ValidationError):
            TABLE[name]()


@pytest.mark.parametrize("name", TABLE)
def test_json_round_trip(name):
    """A spec written as JSON and read again is the same spec."""
    spec = spec_of(name)
    assert TABLE[name].model_validate_json(spec.model_dump_json(by_alias=True)) == spec


@pytest.mark.parametrize("name", TABLE)
def test_nothing_unknown_gets_in(name):
    """A parameter that a component does not have is refused."""
    with pytest.raises(ValidationError):
        spec_of(name, no_such_knob=1)


@pytest.mark.parametrize("name", HERE)
def test_documented(name):
    """The docstring says in one sentence what it is, and where it comes from."""
    page = inspect.getdoc(HERE[name]) or ""
    assert page.splitlines()[0].endswith("."), page
    assert "\nReferences:\n" in page


@pytest.mark.parametrize("name", TABLE)
def test_knobs_are_documented(name):
    """Every parameter has a sentence; every number of an available component has a unit, or is listed here as pure."""
    found = TABLE[name]
    pure = PURE.get(f"{found.slot}.*", set())
    for param, info in found.model_fields.items():
        if param == "type":
            continue
        assert info.description
        assert info.description.endswith(".")
        unit = (info.json_schema_extra or {}).get("unit")
        assert unit or not numeric(info.annotation) or param in pure or name not in HERE, param


def test_runnable_components_are_found():
    """The table of runs is not empty by accident: all credit and objectives are plain functions."""
    assert {name for name, _ in RUNS} >= {name for name, found in HERE.items() if found.slot in {"advantage", "loss"}}
    assert set(VARIANTS) <= {name for name, _ in RUNS}
    assert all(inspect.isfunction(target_of(name)) for name, _ in RUNS)


@pytest.mark.parametrize(("name", "params"), RUNS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(RUNS)])
@pytest.mark.parametrize("rows", [0, 1, 2, 6])
def test_tiny_batch(name, params, rows):
    """Any number of rows gives the declared signals, finite, in the declared type, twice the same; gradients too."""
    rows = rows + rows % 2 if "by_pair_R" in HERE[name].parameters() else rows  # whole pairs
    spec = spec_of(name, **params)
    columns, made = call(name, spec, rows)
    own = set(spec.provides()) - COMPILED
    assert {key for key in made if not key.startswith("metric/")} == own
    for signal in own:
        assert made[signal].dtype == getattr(torch, SIGNALS[signal].dtype)
        shape = (rows, TOKENS) if signal.endswith("_RT") else (rows,)
        assert made[signal].shape == (() if signal == "loss" else shape)
    assert all(torch.isfinite(v).all() for v in made.values())
    same(made, call(name, spec, rows)[1])
    if "loss" in made:
        made["loss"].backward()
        (grad,) = (columns[name].grad for name in LEARNT & set(columns))
        assert torch.isfinite(grad).all()
        assert all(not v.requires_grad for key, v in made.items() if key.startswith("metric/"))


@pytest.mark.parametrize("name", [name for name, found in HERE.items() if found.slot == "loss"])
def test_double_precision_is_kept(name):
    """A loss of float64 log-probabilities is float64."""
    assert call(name, spec_of(name), 6, torch.float64)[1]["loss"].dtype == torch.float64


@pytest.mark.parametrize("name", HERE)
def test_implementation_exists(name):
    """The string that names the implementation leads to a public function or a class."""
    found = target_of(name)
    assert inspect.isclass(found) or inspect.isfunction(found)
    assert inspect.getdoc(found)
