"""Whether a model that keeps a state between tokens continues rows as it computes them whole."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recipec.diagnostics.errors import rollout as errors
from recipec.diagnostics.model import RecipeError
from recipec.diagnostics.phrases import first_line
from recipec.runtime.rollout.kv_cache import CacheLayer, ModelRunner, empty_cache

_TOKENS = 8
_LARGEST = 0.1  # far above the rounding of bfloat16, far below the effect of a state that is lost


@torch.inference_mode()
def check_decoding(runner: ModelRunner) -> None:
    """Compare the logits of two rows of different lengths, decoded token after token, with those of the whole rows.

    Models with attention layers alone are not run: their cache is ours.

    Raises:
        RecipeError: RC893, they differ, or the model cannot continue a row.
    """
    plain = all(isinstance(layer, CacheLayer) for layer in empty_cache(runner.config, 1).layers)
    if runner.device.type == "meta" or (plain and not runner.inner._is_stateful):  # noqa: SLF001 - nothing else says it
        return
    try:
        different = max(_differences(runner))
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError, NotImplementedError) as error:
        raise RecipeError(errors.no_decoding(runner.config.model_type, first_line(error))) from error
    if different > _LARGEST:
        problem = f"its logits differ by {different:.0%} from those of the whole sequence"
        raise RecipeError(errors.no_decoding(runner.config.model_type, problem))


def _differences(runner: ModelRunner) -> Iterator[float]:
    """Yield the norm of the difference of the last logits, relative to how they vary, for each row."""
    tokens_RT = (torch.arange(2 * _TOKENS, device=runner.device) % runner.config.vocab_size).view(2, _TOKENS)
    rows = [tokens_RT[0], tokens_RT[1, 4:]]
    prompts = runner.prefill([tuple(row_T[:-2].tolist()) for row_T in rows])
    batch = prompts.select_rows(tokens_RT.new_tensor([0, 1]), 2)
    for t in (-2, -1):
        batch.append_tokens(tokens_RT[:, t, None])
    for row_T, decoded_V in zip(rows, batch.logits_RV, strict=True):
        whole_V: Tensor = runner.model(input_ids=row_T[None], use_cache=False).logits[0, -1].float()
        varies = float((whole_V - whole_V.mean()).norm())
        yield float((decoded_V.float() - whole_V).norm()) / varies if varies else 0.0
