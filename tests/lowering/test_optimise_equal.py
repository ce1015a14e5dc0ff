"""What the optimiser leaves out changes neither loss nor gradient: each rewrite is run against the graph without it."""

import json

import pytest
import torch
from safetensors.torch import load_file
from support.small_recipes import MODEL, RL, rows

from recipec.compile import check_recipe
from recipec.host.options import Options
from recipec.host.progress import Progress
from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.run.executor import run as execute

ROWS = rows(
    *({"prompt": f"p{i}", "completion": "c", "chosen": "a" * (1 + i % 4), "rejected": f"b{i}"} for i in range(12))
)
EXPLORE = (
    RL.replace("use: [./rewards.py]\n", "")
    .replace("{type: function, name: score}", '{type: regex_format, pattern: "[ -n].*"}')
    .replace("num_generations: 2, max_completion_length: 4", "num_generations: 4, max_completion_length: 9")
    .replace("steps: 2, prompts_per_step: 2", "steps: 1, prompts_per_step: 8, microbatch_tokens: 40")
)
PREFER = f"""\
recipec: 1
name: small
stages:
  prefer:
    kind: dpo
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{epochs: 2, pairs_per_step: 5, microbatch_tokens: 30}}
"""


def ended(recipe, home, rewrites):
    """Run a recipe with some of the rewrites; return its metrics and the tensors of its last checkpoint."""
    (home / "a.jsonl").write_text(ROWS)
    checked = check_recipe("r.yaml", text=recipe)
    assert checked.recipe is not None, checked.diagnostics
    assert checked.ok, checked.diagnostics
    graph = optimise(lower(checked.recipe), only=rewrites)
    out = home / "-".join(["run", *rewrites])
    try:
        outcome = execute(graph, Options(root=home, out=out), Progress(quiet=True))
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert outcome.finished, outcome.diagnostics
    (stage,) = (out / "stages").iterdir()
    metrics = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    last = max((stage / "checkpoints").iterdir())
    return graph, metrics, load_file(last / "state.safetensors")


def compare(recipe, home, rewrite, tolerance):
    """Run a recipe with and without a rewrite and compare losses, gradients, moments and weights."""
    _, plain, expected = ended(recipe, home, ())
    graph, found, tensors = ended(recipe, home, (rewrite,))
    assert graph.stages[0].removed
    assert len(found) == len(plain)
    for one, other in zip(found, plain, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=tolerance, abs=tolerance)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=tolerance)
        assert other["grad_norm"] > 0
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        difference = (tensor.double() - expected[name].double()).norm()
        assert difference <= tolerance * expected[name].double().norm(), name
    return found


def test_the_old_pass(tmp_path):
    """With one update a batch the ratio is 1 whether the old policy is scored by itself or not."""
    found = compare(EXPLORE, tmp_path, "drop_old_pass", 1e-6)
    assert found[0]["reward_std"] > 0


def test_the_old_pass_under_kl_and_entropy(tmp_path):
    """The other terms of the objective, and a turn's ratio, do not mind either."""
    loss = "{type: clipped, beta: 0.1, entropy: 0.01, ratio: sequence}"
    compare(EXPLORE.replace("{type: clipped}", loss), tmp_path, "drop_old_pass", 1e-6)


def test_a_reference_that_nobody_reads(tmp_path):
    """Without it every bit is the same."""
    asked = EXPLORE.replace("    loss:", "    reference: {type: frozen}\n    loss:")
    compare(asked, tmp_path, "drop_reference", 0.0)


@pytest.mark.parametrize(
    "budget",
    [
        "steps: 1, prompts_per_step: 8, microbatch_tokens: 40",
        "steps: 1, prompts_per_step: 8, microbatch_tokens: 40, updates_per_step: 2, passes: 2",
        "steps: 1, prompts_per_step: 8, microbatch_tokens: 4096",
    ],
)
@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean_token_mean", "fixed, normaliser: 9"])
def test_rows_without_credit(tmp_path, budget, aggregate):
    """Denominators count the rows that were left out, in one micro-batch, in many, and over several updates."""
    recipe = EXPLORE.replace("steps: 1, prompts_per_step: 8, microbatch_tokens: 40", budget)
    recipe = recipe.replace("{type: clipped}", f"{{type: clipped, aggregate: {aggregate}}}")
    found = compare(recipe, tmp_path, "drop_zero_credit", 1e-6)
    assert 0 < found[0]["frac_reward_zero_std"] < 1


def test_no_row_with_credit(tmp_path):
    """Where every row is left out the optimizer still steps, with no gradient at all."""
    equal = EXPLORE.replace("[ -n].*", ".*")
    for rewrites in ((), ("drop_zero_credit",)):
        _, (metrics,), tensors = ended(equal, tmp_path, rewrites)
        assert metrics["frac_reward_zero_std"] == 1
        assert metrics["grad_norm"] == 0
        assert metrics["loss"] == 0
        moments = [tensor for name, tensor in tensors.items() if "optimizer" in name and tensor.dim() > 0]
        assert moments
        assert not any(tensor.any() for tensor in moments)


def test_a_cached_reference(tmp_path):
    """Over two epochs in different orders each pair meets the log-probabilities that the frozen copy gives."""
    found = compare(PREFER, tmp_path, "cache_reference", 1e-6)
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 6]
    assert found[0]["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert found[-1]["rewards/margins"] > 1e-3
