"""Rows and forest compared in a random model of a small configuration, by log-probabilities and gradients.

Nothing is assumed about families: what differs, or does not go through the attention interface, is not equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention import interface, prefix_tree
from recipec.runtime.attention.certification.tiny_config import VOCABULARY
from recipec.runtime.model import weights

TOLERANCE = 1e-5
_LENGTHWISE = {"dynamic", "longrope", "su"}
"""Rope scalings that look at the longest position of a batch."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was found, errors as :func:`compared` gives them; ``why`` says what is wrong.

    Example: ``Certificate(equal=True, max_logprob_error=9.5e-7, max_gradient_error=4e-7)``.
    """

    equal: bool
    max_logprob_error: float = float("nan")
    max_gradient_error: float = float("nan")
    why: str = ""


def certify(small: Any) -> Certificate:
    """Compare rows and forest in a random model of a small configuration."""
    if why := lengthwise(small):
        return Certificate(equal=False, why=why)
    try:
        with torch.random.fork_rng(devices=[]), weights.quiet(), torch.enable_grad():
            torch.manual_seed(1)
            model = _model(small)
            rows = probe()
            weight = torch.randn(sum(len(row) - 1 for row in rows))
            expected, expected_grad = scored(model, weight, by_row(model, rows))
            forest = interface.Pass(_merged(rows))
            layers, carrying = interface.bind(model)
            found, found_grad = scored(model, weight, _by_forest(model, rows, forest))
    except RecipeError as refused:
        return Certificate(equal=False, why=refused.diagnostics[0].message)
    except Exception as error:  # noqa: BLE001 - families fail in their own ways on what they do not know
        return Certificate(equal=False, why=first_line(error))
    if forest.calls != layers:
        return Certificate(equal=False, why=f"{forest.calls} of {layers} attention layers see the forest")
    made = compared(found, found_grad, expected, expected_grad)
    if not made.equal and layers + carrying < small.num_hidden_layers:
        why = f"{layers + carrying} of its {small.num_hidden_layers} layers go through the attention interface"
        return replace(made, why=why)
    return made


def compared(found: Tensor, found_grad: Tensor, expected: Tensor, expected_grad: Tensor) -> Certificate:
    r"""Hold log-probabilities and the gradient of their weighted sum against what they must be.

    The errors are the largest difference of a log-probability, in nats, and
    :math:`\lVert g - g^* \rVert / \lVert g^* \rVert`.
    """
    off = float((found - expected).abs().max())
    off_grad = float((found_grad - expected_grad).norm() / expected_grad.norm())
    equal = off <= TOLERANCE and off_grad <= TOLERANCE
    why = "" if equal else f"log-probabilities differ by {off:.1e}, gradients by {off_grad:.1e}"
    return Certificate(equal, off, off_grad, why)


def lengthwise(small: Any) -> str:
    """Say what makes a row depend on the longest one of its batch, if anything does."""
    found = _LENGTHWISE & set(_rotations(small.to_dict()))
    return f"its rope scaling `{min(found)}` looks at the longest row of a batch" if found else ""


def _rotations(said: Any) -> list[str]:
    if not isinstance(said, dict):
        return []
    here = [str(said[key]) for key in ("rope_type", "type") if isinstance(said.get(key), str)]
    return here + [kind for value in said.values() for kind in _rotations(value)]


def _model(small: Any) -> Any:
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(small)]
    model = kind._from_config(small, attn_implementation=weights.implementation(small))  # noqa: SLF001
    model.float().train()  # what a layer does at random while it trains must show
    for parameter in model.parameters():  # biases and norms begin at 0 and 1: hide nothing behind that
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def probe() -> list[list[int]]:
    """Rows of a tree of three levels, one twice and one the beginning of others."""
    draw = np.random.default_rng(0)

    def some(count: int) -> list[int]:
        return [int(i) for i in draw.integers(3, VOCABULARY, count)]

    root = some(21)
    middles = [[*root, *some(9)] for _ in range(2)]
    leaves = [[*middle, *some(count)] for middle in middles for count in (5, 8, 11)]
    return [*leaves, leaves[1], middles[0], some(6)]


def _merged(rows: list[list[int]]) -> prefix_tree.PrefixTree:
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return prefix_tree.build(tokens, lengths)


def by_row(model: Any, rows: list[list[int]]) -> Tensor:
    """Log-probability of every token but the first of each row, each row alone through the whole model."""
    found = []
    for row in rows:
        ids = torch.tensor(row)
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
        found.append(torch.log_softmax(logits, -1).gather(-1, ids[1:, None])[:, 0])
    return torch.cat(found)


def _by_forest(model: Any, rows: list[list[int]], made: interface.Pass) -> Tensor:
    forest = made.trie
    with interface.over(made, model):
        logits = model(
            input_ids=torch.from_numpy(forest.tokens_N)[None],
            position_ids=torch.from_numpy(forest.position_N)[None],
            use_cache=False,
        ).logits[0]
    logprobs = torch.log_softmax(logits.float(), -1)
    parts = [
        logprobs[torch.from_numpy(node[: len(row) - 1]), torch.tensor(row[1:])]
        for row, node in zip(rows, forest.node_RT, strict=True)
    ]
    return torch.cat(parts)


def scored(model: Any, weight: Tensor, logprob: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and the gradient of a random sum of them."""
    model.zero_grad()
    torch.autograd.backward((logprob * weight).sum())
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return logprob.detach(), torch.cat([grad.flatten() for grad in grads]).clone()


def first_line(error: Exception) -> str:
    """Return what an error of a library says first."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
