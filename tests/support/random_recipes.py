"""Random valid recipes, drawn from the models themselves: a new parameter is drawn without a word here."""

import re
import types
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from recipec.component import Component, Section, components_of, is_origin, is_signal
from recipec.spec.environment import Retriever
from recipec.spec.machine import Machine, Service
from recipec.spec.recipe import SLOTS, UNIT, Budget, Evaluation, Recipe, Sampling, Stage

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "scratch")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
"""Any text at all: quotes, control characters, words that look like numbers, ${references}."""
TRICKY = st.sampled_from(
    ["no", "1e-5", "0x1F", "null", "~", "", " a", "a: b", "${x}", "\\${x}", "\\\\${", "- a", "a #b"]
)
RETRIEVERS = st.just(Retriever()) | st.builds(
    Retriever, type=st.just("http"), service=NAMES, retries=st.integers(0, 9), top_k=st.integers(1, 9)
)
CHECKED = {
    "retriever": RETRIEVERS,
    "history": st.integers(0, 99) | st.just("append_only"),
    "pattern": TEXTS.map(re.escape),
    "embedder": st.sampled_from(["./models/a", "../b", "/c", "package:tiny"]),
}
"""Parameters of which a validator would refuse nearly everything."""
METRICS = st.sampled_from(["accuracy", "reward", "majority", "avg@4", "pass@16"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def values(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    """Draw what one parameter takes."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        more = [m for item in args[1:] for m in (item.metadata if isinstance(item, FieldInfo) else [item])]
        form = getattr(more[-1], "pattern", None) if more else None
        if form is not None and re.match(form, "avg@4"):
            return METRICS
        return values(args[0], more if form is not None else [*metadata, *more])
    if origin in {Union, types.UnionType}:
        return st.one_of([values(choice, metadata) for choice in args])
    if origin is tuple:
        one = values(args[0], [])
        fewest = next((m.min_length for m in metadata if hasattr(m, "min_length")), 0)
        return (
            st.lists(one, min_size=fewest, max_size=3).map(tuple) if Ellipsis in args else st.tuples(*[one] * len(args))
        )
    low, high = (next((v for m in metadata for s in signs if (v := getattr(m, s, None)) is not None), None)
                 for signs in (("ge", "gt"), ("le", "lt")))  # fmt: skip
    above, below = (any(hasattr(m, sign) for m in metadata) for sign in ("gt", "lt"))
    simple = {
        Literal: lambda: st.sampled_from(args),
        dict: lambda: st.dictionaries(
            NAMES,
            sections(args[1]) if isinstance(args[1], type) and issubclass(args[1], Section) else ANYTHING,
            min_size=next((m.min_length for m in metadata if hasattr(m, "min_length")), 0),
            max_size=2,
        ),
        int: lambda: st.integers(-(2**62) if low is None else low + above, 2**62 if high is None else high - below),
        float: lambda: st.floats(
            low, high, exclude_min=above, exclude_max=below, allow_nan=False, allow_infinity=False
        ),
        bool: st.booleans,
        str: lambda: _texts(metadata),
        type(None): st.none,
    }
    return simple[origin or annotation]() if (origin or annotation) in simple else sections(annotation)


def _texts(metadata: list[Any]) -> st.SearchStrategy[str]:
    form = next((m.pattern for m in metadata if getattr(m, "pattern", None)), None)
    if form:  # Python's `$` lets one line end pass, the models' does not
        return st.from_regex(form, alphabet=st.characters(codec="ascii")).filter(lambda text: not text.endswith("\n"))
    return (TEXTS | TRICKY).filter(len) if any(hasattr(m, "min_length") for m in metadata) else TEXTS | TRICKY


def _accepted(cls: type[Section], params: dict[str, Any]) -> Section | None:
    """Build a section, or nothing where parameters that are right by themselves are refused together."""
    try:
        return cls(**params)
    except ValidationError as error:
        if any(found["type"] != "value_error" for found in error.errors()):
            raise
        return None


@cache  # a strategy of hypothesis takes longer to build than to draw from
def sections(cls: type[Section]) -> st.SearchStrategy[Section]:
    """Draw a section: every parameter given, or left to its default."""
    required, optional = {}, {}
    for name, info in cls.model_fields.items():
        if name == "type":
            continue
        drawn = values(info.annotation, list(info.metadata))
        if is_signal(info):
            drawn = st.sampled_from(["by_prompt_R", "reward_R", "old_logprob_RT", "learn.rollouts"])
        elif is_origin(info):
            drawn = st.sampled_from(["learn", "./models/a", "org/name", "package:tiny", "scratch"])
        drawn = drawn if info.annotation is int else CHECKED.get(name, drawn)
        (required if info.is_required() else optional)[name] = drawn
    if "hub" in optional:
        del optional["path"], optional["hub"]
        place = st.one_of([st.fixed_dictionaries({key: (TEXTS | TRICKY).filter(len)}) for key in ("path", "hub")])
        drawn = st.tuples(place, st.fixed_dictionaries(required, optional=optional)).map(lambda d: {**d[0], **d[1]})
    else:
        drawn = st.fixed_dictionaries(required, optional=optional)
    return drawn.map(lambda params: _accepted(cls, params)).filter(lambda made: made is not None)


@cache
def components(slot: str, among: tuple[str, ...] = ()) -> st.SearchStrategy[Component]:
    """Draw a component of a slot."""
    return st.one_of([sections(cls) for name, cls in components_of(slot).items() if not among or name in among])


@cache
def budgets(kind: str) -> st.SearchStrategy[Budget]:
    """Draw a budget in the unit of a kind."""
    counts = st.integers(1, 100)
    cut = st.sampled_from(["updates_per_step", "rows_per_update", *(["prompts_per_update"] if kind == "rl" else [])])
    rest = st.fixed_dictionaries(
        {},
        optional={"passes": counts, "shuffle_rows": st.booleans(), "keep": st.integers(2, 9), "save_every": counts},
    )
    return st.builds(
        lambda length, steps, size, cut, rest: Budget(**{length: steps, UNIT[kind]: size, **cut, **rest}),
        st.sampled_from(["steps", "epochs"]),
        counts,
        counts,
        st.just({}) | st.dictionaries(cut, counts, min_size=1, max_size=1),
        rest,
    )


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    """Draw a stage whose slots are those of its kind."""
    kind = draw(st.sampled_from(["rl", "sft", "dpo"]))
    origin = draw(st.sampled_from(["learn", "./models/a", "../b", "org/name@main", "package:tiny", "scratch"]))
    held: dict[str, Any] = {}
    for slot in SLOTS:
        needed = slot.in_kind(kind)
        if needed == "no" or (needed == "may" and draw(st.booleans())):
            continue
        one = components(slot.name)
        held[slot.name] = draw(st.dictionaries(NAMES, one, min_size=1, max_size=2) if slot.levels else one)
    if kind == "rl":
        held["combine"] = draw(st.sampled_from(["sum", "sequential", "per_token"]))
    adapter = draw(st.sampled_from([None, "continue", "merge"]))
    allow = draw(st.dictionaries(st.sampled_from(["RC142"]), TEXTS.filter(str.strip), max_size=1))
    return Stage(kind=kind, from_=origin, adapter=adapter, budget=draw(budgets(kind)), allow=allow, **held)


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    """Draw an evaluation."""
    rest = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "sampler": sections(Sampling),
                "reward": st.dictionaries(NAMES, components("reward"), max_size=2),
                "every": st.integers(1, 99),
                "correct_at": st.floats(0, 1),
                "metrics": st.lists(METRICS, max_size=3).map(tuple),
            },
        )
    )
    return Evaluation(data=draw(components("data")), **rest)


def machines() -> st.SearchStrategy[Machine]:
    """Draw a machine."""
    return st.builds(
        Machine,
        device=st.sampled_from(["auto", "cpu", "cuda"]),
        devices=st.integers(1, 9),
        threads=st.none() | st.integers(1, 9),
        train=components("train_engine"),
        rollout=components("rollout_engine"),
        services=st.dictionaries(NAMES, st.builds(Service, url=TEXTS), max_size=2),
    )


def recipes() -> st.SearchStrategy[Recipe]:
    """Draw a recipe."""
    return st.builds(
        Recipe,
        recipec=st.just(1),
        name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True),
        seed=st.integers(0, 2**63 - 1),
        use=st.lists(st.sampled_from(["./rewards.py", "a b.py", "own/x.py"]), max_size=2, unique=True).map(tuple),
        stages=st.dictionaries(NAMES, stages(), min_size=1, max_size=2),
        evaluate=st.dictionaries(NAMES, evaluations(), max_size=1),
        machine=machines(),
        trackers=st.dictionaries(NAMES, components("tracker"), max_size=1),
    )
