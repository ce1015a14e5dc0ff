"""The grammar of a graph: what every compiled recipe obeys, or a pass of the compiler is broken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from recipec.graph import SECTIONS, Graph, Loop, Value, in_recipe
from recipec.signals import find_signal, split_axes

# each rule yields what is wrong, in words


def _ids(graph: Graph) -> Iterator[str]:
    ids = [node.id for stage in graph.stages for node in stage.nodes()]
    yield from (f"the id `{i}` is used twice" for i in sorted({i for i in ids if ids.count(i) > 1}))
    names = [stage.name for stage in graph.stages]
    yield from (f"the stage `{n}` is there twice" for n in sorted({n for n in names if names.count(n) > 1}))


def _sources(graph: Graph) -> Iterator[str]:
    for stage in graph.stages:
        values: set[Value] = set()
        for node in stage.nodes():
            for column in node.inputs:
                if column.value not in values:
                    yield f"`{node.id}` reads `{column.value.signal}` of `{column.value.node}`, not made before"
            values |= {Value(signal, node.id) for signal in node.outputs}


def _parts(graph: Graph) -> Iterator[str]:
    for stage in graph.stages:
        known = {node.id for node in (*stage.setup, *stage.nodes())}
        for node in (*stage.setup, *stage.nodes()):
            for part in node.parts:
                if part.value.node not in known:
                    yield f"`{node.id}` is built from `{part.value.node}`, which is not there"


def _axes(graph: Graph) -> Iterator[str]:
    for stage in graph.stages:
        for node in stage.nodes():
            for column in node.inputs:
                if split_axes(column.parameter)[1] != split_axes(column.value.signal)[1]:
                    yield f"`{node.id}` takes `{column.value.signal}` as `{column.parameter}`, and the axes differ"


def _signals(graph: Graph) -> Iterator[str]:
    for stage in graph.stages:
        for node in stage.nodes():
            yield from (
                f"`{node.id}` makes `{s}`, which is not a signal" for s in node.outputs if find_signal(s) is None
            )


def _digests(graph: Graph) -> Iterator[str]:
    for stage in graph.stages:
        for owner, digest in [(stage.name, stage.digest), *((node.id, node.digest) for node in stage.nodes())]:
            if len(digest) != 16 or not set(digest) <= set("0123456789abcdef"):
                yield f"`{owner}` has no digest"


def _loops(graph: Graph) -> Iterator[str]:
    for stage in graph.stages:
        inner = [item for item in stage.loop.body if isinstance(item, Loop)]
        if stage.loop.over != "steps" or [loop.over for loop in inner] not in (["updates"], ["resamples", "updates"]):
            yield f"`{stage.name}` is not a loop over steps around one over updates, with one over resamples before"
        for loop in (stage.loop, *inner):
            one, other = ("cursors", "draws") if loop.over == "resamples" else ("weights", "optimizer")
            if not {one, other} <= set(loop.carries):
                yield f"`{loop.id}` carries neither {one} nor {other}"


def _readers(graph: Graph) -> Iterator[str]:
    nodes = (node.id for stage in graph.stages for node in (*stage.setup, *stage.nodes()))
    known = {*SECTIONS, *(stage.name for stage in graph.stages), *nodes}
    yield from (
        f"the key `{key}` went to `{reader}`, which is not there"
        for key, reader in graph.consumed.items()
        if reader not in known
    )


GRAPH_SPEC: tuple[Callable[[Graph], Iterator[str]], ...] = (
    _ids,
    _sources,
    _parts,
    _axes,
    _signals,
    _digests,
    _loops,
    _readers,
)


def verify(
    graph: Graph, spec: tuple[Callable[[Graph], Iterator[str]], ...] = GRAPH_SPEC, keys: Collection[str] = ()
) -> Graph:
    """Return the graph if it obeys its own grammar and has read every one of ``keys``.

    Raises:
        TypeError: it does not: a pass is broken.
    """
    problems = [words for rule in spec for words in rule(graph)]
    problems += [f"nothing read the key `{key}`" for key in keys if not in_recipe(graph, key)]
    if problems:
        raise TypeError(f"{graph.name}: " + "; ".join(problems))
    return graph
