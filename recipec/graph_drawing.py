"""Draw a graph as a text tree or as a Mermaid chart."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.graph import Graph, Loop, Node, StageGraph


def to_text(graph: Graph) -> str:
    """Return a graph as a text tree, with nodes in execution order."""
    lines = [f"{graph.name}, seed {graph.seed}"]
    for stage in graph.stages:
        lines += ["", f"stage {stage.name} ({stage.kind}, from: {stage.origin})  {stage.digest}"]
        width = max(len(node.name) for node in stage.nodes()) + 8
        lines += _branch((*stage.before, stage.loop), "", width)
        lines.append(f"   produces: {', '.join(f'{stage.name}.{artifact}' for artifact in stage.artifacts)}")
        lines += [f"   skipped: {removal.what} ({removal.why})" for removal in stage.removed]
    return "\n".join(lines) + "\n"


def _branch(items: tuple[Node | Loop, ...], indent: str, width: int) -> Iterator[str]:
    for place, item in enumerate(items):
        last = place == len(items) - 1
        stem = f"{indent}{'└─' if last else '├─'} "
        if isinstance(item, Loop):
            yield f"{stem}loop over {item.over}, carrying {', '.join(item.carries)}"
            yield from _branch(item.body, f"{indent}{'   ' if last else '│  '}", width)
        else:
            outputs = f" -> {', '.join(item.outputs)}" if item.outputs else ""
            yield f"{stem}{item.name}".ljust(width) + f" {item.type}{outputs}"


def to_mermaid(graph: Graph) -> str:
    """Return a graph as a Mermaid flow chart: a box per stage and per loop, edges labelled with signals."""
    numbers = {node.id: f"n{i}" for i, node in enumerate(node for stage in graph.stages for node in stage.nodes())}
    lines = ["flowchart TD"]
    for place, stage in enumerate(graph.stages):
        lines.append(f'  subgraph s{place}["{stage.name}: {stage.kind}, from {_quoted(stage.origin)}"]')
        lines += _boxes((*stage.before, stage.loop), numbers, f"s{place}", "    ")
        lines.append("  end")
        lines += _edges(stage, numbers)
        for parent, earlier in enumerate(graph.stages):
            if earlier.name == stage.origin:
                lines.append(f"  s{parent} -->|policy| s{place}")
    return "\n".join(lines) + "\n"


def _boxes(items: tuple[Node | Loop, ...], numbers: dict[str, str], prefix: str, indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, Loop):
            yield f'{indent}subgraph {prefix}_{item.over}["{item.over}, carrying {", ".join(item.carries)}"]'
            yield from _boxes(item.body, numbers, f"{prefix}_{item.over}", indent + "  ")
            yield f"{indent}end"
        else:
            opening, closing = ("([", "])") if item.slot == "compiler" else ("[", "]")
            yield f'{indent}{numbers[item.id]}{opening}"{item.name}<br/>{item.type}"{closing}'


def _edges(stage: StageGraph, numbers: dict[str, str]) -> Iterator[str]:
    for node in stage.nodes():
        signals: dict[str, list[str]] = {}
        for column in node.inputs:
            signals.setdefault(column.value.node, []).append(column.value.signal)
        for source, names in signals.items():
            yield f'  {numbers[source]} -->|"{", ".join(dict.fromkeys(names))}"| {numbers[node.id]}'


def _quoted(text: str) -> str:
    return text.replace('"', "#quot;")
