"""Sequences concatenated without padding; tokens attend within their own sequence only."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.attention.kernels import varlen
from recipec.runtime.attention.kernels.reference import Layer, masked_attention, visible
from recipec.runtime.attention.layer_params import Unsupported, layer_kind, layer_params
from recipec.runtime.distributed.sequence_parallel import SequenceParallelGroup
from recipec.runtime.model.logprob_head import TargetHiddenStates
from recipec.runtime.protocols import Attention, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "recipec_packed"
_PROBE = ((5, 3, 4), 11)  # lengths of the sequences that a model is tested on, and the stride of their ids
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}  # relative; an error that mixes sequences is of order 1
_unmasked: ContextVar[bool] = ContextVar("unmasked", default=False)
_calls: ContextVar[list[int] | None] = ContextVar("calls", default=None)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    row_lengths: tuple[int, ...] | None = None,
    sp_group: SequenceParallelGroup | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Any]:
    """Attend within each sequence of ``[1, heads, tokens, width]``; without ``row_lengths``, as sdpa does.

    Ranks of a sequence-parallel group ``sp_group`` each compute all tokens for their share of the heads.
    """
    if row_lengths is None:
        if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:  # torch's own would ignore them
            return _padded(query, key, value, attention_mask, layer_params(module, query, kwargs), dropout), None
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, **kwargs
        )
    calls = _calls.get()
    if calls is not None:
        calls[0] += 1
    layer = layer_params(module, query, kwargs)
    if layer.window is not None and kwargs.get("sliding_window") is None and layer_kind(module) is None:
        raise Unsupported("its sliding window is in the mask only")
    if sp_group is None:
        return _attend_packed(query, key, value, row_lengths, layer, dropout), None
    if layer.sink_H is not None:
        raise Unsupported("sequence parallelism does not divide its attention sinks among ranks")
    query, key, value = sp_group.to_heads(query), sp_group.to_heads(key), sp_group.to_heads(value)
    return sp_group.to_tokens(_attend_packed(query, key, value, row_lengths, layer, dropout)), None


def _attend_packed(
    query: Tensor, key: Tensor, value: Tensor, row_lengths: tuple[int, ...], layer: Layer, dropout: float
) -> Tensor:
    """Attend within each sequence; return ``[1, tokens, heads, width]``."""
    if query.is_cuda and not dropout and varlen.supports(query, value, layer, max(row_lengths)):
        return attend_by_varlen(query, key, value, row_lengths, layer)
    return attend_by_row(query, key, value, row_lengths, layer, dropout=dropout)


def attend_by_varlen(query: Tensor, key: Tensor, value: Tensor, row_lengths: tuple[int, ...], layer: Layer) -> Tensor:
    """Attend within each sequence by one variable-length call, for GPUs."""
    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
    plan = (varlen.causal_call(row_lengths, query.device),)
    return varlen.attend(q, k, v, plan, layer.scale, layer.sink_H, layer.softcap or 0.0)[None]


def attend_by_row(
    query: Tensor, key: Tensor, value: Tensor, row_lengths: tuple[int, ...], layer: Layer, *, dropout: float
) -> Tensor:
    """Attend within each sequence, one after the other, with any feature of a layer."""
    groups = query.shape[1] // key.shape[1]
    attended = []
    parts = (torch.split(tensor, list(row_lengths), 2) for tensor in (query, key, value))
    for q, k, v in zip(*parts, strict=True):
        if layer.softcap is None and layer.sink_H is None and not layer.restricts(q.shape[2]):
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)  # noqa: PLW2901 - the same keys
            attended.append(scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=layer.scale, is_causal=True))
            continue
        position = torch.arange(q.shape[2], device=q.device)
        seen = (position <= position[:, None]) & visible(position, position, layer)
        attended.append(masked_attention(q[0], k[0], v[0], seen, layer, stock=True, dropout=dropout)[None])
    return torch.cat(attended, 2).transpose(1, 2).contiguous()


def _padded(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, layer: Layer, dropout: float) -> Tensor:
    """Attend in padded sequences, as in generation."""
    if mask is None:
        queries, keys = query.shape[2], key.shape[2]
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    return masked_attention(query, key, value, mask, layer, stock=False, dropout=dropout).transpose(1, 2).contiguous()


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    mask: Tensor | None = None if _unmasked.get() else sdpa_mask(*args, **kwargs)
    return mask


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _mask)


@contextmanager
def without_mask() -> Iterator[None]:
    """Let the model make no masks: sequences are kept apart by their lengths."""
    token = _unmasked.set(True)
    try:
        yield
    finally:
        _unmasked.reset(token)


class PackedAttention(Attention):
    """One sequence without padding; see :class:`recipec.spec.attention.Packed`."""

    padded = False

    def bind(self, policy: Policy) -> None:
        """Bind the model, after a test on a few tokens that it keeps sequences apart.

        Raises:
            RecipeError: RC830, it fails the test.
        """
        model = policy.model
        before = model.config._attn_implementation  # noqa: SLF001 - the library has no getter
        problem = _objection(self, policy)
        if problem:
            model.set_attn_implementation(before)
            raise RecipeError(errors.not_certified("packed", str(model.config.model_type), problem, shares=False))

    def target_hidden_states(
        self, policy: Policy, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor
    ) -> TargetHiddenStates:
        """Return the hidden states before each scored position; positions begin at 0 in every sequence.

        The last token of a sequence predicts no scored token and is omitted.
        """
        lengths = [max(0, n - 1) for n in attend_RT.sum(-1).tolist()]
        row, column = scored_RT.nonzero(as_tuple=True)
        if not any(lengths):
            raise AssertionError("no sequence has two tokens")
        kept_RT = first_columns(lengths, tokens_RT)
        row_lengths = tuple(n for n in lengths if n)
        turned_3RT = policy.position_ids(tokens_RT)
        if turned_3RT is None:
            positions = torch.cat([torch.arange(n, device=tokens_RT.device) for n in row_lengths])[None]
        else:
            positions = turned_3RT[:, kept_RT][:, None]
        with without_mask():
            hidden_1NH = policy.hidden_states(
                input_ids=tokens_RT[kept_RT][None], position_ids=positions, row_lengths=row_lengths
            )
        starts = torch.tensor([0, *lengths[:-1]], device=tokens_RT.device).cumsum(0)
        return TargetHiddenStates(
            hidden_1NH[0, starts[row] + column - 1], torch.arange(len(row), device=row.device), tokens_RT[row, column]
        )


def first_columns(lengths: list[int], tokens_RT: Tensor) -> Tensor:
    """Mark the first tokens of each row, as many as it has a length.

    >>> first_columns([2, 0], torch.zeros(2, 3)).tolist()
    [[True, True, False], [False, False, False]]
    """
    columns = torch.arange(tokens_RT.shape[1], device=tokens_RT.device)
    return columns < torch.tensor(lengths, device=tokens_RT.device).unsqueeze(-1)


@torch.no_grad()
def _objection(packed: PackedAttention, policy: Policy) -> str:
    """Compare packed with dense on a few short sequences; return the problem, or an empty text."""
    model: Any = policy.model
    lengths, stride = _PROBE
    width = max(lengths)
    tokens = torch.arange(len(lengths) * width).view(len(lengths), width) * stride % policy.vocabulary
    tokens = tokens.to(policy.device)
    attend = torch.arange(width, device=policy.device) < torch.tensor(lengths, device=policy.device)[:, None]
    scored = attend.clone()
    scored[:, 0] = False
    was_training = model.training
    model.eval()
    count = [0]
    token = _calls.set(count)
    try:
        expected = (
            DenseAttention(packed.spec, packed.context).target_hidden_states(policy, tokens, attend, scored).hidden_UH
        )
        model.set_attn_implementation(NAME)
        hidden_packed = packed.target_hidden_states(policy, tokens, attend, scored).hidden_UH
    except (Unsupported, ValueError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        return str(error).partition("\n")[0] or type(error).__name__
    finally:
        _calls.reset(token)
        model.train(was_training)
    layers = int(model.config.get_text_config().num_hidden_layers)
    if count[0] != layers:
        return f"{count[0]} of its {layers} layers use packed attention"
    off = float((hidden_packed - expected).float().norm() / expected.float().norm())
    return "" if off < _TOLERANCE[expected.dtype] else f"its hidden states differ from those of `dense` by {off:.1e}"
