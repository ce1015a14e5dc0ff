"""The choice of attention, written into the graph: a pass over stages with attention `auto`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from recipec.graph import Graph, Node, StageGraph
from recipec.planning.sharing import Sharing
from recipec.spec.attention import Auto
from recipec.spec.train_engine import TrainEngine


def choose_attention(graph: Graph, sharing: Mapping[str, Sharing | None]) -> Graph:
    """Decide which attention computes each stage, where the recipe alone fixes how much its samples share.

    The choice and its reason are in ``decided`` of the stage's attention node.  Where sharing depends on what is
    sampled nothing is decided here, and the first samples of the run decide.
    """
    return replace(graph, stages=tuple(_decided(stage, sharing.get(stage.name)) for stage in graph.stages))


def _decided(stage: StageGraph, sharing: Sharing | None) -> StageGraph:
    if stage.required(TrainEngine).sequence_partitions() > 1:
        decided = {"choice": "packed", "reason": "the tokens of a row are spread over devices"}
    elif sharing is None or not sharing.fixed:
        return stage
    else:
        decided = {"choice": sharing.best, "reason": sharing.reason}

    def decide(node: Node) -> Node:
        return replace(node, decided=decided) if isinstance(node.spec, Auto) else node

    return replace(stage, setup=tuple(decide(node) for node in stage.setup))
