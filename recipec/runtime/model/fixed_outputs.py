"""What a policy computes for a few fixed tokens: noted where it is saved, and compared where it is loaded."""

from __future__ import annotations

import torch
from torch import Tensor

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import read_manifest
from recipec.runtime.model.origin import Origin, folder_of
from recipec.runtime.protocols import Policy

KEY = "outputs"
"""Key of a manifest."""
_TOKENS, _FEWER = 16, 5
_SAME = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Largest difference, as a share of the largest output: kernels and machines round in other ways."""


@torch.no_grad()
def fixed_outputs(policy: Policy, tokens: int = _TOKENS) -> list[float]:
    """Return the logit of each of some tokens after those before it, or the score of a reward model for all of them.

    There are none where all ranks compute together, of quantized weights, which are saved as others, and of a model
    that was built without its weights.
    """
    if policy.layout.collective or policy.spec.quantized() or policy.model.device.type == "meta":
        return []
    count = min(tokens, policy.vocabulary, policy.max_positions)
    ids_1T = torch.arange(count, device=policy.device)[None]
    was = policy.model.training
    policy.model.eval()
    logits: Tensor = policy.model(input_ids=ids_1T, use_cache=False).logits.float()
    policy.model.train(was)
    if policy.is_reward_model:
        return [float(logits.flatten()[0])]
    return [float(one) for one in logits[0, :-1].gather(-1, ids_1T[0, 1:, None])[:, 0]]


def check(policy: Policy, origin: Origin) -> None:
    """Compare what a policy computes with what was noted when it was saved; nothing is noted of others.

    Raises:
        RecipeError: RC896, it computes something else.
    """
    if origin.kind != "directory" or origin.adapter_path is not None:
        return
    folder = folder_of(origin, policy.context)
    noted = (read_manifest(folder) or {}).get(KEY)
    found = fixed_outputs(policy)
    if not isinstance(noted, list) or not all(isinstance(one, float) for one in noted):
        return
    if not found or len(noted) != len(found):  # it has another head, or is quantized
        return
    # deep models amplify rounding: a shorter row shows by how much
    pairs = zip(fixed_outputs(policy, _FEWER), found, strict=False)
    rounding = 0.0 if policy.is_reward_model else max(abs(one - other) for one, other in pairs)
    difference = max(abs(one - other) for one, other in zip(noted, found, strict=True))
    largest = max(1.0, *map(abs, noted))
    if not difference <= max(_SAME[policy.model.dtype] * largest, 10 * rounding):
        raise RecipeError(errors.handed_over_differs(str(folder), difference))
