"""The operators of flash-attn, by arithmetic in their place: what a tree asks of them, and what becomes of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recipec.runtime.attention import packed
from recipec.runtime.attention.kernels import flash, reference, varlen
from recipec.runtime.attention.kernels.reference import Layer
from recipec.runtime.attention.prefix_tree import build

ROWS = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 7, 8, 0], [1, 2, 3, 7, 9, 0], [4, 4, 4, 0, 0, 0]])
LENGTHS = torch.tensor([6, 5, 5, 3])


def scored(q: Tensor, k: Tensor, scale: float, cap: float, causal: bool) -> Tensor:
    """Scores of one sequence [H, N, M]; a causal one is aligned at its end, as the package's is."""
    scores = torch.einsum("nhd,mhd->hnm", q, k.repeat_interleave(q.shape[1] // k.shape[1], 1)) * scale
    if cap:
        scores = cap * torch.tanh(scores / cap)
    if causal:
        hidden = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1 + len(k) - len(q))
        scores = scores.masked_fill(hidden, -torch.inf)
    return scores


@pytest.fixture(scope="module")
def operators():
    """Register operators of the package's names and parameters (flash-attn 2.8) for a CPU."""
    with torch.library._scoped_library("flashattn", "DEF") as library:
        library.define(
            "_flash_attn_varlen_forward(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens_q, Tensor cu_seqlens_k, "
            "SymInt max_seqlen_q, SymInt max_seqlen_k, float dropout_p, float softmax_scale, bool causal, "
            "SymInt window_size_left=-1, SymInt window_size_right=-1, float softcap=0.0, Tensor? alibi_slopes=None, "
            "bool return_softmax=False, Tensor? block_table=None, Tensor? leftpad_k=None, Tensor? seqused_k=None) "
            "-> (Tensor, Tensor, Tensor, Tensor)"
        )
        library.define(
            "_flash_attn_varlen_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor softmax_lse, "
            "Tensor(a!)? dq, Tensor(b!)? dk, Tensor(c!)? dv, Tensor cu_seqlens_q, Tensor cu_seqlens_k, "
            "SymInt max_seqlen_q, SymInt max_seqlen_k, float dropout_p, float softmax_scale, bool causal, "
            "SymInt window_size_left, SymInt window_size_right, float softcap, Tensor? alibi_slopes, "
            "bool deterministic, Tensor? rng_state=None) -> Tensor"
        )
        library.impl("_flash_attn_varlen_forward", forward, "CPU")
        library.impl("_flash_attn_varlen_backward", backward, "CPU")
        yield


def sequences(ends_q: Tensor, ends_k: Tensor):
    """Cut where sequences end."""
    rows, keys = ends_q.tolist(), ends_k.tolist()
    return zip(rows[:-1], rows[1:], keys[:-1], keys[1:], strict=True)


def forward(q, k, v, ends_q, ends_k, most_q, most_k, dropout, scale, causal, left=-1, right=-1, cap=0.0, *more):
    """Attend in each sequence; return output, LSE, nothing, and a seed."""
    assert (dropout, left, right) == (0.0, -1, -1)
    assert not any(item is not None and item is not False for item in more)
    assert (most_q, most_k) == (int(ends_q.diff().max()), int(ends_k.diff().max()))
    out, lse = torch.empty_like(q), q.new_empty(q.shape[1], len(q))
    for a, b, x, y in sequences(ends_q, ends_k):
        scores = scored(q[a:b], k[x:y], scale, cap, causal)
        values = v[x:y].repeat_interleave(q.shape[1] // v.shape[1], 1)
        lse[:, a:b] = torch.logsumexp(scores, -1)
        out[a:b] = torch.einsum("hnm,mhd->nhd", scores.softmax(-1), values)
    return out, lse, q.new_empty(0), torch.zeros(2, dtype=torch.int64)


def backward(
    grad, q, k, v, out, lse, by_q, by_k, by_v, ends_q, ends_k, most_q, most_k, dropout, scale, causal, left, right,
    cap, slopes, deterministic, seed=None,
):  # fmt: skip
    """Do what such kernels do: p = exp(s - LSE), dS = p (dP - sum(dO o)), times the cap's derivative."""
    assert (dropout, left, right, slopes) == (0.0, -1, -1, None)
    assert seed is not None
    times = q.shape[1] // k.shape[1]
    for a, b, x, y in sequences(ends_q, ends_k):
        scores = scored(q[a:b], k[x:y], scale, cap, causal)
        p = (scores - lse[:, a:b, None]).exp()
        values = v[x:y].repeat_interleave(times, 1)
        by_p = torch.einsum("nhd,mhd->hnm", grad[a:b], values)
        by_s = p * (by_p - (grad[a:b] * out[a:b]).sum(-1).T[:, :, None])
        if cap:
            by_s = by_s * (1 - (scores.clamp(-cap, cap) / cap) ** 2)
        by_q[a:b] = torch.einsum("hnm,mhd->nhd", by_s, k[x:y].repeat_interleave(times, 1)) * scale
        keys = torch.einsum("hnm,nhd->mhd", by_s, q[a:b]) * scale
        by_k[x:y] = keys.unflatten(1, (-1, times)).sum(2)
        by_v[x:y] = torch.einsum("hnm,nhd->mhd", p, grad[a:b]).unflatten(1, (-1, times)).sum(2)
    return lse.new_empty(0)


def inputs(size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random queries, keys and values."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, size, 8), (2, size, 8), (2, size, 8))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.usefixtures("operators")
def test_a_forest_by_the_package(monkeypatch, cap):
    """Merged calls of the package's kernels are the attention of each path, capped scores and gradients among it."""
    trie = build(ROWS.numpy(), LENGTHS.numpy())
    q, k, v = inputs(trie.size)
    monkeypatch.setattr(flash, "kernel", lambda _device: flash.Package())
    turned = (t.transpose(0, 1) for t in (q, k, v))
    found = varlen.attend(*turned, varlen.calls(trie, q.device), 0.7, cap=cap or 0.0).transpose(0, 1)
    expected = reference.by_path(q, k, v, trie, Layer(0.7, softcap=cap))
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    mine = torch.autograd.grad((found * weight).sum(), [q, k, v])
    theirs = torch.autograd.grad((expected * weight).sum(), [q, k, v])
    assert (found - expected).abs().max() < 1e-6  # kernels hand the LSE on in float32
    assert all((a - b).abs().max() < 1e-6 for a, b in zip(mine, theirs, strict=True))


@pytest.mark.usefixtures("operators")
def test_kernels_that_agree_are_told_from_others(monkeypatch):
    """A package is taken where its numbers are those of the kernels at hand; one that is off is left alone."""
    device = torch.device("cpu")
    assert flash.agree(flash.Package(), flash.Cpu(), device, torch.float32)

    class Off(flash.Package):
        def backward(self, *given):
            by_q, by_k, by_v = super().backward(*given)
            return by_q, by_v, by_k

    assert not flash.agree(Off(), flash.Cpu(), device, torch.float32)


def test_a_cpu_caps_no_scores():
    """Without a GPU the kernels are the CPU's, and capped layers go another way."""
    assert isinstance(flash.kernel(torch.device("cpu")), flash.Cpu)
    assert not flash.caps(torch.device("cpu"))


@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.usefixtures("operators")
def test_packed_rows_by_the_package(monkeypatch, cap):
    """One causal call over packed sequences, as on a GPU, is the attention of each sequence, gradients included."""
    lengths, layer = (5, 1, 7), Layer(0.7, softcap=cap, sink_H=torch.tensor([0.3, -0.2, 0.0, 1.0]).double())
    monkeypatch.setattr(flash, "kernel", lambda _device: flash.Package())
    q, k, v = (t[None] for t in inputs(sum(lengths)))
    monkeypatch.setattr(varlen, "DTYPES", (torch.float64,))
    assert varlen.supports(q, v, layer, max(lengths))
    assert not varlen.supports(q, v, replace(layer, window=3), max(lengths))
    found = packed.attend_by_varlen(q, k, v, lengths, layer)
    expected = packed.attend_by_row(q, k, v, lengths, layer, dropout=0.0)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    mine = torch.autograd.grad((found * weight).sum(), [q, k, v])
    theirs = torch.autograd.grad((expected * weight).sum(), [q, k, v])
    assert (found - expected).abs().max() < 1e-6  # kernels hand the LSE on in float32
    assert all((a - b).abs().max() < 1e-6 for a, b in zip(mine, theirs, strict=True))
