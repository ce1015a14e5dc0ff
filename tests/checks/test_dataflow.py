"""The dataflow that checks read agrees with the nodes that are lowered later."""

from pathlib import Path

from recipec.checks.dataflow import dataflow
from recipec.compile import compile_recipe
from recipec.lowering.lower import lower

RECIPES = Path(__file__).parents[2] / "recipes"
PAIRS = RECIPES / "tiny" / "reward_model.yaml"
LABELLED = """
recipec: 1
name: labelled
stages:
  one:
    kind: sft
    from: scratch
    policy: {type: causal_lm, scratch: {architecture: llama, hidden_size: 32, layers: 2, heads: 4, max_positions: 64}}
    data: {path: labelled.jsonl}
    loss: {type: kto}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 1, rows_per_step: 8}
"""
LEVELS = {"reward_R", "advantage_R", "advantage_RT"}
"""Sums of these read every level, which the dataflow writes as `level:`."""
DIFFERENT = {
    "sum_step_rewards": "one node of the dataflow stands for sums of rewards of rows and of steps",
    **dict.fromkeys(("whiten", "whiten_tokens"), "in the dataflow, a part of the sum of the levels"),
    "value_loss": "in the dataflow, a critic is one part: its values, its loss and its optimizer",
    "episode_returns": "in the dataflow, the reward itself provides what this node computes from its value",
}


def test_the_compilers_own_nodes_are_the_same_in_checks_and_graph() -> None:
    """Each node that lowering adds to a shipped recipe is one of its dataflow, with the same inputs and outputs."""
    checked, found = set[str](), list[str]()
    files = [compile_recipe(str(file)) for file in sorted(RECIPES.rglob("*.yaml"))]
    margins = compile_recipe(str(PAIRS), ["stages.judge.loss={type: bradley_terry, margin: column}"])
    for compiled in (*files, margins, compile_recipe("labelled.yaml", text=LABELLED)):
        if compiled.recipe is None or not compiled.ok:
            continue
        for stage in lower(compiled.recipe).stages:
            producers = [step for step in dataflow(compiled.reading.stages[stage.name]).steps if step.part is None]
            for node in stage.nodes():
                if node.slot != "compiler" or node.type in DIFFERENT:
                    continue
                checked.add(node.type)
                needs = {value.value.signal for value in node.inputs} - LEVELS
                if not any(set(node.outputs) <= {*step.gives} and needs <= {*step.needs} for step in producers):
                    found.append(f"{compiled.recipe.name}: {node.id} needs {sorted(needs)} and gives {node.outputs}")
    assert not found
    assert {"weigh", "collate_pairs", "collate_labelled", "collate_margins", "images_of_prompts"} <= checked
