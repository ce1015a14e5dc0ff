"""Log-probabilities of token sequences under a model in memory, without a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recipec.component import find_component
from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import pad_rows
from recipec.runtime.context import cache_folder
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.given_model import GivenModel
from recipec.runtime.model.lora import base_model


def sequence_logprobs(
    model: nn.Module,
    sequences: Sequence[Sequence[int] | Tensor],
    *,
    attention: Literal["trie", "packed", "dense", "auto"] = "trie",
    temperature: float = 1.0,
) -> list[Tensor]:
    """Return, for each sequence of token ids, the log-probability of every token but the first.

    Entry t - 1 of a result is log p(token t | tokens before t), in nats and float32, with the logits divided by
    ``temperature``.  Gradients flow to the model.  With ``trie``, common prefixes go through the model once, forward
    and backward; the results are those of each sequence on its own.  Sequences need no padding; one of fewer than two
    tokens gives an empty result.

    Outside this function the model attends as before; one that used a flash-attention package uses torch's kernels.
    Certificates are kept in the user's cache folder.

    Args:
        model: A Hugging Face causal language model, on any device.
        sequences: Token ids; lists, or tensors of one axis.
        attention: How sequences share a forward pass.
        temperature: Divides the logits.

    Raises:
        RecipeError: RC835, a sequence does not fit the model; RC830 or RC602, the attention does not support the model.
    """
    policy = GivenModel(base_model(model), cache_folder(), temperature)
    rows = [_ids(place, row, policy) for place, row in enumerate(sequences)]
    spec = find_component("attention", attention)
    assert spec is not None, attention
    policy.set_attention(spec().load()(spec(), policy.context))
    if not any(len(row) > 1 for row in rows):
        return [torch.zeros(0, device=policy.device) for _ in rows]
    tokens_RT = pad_rows(rows, torch.int64)
    lengths_R = torch.tensor([len(row) for row in rows])
    attend_RT = torch.arange(tokens_RT.shape[1]) < lengths_R[:, None]
    logprob_RT = policy.logprobs(tokens_RT, attend_RT, attend_RT.clone(), entropy=False)["logprob_RT"]
    return [logprob_T[1:length] for logprob_T, length in zip(logprob_RT, lengths_R.tolist(), strict=True)]


def _ids(place: int, row: Sequence[int] | Tensor, policy: CausalLm) -> list[int]:
    """Return a sequence as a list of ids.

    Raises:
        RecipeError: RC835.
    """
    ids = row.tolist() if isinstance(row, Tensor) else list(row)
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise RecipeError(errors.bad_sequence(place, "is not a list of integers"))
    invalid = next((i for i in ids if not 0 <= i < policy.vocabulary), None)
    if invalid is not None:
        raise RecipeError(
            errors.bad_sequence(place, f"has the id {invalid}, but the vocabulary has {policy.vocabulary} entries")
        )
    if len(ids) > policy.max_positions:
        raise RecipeError(
            errors.bad_sequence(place, f"has {len(ids)} tokens, but the model has {policy.max_positions} positions")
        )
    return ids
