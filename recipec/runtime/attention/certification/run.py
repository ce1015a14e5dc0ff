"""Compare prefix-tree attention with a model's own forward pass, in a small random model.

No family is trusted: layers that bypass the attention interface, or give other numbers, are found by the comparison of
log-probabilities and gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recipec.diagnostics.model import RecipeError
from recipec.diagnostics.phrases import first_line
from recipec.runtime.attention import interface
from recipec.runtime.attention.certification.tiny_config import IMAGE_TOKEN
from recipec.runtime.attention.handover import Handover
from recipec.runtime.attention.microbatch_packing import pack
from recipec.runtime.attention.prefix_sharing import PrefixSharing
from recipec.runtime.batch import Batch, pad_rows
from recipec.runtime.images.picture import Picture
from recipec.runtime.model import weights
from recipec.runtime.model.given_model import GivenModel
from recipec.runtime.model.logprob_head import placed
from recipec.runtime.model.vision_families import family_of
from recipec.spec.attention import Trie

TOLERANCE = 1e-5
_WHOLE_BATCH_ROPE = {"dynamic", "longrope", "su"}
"""Rope scalings that depend on the longest sequence of a batch."""
Sequences = list[tuple[list[int], list[Picture]]]
"""Token ids of each sequence, and its images."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The result of a comparison; ``why`` is the reason if the results are not equal.

    Example: ``Certificate(equal=True, max_logprob_error=9.5e-7, max_gradient_error=4e-7)``.
    """

    equal: bool
    max_logprob_error: float = float("nan")
    """In nats."""
    max_gradient_error: float = float("nan")
    r""":math:`\lVert g - g^* \rVert / \lVert g^* \rVert` of the gradient of a weighted sum of log-probabilities."""
    why: str = ""
    hands_over: bool = False
    """Whether passes that hand shared prefixes over give the same, too."""


def certify(small: Any) -> Certificate:
    """Compare both in a random model of a small configuration; the random state of the caller does not change."""
    if types := _WHOLE_BATCH_ROPE & set(_rope_types(small.to_dict())):
        return Certificate(equal=False, why=f"its rope scaling `{min(types)}` depends on the longest sequence")
    try:
        with torch.random.fork_rng(devices=[]), weights.quiet(), torch.enable_grad():
            return _compare(random_model(small, 1))
    except RecipeError as error:
        return Certificate(equal=False, why=error.diagnostics[0].message)
    except Exception as error:  # noqa: BLE001 - each family has its own exceptions
        return Certificate(equal=False, why=first_line(error))


def _compare(model: Any) -> Certificate:
    policy = given_policy(model, Path())
    sequences: Sequences = [(ids, []) for ids in sample_sequences()]
    if policy.image_encoder is not None:
        sequences += sequences_with_images(*policy.image_encoder.sample_pictures())
    batch = _batch(sequences)
    scored_RT = batch["trained_RT"].clone()
    scored_RT[:, 0] = False
    weight_M = torch.randn(int(scored_RT.sum()))
    expected, expected_grad = _gradient(model, weight_M, model_logprobs(model, sequences))
    attention = PrefixSharing(Trie(), policy.context)
    attention.layers, recurrent = interface.install(model)
    policy.attention = attention
    logprob_RT = policy.logprobs(*batch.values(), entropy=False)["logprob_RT"]
    logprob_M, grad = _gradient(model, weight_M, logprob_RT[scored_RT])
    certificate = _compared(logprob_M, grad, expected, expected_grad)
    layers = model.config.get_text_config().num_hidden_layers
    if not certificate.equal and attention.layers + recurrent < layers:
        bound = attention.layers + recurrent
        return replace(certificate, why=f"{bound} of its {layers} layers go through the attention interface")
    if certificate.equal and not recurrent and policy.image_encoder is None:
        handed = _compared(*_in_passes(policy, batch, scored_RT, weight_M), expected, expected_grad)
        certificate = replace(certificate, hands_over=handed.equal)
    return certificate


def _in_passes(policy: GivenModel, batch: Batch, scored_RT: Tensor, weight_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and their gradient from passes as small as possible, which hand prefixes over."""
    lengths_R = batch["attend_RT"].sum(-1)
    packing = pack(batch["tokens_RT"], lengths_R, list(torch.arange(len(lengths_R))[:, None]), int(lengths_R.max()))
    handover = Handover(policy, batch, packing, range(len(packing.parts)))
    weight_RT, found_RT = placed(weight_M, scored_RT), torch.zeros(scored_RT.shape)
    policy.model.zero_grad()
    for place, part in enumerate(packing.parts):
        with handover.during(place):
            logprob_RT = policy.logprobs(*batch.rows(part).values(), entropy=False)["logprob_RT"]
            torch.autograd.backward((logprob_RT * weight_RT[part]).sum())
        found_RT[part] = logprob_RT.detach()
    return found_RT[scored_RT], _gradients(policy.model)


def _compared(logprob_M: Tensor, grad: Tensor, expected: Tensor, expected_grad: Tensor) -> Certificate:
    off = float((logprob_M - expected).abs().max())
    off_grad = float((grad - expected_grad).norm() / expected_grad.norm())
    equal = off <= TOLERANCE and off_grad <= TOLERANCE
    why = "" if equal else f"log-probabilities differ by {off:.1e}, gradients by {off_grad:.1e}"
    return Certificate(equal, off, off_grad, why)


def _rope_types(config: Any) -> list[str]:
    """Return the kinds of rope scaling in a configuration, at any depth."""
    if not isinstance(config, dict):
        return []
    here = [config[key] for key in ("rope_type", "type") if isinstance(config.get(key), str)]
    return here + [kind for value in config.values() for kind in _rope_types(value)]


# models


def random_model(small: Any, seed: int) -> Any:
    """Build a random model of a small configuration, in float32 and training mode."""
    torch.manual_seed(seed)
    kind = weights.model_class(small)
    model = kind._from_config(small, attn_implementation=weights.implementation(small))  # noqa: SLF001
    model.float().train()  # training mode, so that noise and dropout of a layer show in the comparison
    perturb(model, seed)
    return model


def perturb(model: nn.Module, seed: int) -> None:
    """Add noise to all weights: with the initial ones, of norms and biases too, many errors would not show."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)


def given_policy(model: Any, cache: Path) -> GivenModel:
    """Return a policy around a model, which reads images if the model does."""
    if family_of(model.config) is None:
        return GivenModel(model, cache)
    from recipec.runtime.vision.given_model import GivenVisionLm  # noqa: PLC0415 - only images need Pillow

    return GivenVisionLm(model, cache)


# sequences


def sample_sequences() -> list[list[int]]:
    """Draw the sequences of a tree of three levels; one is there twice, and one is a prefix of others."""
    draw = np.random.default_rng(0)
    root = _draw(draw, 21)
    middles = [root + _draw(draw, 9) for _ in range(2)]
    leaves = [middle + _draw(draw, count) for middle in middles for count in (5, 8, 11)]
    return [*leaves, leaves[1], middles[0], _draw(draw, 6)]


def sequences_with_images(one: Picture, other: Picture) -> Sequences:
    """Draw sequences that share images, that differ in their images alone, with two images and with none."""
    draw = np.random.default_rng(1)
    begin, question, more = (_draw(draw, count) for count in (4, 7, 5))
    first = [*begin, *one.tokens, *question]
    stems: Sequences = [
        (first, [one]),
        ([*begin, *other.tokens, *question], [other]),
        ([*first, *other.tokens, *more], [one, other]),
    ]
    leaves: Sequences = [(ids + _draw(draw, count), pictures) for ids, pictures in stems for count in (3, 6)]
    return [*leaves, leaves[0], stems[0], (begin + _draw(draw, 9), [])]


def _draw(draw: np.random.Generator, count: int) -> list[int]:
    return [int(token) for token in draw.integers(3, IMAGE_TOKEN - 2, count)]


def _batch(sequences: Sequences) -> Batch:
    """Pad sequences; every token of text is scored."""
    tokens_RT = pad_rows([ids for ids, _ in sequences], torch.int64)
    lengths_R = torch.tensor([len(ids) for ids, _ in sequences])
    attend_RT = torch.arange(tokens_RT.shape[1]) < lengths_R[:, None]
    batch = Batch(tokens_RT=tokens_RT, attend_RT=attend_RT, trained_RT=attend_RT & (tokens_RT != IMAGE_TOKEN))
    pictures = [(row, picture) for row, (_, shown) in enumerate(sequences) for picture in shown]
    if pictures:
        batch["pixels_I"] = [picture for _, picture in pictures]
        batch["image_row_I"] = torch.tensor([row for row, _ in pictures])
    return batch


def model_logprobs(model: Any, sequences: Sequences) -> Tensor:
    """Return log-probabilities of all tokens of text but the first, by the forward pass of the library alone."""
    logprobs = []
    for row, pictures in sequences:
        ids_T = torch.tensor(row)
        images = _image_arguments(model, ids_T, pictures)
        logits_TV = model(input_ids=ids_T[None], use_cache=False, **images).logits[0, :-1].float()
        logprob_T = torch.log_softmax(logits_TV, -1).gather(-1, ids_T[1:, None])[:, 0]
        logprobs.append(logprob_T[ids_T[1:] != IMAGE_TOKEN])
    return torch.cat(logprobs)


def _image_arguments(model: Any, ids_T: Tensor, pictures: Sequence[Picture]) -> dict[str, Tensor]:
    family = family_of(model.config)
    if family is None or not pictures:
        return {}
    arguments = family.joined([picture.inputs for picture in pictures])
    return {**arguments, "mm_token_type_ids": (ids_T == IMAGE_TOKEN).int()[None]} if family.turns else arguments


def _gradient(model: nn.Module, weight_M: Tensor, logprob_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and the gradient of their weighted sum."""
    model.zero_grad()
    torch.autograd.backward((logprob_M * weight_M).sum())
    return logprob_M.detach(), _gradients(model)


def _gradients(model: nn.Module) -> Tensor:
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return torch.cat([grad.flatten() for grad in grads]).clone()
