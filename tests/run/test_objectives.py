"""Objectives and what they combine with: each is trained for a step, from its recipe to a policy."""

import itertools
import json
from typing import Any

import pytest
import torch
from support.small_recipes import MODEL, Folder, rows

from recipec.compile import check_recipe
from recipec.runtime.objective.preference_losses import kto
from recipec.runtime.training.local_engine import metrics_of

LOSSES = {
    "clipped": "{type: clipped, ratio: product, aggregate: seq_mean_token_mean}",
    "cispo": "{type: cispo}",
    "sapo": "{type: sapo}",
    "clip_cov": "{type: clip_cov, share: 0.1, lowest: -1.0}",
    "kl_cov": "{type: kl_cov, share: 0.1}",
    "gmpo": "{type: gmpo, aggregate: seq_mean_token_mean}",
}
ADDED = {
    "alone": "",
    "kl": "beta: 0.1, entropy: 0.01",
    "prompts": "aggregate: prompt_mean",
    "corrected": "sampler_correction: clip, sampler_correction_level: geometric, sampler_correction_floor: 0.5, "
    "sampler_correction_normalised: true",
}
PROMPTS = rows(*({"prompt": f"p{i}"} for i in range(4)))


def recipe(loss: str, added: str) -> str:
    """Write a recipe of two steps, two updates each."""
    said = LOSSES[loss].removesuffix("}")
    said = said.replace(", aggregate: seq_mean_token_mean", "") if added == "prompts" else said
    return f"""\
recipec: 1
name: small
stages:
  explore:
    kind: rl
{MODEL}\
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 4, max_completion_length: 6}}
    reward: {{low: {{type: regex_format, pattern: "[ -n].*"}}}}
    advantage: {{group: {{type: group_relative}}}}
    loss: {said}, {ADDED[added]}}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 2, prompts_per_step: 4, updates_per_step: 2, microbatch_tokens: 64}}
    allow: {{RC428: "tested without another engine", RC408: "a mean over prompts"}}
"""


@pytest.mark.parametrize(("loss", "added"), list(itertools.product(LOSSES, ADDED)))
def test_objectives_compile(loss: str, added: str) -> None:
    """Every objective takes what all share."""
    checked = check_recipe("r.yaml", text=recipe(loss, added))
    assert checked.ok, checked.diagnostics


@pytest.mark.parametrize(("loss", "added"), list(zip(LOSSES, itertools.cycle(ADDED))))
def test_objectives_train(loss: str, added: str, folder: Any) -> None:
    """A stage with the objective moves its policy, and its metrics are finite."""
    assert isinstance(folder, Folder)
    ended = folder.run(recipe(loss, added), a__jsonl=PROMPTS)
    assert ended.code == 0, ended.err
    stage = folder.path / "runs/small/stages/explore"
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2
    assert all(line["grad_norm"] > 0 for line in lines if line.get("step"))


PAIRED = {
    "cpo": "{type: cpo, variant: hinge}",
    "simpo": "{type: simpo, nll: 0.5}",
    "orpo": "{type: orpo}",
    "rpo": "{type: dpo, nll: 1.0}",
}
PAIRS = rows(*({"prompt": f"p{i}", "chosen": "aa" + "b" * (i % 3), "rejected": f"c{i}"} for i in range(8)))
PREFER = f"""\
recipec: 1
name: small
stages:
  prefer:
    kind: dpo
{MODEL}\
    data: {{path: a.jsonl}}
    loss: LOSS
    optimizer: {{learning_rate: 2.0e-2}}
    budget: {{epochs: 4, pairs_per_step: 8, microbatch_tokens: 24}}
"""


@pytest.mark.parametrize("loss", PAIRED)
def test_pairs_are_learned(loss: str, folder: Any) -> None:
    """The preferred answer gets likelier than the other one; without a reference in the loss, none is computed."""
    assert isinstance(folder, Folder)
    ended = folder.run(PREFER.replace("LOSS", PAIRED[loss]), a__jsonl=PAIRS)
    assert ended.code == 0, ended.err
    stage = folder.path / "runs/small/stages/prefer"
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    first, *_, last = (line for line in lines if line.get("step"))
    assert last["loss"] < first["loss"]
    assert last["rewards/margins"] > first["rewards/margins"]
    graph = check_recipe("r.yaml", text=PREFER.replace("LOSS", PAIRED[loss]))
    assert graph.recipe is not None
    needed = {need.signal for need in graph.recipe.stages["prefer"].loss.requires()}
    assert ("ref_logprob_RT" in needed) is (loss == "rpo")


LABELLED = rows(
    *(
        {"prompt": f"p{i}", "completion": "aa" + "b" * (i % 3) if i % 2 else f"c{i}", "label": bool(i % 2)}
        for i in range(8)
    )
)
KTO = PREFER.replace("kind: dpo", "kind: sft").replace("pairs_per_step", "rows_per_step").replace("LOSS", "{type: kto}")


def test_labelled_answers_are_learned(folder: Any) -> None:
    """Good answers gain over bad ones; half of the rows are computed once, for the baseline; a label is needed."""
    assert isinstance(folder, Folder)
    recipe = KTO.replace("rows_per_step: 8", "rows_per_step: 8, rows_per_update: 4")
    ended = folder.run(recipe, a__jsonl=LABELLED)
    assert ended.code == 0, ended.err
    stage = folder.path / "runs/small/stages/prefer"
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    first, *_, last = (line for line in lines if line.get("step"))
    assert last["loss"] < first["loss"]
    assert last["rewards/desirable"] - last["rewards/undesirable"] > 0
    assert last["kl"] >= 0
    ended = folder.run(KTO, "--out", "other", a__jsonl=LABELLED.replace('"label": true', '"label": null', 1))
    assert (ended.code, ended.first) == (1, "RC891")
    assert "--> a.jsonl:2:1" in ended.err
    ended = folder.run(KTO.replace("rows_per_step: 8", "rows_per_step: 1"), "--out", "alone", a__jsonl=LABELLED)
    lines = (folder.path / "alone/stages/prefer/metrics.jsonl").read_text().splitlines()
    alone = [json.loads(line) for line in lines]
    assert {line["kl"] for line in alone} == {0.0}  # no other answer is in the step
    labels = {tuple(sorted(name for name in line if name.endswith("desirable"))) for line in alone if line.get("step")}
    assert labels == {("rewards/desirable",), ("rewards/undesirable",)}  # a step of one row has one kind


def test_rewards_of_labelled_answers_are_means_over_their_kind() -> None:
    """However a minibatch is cut; TRL's `rewards/chosen` and `rewards/rejected` are such means."""
    generator = torch.Generator().manual_seed(3)
    logprob_RT, ref_RT = (-torch.rand(5, 4, generator=generator) for _ in range(2))
    trained_RT, good_R = torch.ones(5, 4).bool(), torch.tensor([True, True, False, True, False])
    baseline_R, weight_R = torch.full((5,), 0.1), torch.full((5,), 0.2)
    columns = (logprob_RT, ref_RT, trained_RT, good_R, baseline_R, weight_R)
    settings = {"beta": 0.3, "desirable_weight": 2.0, "undesirable_weight": 1.0}
    reward_R = 0.3 * (logprob_RT - ref_RT).sum(-1)
    for cuts in ([(0, 5)], [(0, 2), (2, 5)], [(0, 1), (1, 2), (2, 3), (3, 5)]):
        counts = []
        for start, end in cuts:
            made = kto(*(column[start:end] for column in columns), **settings)
            sums = {name.removeprefix("metric/"): value.tolist() for name, value in made.items()}
            counts.append({"sums": sums, "weight": 0.0, "entropy": 0.0, "gap": None})
        found = metrics_of(counts, 1.0)
        assert found["rewards/desirable"] == pytest.approx(float(reward_R[good_R].mean()), rel=1e-5)
        assert found["rewards/undesirable"] == pytest.approx(float(reward_R[~good_R].mean()), rel=1e-5)
        assert found["kl"] == pytest.approx(0.1)
