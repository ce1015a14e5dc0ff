"""Write the weights of a policy with an adapter as one plain model."""

from __future__ import annotations

from pathlib import Path

import torch

from recipec.runtime.model import lora, weights
from recipec.runtime.model.cast import cast
from recipec.runtime.model.reward_model import is_reward_model
from recipec.runtime.model.state_files import disk_problems
from recipec.runtime.model.vision_families import KNOWN


def write_merged(policy: Path, target: Path) -> None:
    """Merge the adapter of a policy's folder into its base, in float32, and save model and tokenizer to ``target``.

    The saved weights have the data type of the base.

    Raises:
        RecipeError: RC737, the outputs are others than with the adapter; what the files of the policy are refused for.
    """
    sees = weights.read_json(policy / "config.json").get("model_type") in KNOWN
    weights.inspect_folder(policy, sees=sees)
    dtype = getattr(torch, str(weights.read_json(policy / "config.json").get("dtype", "float32")))
    with weights.quiet(), disk_problems():
        model = weights.load_model(policy, torch.float32, scalar=is_reward_model(policy))
        cast(lora.merge(model, policy), dtype).save_pretrained(target)
        weights.load_tokenizer(policy).save_pretrained(target)
