"""Credit against numbers made by the papers' own functions (`data/tree_credit.json`, `data/step_credit.json`)."""

import json
from pathlib import Path

import pytest
import torch

from recipec.runtime.objective.advantage import group_relative, rloo

DATA = Path(__file__).parent / "data"
TREES = json.loads((DATA / "tree_credit.json").read_text())["cases"]
STEPS = json.loads((DATA / "step_credit.json").read_text())["cases"]


def close(made, expected):
    """Assert equality within 1e-6: the authors divide lone rewards by a float32 1 + 1e-6."""
    torch.testing.assert_close(made, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=1e-6)


def credit(value, group, epsilon, episode_id=None, **params):
    """Credit without failures."""
    value_R = torch.as_tensor(value, dtype=torch.float64)
    params = {"weight": 1.0, "scale": "std", "singleton": "raw", "statistics": "rows", "epsilon": epsilon, **params}
    episodes_R = None if episode_id is None else torch.tensor(episode_id)
    return group_relative(value_R, torch.tensor(group), value_R.isnan(), episodes_R, **params)["advantage_R"]


@pytest.mark.parametrize("case", TREES, ids=lambda case: case["id"])
def test_tree_grpo(case):
    """Two levels, by prompt and by tree, that add; or one normalised again in the other; or leave-one-out."""
    across = credit(case["reward"], case["by_prompt"], case["epsilon"])
    within = credit(case["reward"], case["by_tree"], case["epsilon"])
    close(across, case["expected"]["inter"])
    close(within, case["expected"]["intra"])
    close(across + within, case["expected"]["combined"])
    close(credit(across, case["by_tree"], case["epsilon"]), case["expected"]["sequential"])
    value_R = torch.tensor(case["reward"], dtype=torch.float64)
    left_out = rloo(value_R, torch.tensor(case["by_prompt"]), value_R.isnan(), weight=1.0, singleton="raw")
    close(left_out["advantage_R"], case["expected"]["rloo_prompt"])


@pytest.mark.parametrize("case", STEPS, ids=lambda case: case["id"])
def test_gigpo(case):
    """Episode scores by prompt (over rows, or each episode once), returns by anchor state, and their sum."""
    scale = "std" if case["normalization"] == "mean_std_norm" else "none"
    score, epsilon = case["episode_score"], case["epsilon"]
    episode = credit(score, case["by_prompt"], epsilon, scale=scale)
    once = credit(score, case["by_prompt"], epsilon, case["episode_id"], scale=scale, statistics="trajectories")
    step = credit(
        case["step_score"], case["by_anchor"], epsilon, scale=scale, singleton="zero", weight=case["step_weight"]
    )
    close(episode, case["expected"]["episode"])
    close(once, case["expected"]["episode_per_trajectory"])
    close(step, [case["step_weight"] * a for a in case["expected"]["step"]])
    close(episode + step, case["expected"]["joint"])
