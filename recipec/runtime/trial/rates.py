"""Measure what a layer of a stage's model costs on this machine: trained, read, and decoding; the head; memory."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from recipec.planning.measured_time import Rates
from recipec.planning.model_shapes import Shape
from recipec.planning.stage_workload import StageWorkload
from recipec.runtime.attention import packed
from recipec.runtime.model.cpu_linear import prepacked_weights, use_onednn
from recipec.runtime.rollout.engine import SamplingParams
from recipec.runtime.rollout.gqa_decoding import grouped_queries
from recipec.runtime.rollout.kv_cache import ModelRunner
from recipec.runtime.rollout.token_sampling import draw

Clock = Callable[[], float]

SPENT = 0.08
"""Seconds for each of the ten measurements."""
LAYERS = (1, 3)
"""Layers of two models: the difference of their times is that of layers."""
DECODED = 16
"""Tokens that are decoded, twice."""
DECODED_WEIGHTS = 1.28e8
"""Bytes of weights up to which all layers are timed in decoding: few of them would be read from a faster cache."""
ROWS = 2048
"""Most tokens of a pass that is timed."""
COPIED = 1 << 25
"""Bytes of the tensor that is copied: more than caches hold."""
MOST = {"cpu": 8e9, "cuda": 8e11}
"""Most operations of a forward pass that is timed; longer ones are taken to cost in proportion."""
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def bytes_needed(work: StageWorkload) -> float:
    """Return about what a measurement takes in memory: some layers and the head, each with a gradient, and logits."""
    layers = LAYERS[0] + LAYERS[1] + _decoded_layers(work.shape, work.dtype_bytes)
    weights = layers * work.shape.layer + work.shape.hidden * work.shape.vocabulary
    return 2.0 * work.dtype_bytes * weights + 12.0 * ROWS * work.shape.vocabulary


def measure_rates(work: StageWorkload, device: torch.device, clock: Clock = time.perf_counter) -> Rates:
    """Measure one layer and the head of a stage's model in about a second; the median of several repetitions counts.

    Stages with the same sizes are measured once.  ``clock`` may be ``time.process_time`` where the machine is shared
    and one thread is used.
    """
    dtype = DTYPES[str(work.policy.get("dtype", "float32"))]
    row = max(2, work.size.row or 512)
    most = max(64, int(MOST[device.type] / (2 * work.shape.linear / work.shape.layers)))
    tokens = max(2, min(work.microbatch, most, ROWS))
    length = min(row, tokens)
    sizes = (tokens // length, length), max(1, min(work.concurrent_rows, work.size.rows))
    return _measured(work.shape, _adapter(work), dtype, device, *sizes, clock)


def _decoded_layers(shape: Shape, dtype_bytes: int) -> int:
    """Return how many layers are timed in decoding, besides one."""
    return max(LAYERS[1], min(shape.layers, int(DECODED_WEIGHTS / (dtype_bytes * shape.layer))))


class _Adapter(NamedTuple):
    rank: int
    targets: tuple[str, ...]


def _adapter(work: StageWorkload) -> _Adapter | None:
    """Return the adapter that the timed layers have, under the names of a Llama's matrices."""
    if work.lora is None:
        return None
    targets = work.lora["targets"]
    named = tuple(name for name in MATRICES if targets == "all_linear" or name in targets)
    return _Adapter(int(work.lora["r"]), named or MATRICES)


@functools.cache
def _measured(
    shape: Shape,
    adapter: _Adapter | None,
    dtype: torch.dtype,
    device: torch.device,
    rows: tuple[int, int],
    decoded: int,
    clock: Clock,
) -> Rates:
    """Time a forward and backward pass over rows of one length, one without gradients, and one token of some rows."""
    count, length = rows
    models = [_model(shape, layers, adapter, device, dtype) for layers in LAYERS]
    ids = torch.zeros(1, count * length, dtype=torch.int64, device=device)
    inputs = {
        "input_ids": ids,
        "position_ids": torch.arange(length, device=device).repeat(count)[None],
        "row_lengths": (length,) * count,
        "use_cache": False,
    }
    hidden = torch.randn(count * length, shape.hidden, device=device).to(dtype)
    head = torch.full((shape.vocabulary, shape.hidden), 0.01, device=device, dtype=dtype).requires_grad_()
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def timed(call: Callable[[], object], *, gradient: bool = False) -> float:
        with packed.without_mask(), nullcontext() if gradient else torch.inference_mode():
            return _median_time(call, device, clock)

    def train(output: Tensor) -> None:
        output.backward(torch.ones_like(output))  # type: ignore[no-untyped-call]

    def losses() -> Tensor:
        return functional.cross_entropy(functional.linear(hidden, head).float(), ids[0])

    def train_by(model: Any) -> float:
        return timed(lambda: train(model.model(**inputs).last_hidden_state), gradient=True)

    def read_by(model: Any) -> float:
        return timed(lambda: model.model(**inputs))

    trained, read = _line([train_by(m) for m in models]), _line([read_by(m) for m in models])
    deep = _decoded_layers(shape, dtype.itemsize)
    deeper = _model(shape, deep, adapter, device, dtype)
    next_token = _line([_decoding(m, decoded, length, device, clock) for m in (models[0], deeper)], deep)
    sampling, uniform_R = SamplingParams(1), torch.full((decoded,), 0.5, dtype=torch.float64, device=device)
    drawn = timed(lambda: draw(functional.linear(hidden[:1].expand(decoded, -1), head), uniform_R, sampling))
    return Rates(
        device=device.type,
        threads=torch.get_num_threads(),
        trained=trained.layer / (count * length),
        read=read.layer / (count * length),
        decoded=next_token.layer,
        trained_ends=trained.ends,
        read_ends=read.ends,
        decoded_ends=next_token.ends + drawn,
        trained_logits=timed(lambda: train(losses()), gradient=True) / (count * length),
        scored_logits=timed(losses) / (count * length),
        bandwidth=2.0 * COPIED / timed(lambda: target.copy_(source)),
    )


class _Line(NamedTuple):
    layer: float
    ends: float


def _line(times: Sequence[float], deep: int = LAYERS[1]) -> _Line:
    """Part the times of models with few and ``deep`` layers into that of a layer and that of the rest."""
    few, more = times
    layer = max((more - few) / (deep - LAYERS[0]), 0.1 * few / LAYERS[0])
    return _Line(layer, max(0.0, few - LAYERS[0] * layer))


def _model(shape: Shape, layers: int, adapter: _Adapter | None, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a gated decoder of few layers with the sizes of a model, and with weights that are all the same."""
    config = LlamaConfig(
        vocab_size=8, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim, max_position_embeddings=max(2 * ROWS, shape.positions),
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to(dtype).to_empty(device=device)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(0.01)
    if adapter is not None:
        model.requires_grad_(False)
        inject_adapter_in_model(LoraConfig(r=adapter.rank, target_modules=list(adapter.targets)), model)
    use_onednn(model)
    model.set_attn_implementation(packed.NAME)
    return model


def _decoding(model: Any, rows: int, length: int, device: torch.device, clock: Clock) -> float:
    """Return how long it takes to read a token of some rows that have most of their tokens."""
    runner, before = ModelRunner(model), max(1, length - DECODED)
    token_R1 = torch.zeros(rows, 1, dtype=torch.int64, device=device)
    with torch.inference_mode(), grouped_queries(runner.inner, runner.config), prepacked_weights(model, rows, DECODED):
        prompts = runner.prefill([(0,) * before])
        seconds = []
        for _ in range(2):
            cache = prompts.select_rows(torch.zeros(rows, dtype=torch.int64, device=device), DECODED)
            for _ in range(DECODED):
                began = clock()
                cache.append_tokens(token_R1)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds.append(clock() - began)
    return statistics.median(seconds)


def _median_time(call: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """Return the median time of a call, in batches of calls that take about a hundredth of ``SPENT``."""

    def batch(count: int) -> float:
        began = clock()
        for _ in range(count):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - began

    batch(1)
    count = max(1, int(SPENT / 100 / max(batch(1), 1e-7)))
    ends = clock() + SPENT
    seconds = [batch(count)]
    while clock() < ends:
        seconds.append(batch(count))
    return max(statistics.median(seconds), 1e-9) / count
