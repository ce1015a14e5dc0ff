"""The KV cache of a batch that is decoded: rows are appended to, forked and dropped."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from recipec.runtime.model.lora import base_model
from recipec.runtime.model.positions import longest_row
from recipec.runtime.rollout.kv_reuse import KVEntry, KVStore, LayerKV, new_tokens

_EXTRA_COLUMNS = 64  # columns added at once where the final length is unknown


class CacheLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, written in place into columns that were set aside.

    A layer with a sliding window keeps every column too: the model's own mask hides those outside its window.
    """

    def __init__(self, capacity: int = 0) -> None:
        """Plan for ``capacity`` columns; more are found when they are needed."""
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.storage: tuple[Tensor, Tensor]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Learn dtype, device and shapes from the first keys and values."""
        super().lazy_initialization(key_states, value_states)
        self.storage = (key_states[:, :, :0], value_states[:, :, :0])

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append columns and return all of them, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        if self.length > self.storage[0].shape[2]:
            self._widen(start, max(self.capacity, self.length + (_EXTRA_COLUMNS if start else 0)))
        keys, values = self.storage
        keys[:, :, start : self.length] = key_states
        values[:, :, start : self.length] = value_states
        self.keys, self.values = keys[:, :, : self.length], values[:, :, : self.length]
        return self.keys, self.values

    def row(self, row: int, start: int, end: int) -> LayerKV:
        """Return copies of one row's keys and values in some columns."""
        return self.keys[row, :, start:end].clone(), self.values[row, :, start:end].clone()

    @classmethod
    def from_prefixes(
        cls, parts: Sequence[LayerKV | None], used: Sequence[int], columns: int, capacity: int
    ) -> CacheLayer:
        """Lay the first ``used`` columns of each part at the end of ``columns``, with 0 before them."""
        keys, values = next(part for part in parts if part is not None)
        room = cls(capacity)
        storage = tuple(one.new_zeros(len(parts), one.shape[0], capacity, one.shape[2]) for one in (keys, values))
        for row, (part, count) in enumerate(zip(parts, used, strict=True)):
            for into, columns_of in zip(storage, part or (), strict=False):
                into[row, :, columns - count : columns] = columns_of[:, :count]
        room.lazy_initialization(*storage)
        room.storage, room.length = storage, columns  # type: ignore[assignment]
        room.keys, room.values = (one[:, :, :columns] for one in storage)
        return room

    def _widen(self, used: int, capacity: int) -> None:
        self.capacity = capacity
        self.storage = tuple(_with_capacity(storage, used, capacity) for storage in self.storage)  # type: ignore[assignment]

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.length

    def select_rows(self, index_R: Tensor, extra_columns: int) -> CacheLayer:
        """Return the rows of ``index_R``, in its order and as often as they occur, with room for more columns."""
        other = CacheLayer(self.length + extra_columns)
        if self.is_initialized:
            other.lazy_initialization(self.keys, self.values)
            other.length = self.length
            other.storage = tuple(  # type: ignore[assignment]
                _with_capacity(storage[:, :, : self.length].index_select(0, index_R), self.length, other.capacity)
                for storage in self.storage
            )
            other.keys, other.values = (storage[:, :, : self.length] for storage in other.storage)
        return other


def _with_capacity(storage: Tensor, used: int, capacity: int) -> Tensor:
    """Copy the used columns to where ``capacity`` fit."""
    rows, heads, _, size = storage.shape
    wider = storage.new_empty(rows, heads, capacity, size)
    wider[:, :, :used] = storage[:, :, :used]
    return wider


def empty_cache(config: Any, capacity: int) -> Cache:
    """Return a cache that fits the model's layers: ours for attention, the model's own for what is recurrent."""
    cache = DynamicCache(config=config)
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    cache.layers = [CacheLayer(capacity) if type(layer) in plain else layer for layer in cache.layers]
    return cache


def _select_rows(cache: Cache, index_R: Tensor, extra_columns: int) -> Cache:
    other = copy.copy(cache)
    other.layers = []
    for layer in cache.layers:
        if isinstance(layer, CacheLayer):
            other.layers.append(layer.select_rows(index_R, extra_columns))
        else:
            other.layers.append(copy.deepcopy(layer))
            other.layers[-1].reorder_cache(index_R)
    return other


@dataclass(slots=True)
class DecodingBatch:
    """A batch of rows that are decoded: continue them with ``append_tokens``, fork or drop them with ``select_rows``.

    A shorter row starts with padding columns; ``valid_RK`` is absent if no row has any.
    """

    runner: ModelRunner
    cache: Cache
    position_R: Tensor
    """Position of the next token: how many the row has."""
    valid_RK: Tensor | None
    logits_RV: Tensor
    """Of the next token."""
    longest: int
    """Largest ``position_R``."""
    rope_delta_R: Tensor | None = None
    """Position of the next token minus ``position_R``, where images have positions of their own (``rope_deltas``)."""

    def select_rows(self, index_R: Tensor, extra_columns: int = 0) -> DecodingBatch:
        """Return copies of some rows, in the given order and as often as they occur: a fork leaves its parent whole."""
        valid_RK = None if self.valid_RK is None else self.valid_RK.index_select(0, index_R)
        if valid_RK is not None and bool(valid_RK.all()):
            valid_RK = None
        return DecodingBatch(
            self.runner,
            _select_rows(self.cache, index_R, extra_columns),
            self.position_R.index_select(0, index_R),
            valid_RK,
            self.logits_RV.index_select(0, index_R),
            self.longest,
            None if self.rope_delta_R is None else self.rope_delta_R.index_select(0, index_R),
        )

    def keep_kv(self, row: int, ids: tuple[int, ...], store: KVStore) -> KVEntry | None:
        """Copy the KV cache of the first tokens of a row, ``ids``, where the layers and the store allow it."""
        if not all(isinstance(layer, CacheLayer) for layer in self.cache.layers):
            return None
        start = self.cache.get_seq_length() - int(self.position_R[row])  # only columns before a row's are no tokens
        return store.keep(ids, self.cache.layers, row, start)

    def append_tokens(self, tokens_RT: Tensor, valid_RT: Tensor | None = None) -> None:
        """Read tokens that follow, left-padded where ``valid_RT`` is false."""
        rows, width = tokens_RT.shape
        positions_RT = self.position_R[:, None] + (
            torch.arange(width, device=tokens_RT.device)[None]
            if valid_RT is None
            else (valid_RT.cumsum(1) - 1).clamp(0)
        )
        columns = self.longest
        self.longest += width
        if self.runner.max_positions is not None and self.longest > self.runner.max_positions:
            # positions of rows that ended may be beyond the last one until they are dropped
            positions_RT = positions_RT.clamp(max=self.runner.max_positions - 1)
        if self.rope_delta_R is not None and self.runner.image_encoder is not None:
            positions_RT, self.rope_delta_R = self.runner.image_encoder.rope_positions(
                tokens_RT, valid_RT, positions_RT, self.rope_delta_R
            )
        if valid_RT is not None or self.valid_RK is not None:
            new_valid = tokens_RT.new_ones(rows, width, dtype=torch.bool) if valid_RT is None else valid_RT
            before = new_valid.new_ones(rows, columns) if self.valid_RK is None else self.valid_RK
            self.valid_RK = torch.cat([before, new_valid], 1)
        self.logits_RV = self.runner.forward(self.cache, tokens_RT, positions_RT, self.valid_RK)
        self.position_R = self.position_R + (width if valid_RT is None else valid_RT.sum(1))


class ImageInputs(Protocol):
    """What a policy that sees does with the ids of its images."""

    def reading(self, ids_RT: Tensor) -> AbstractContextManager[dict[str, Tensor]]:
        """Yield what the model reads of tokens in a pass inside."""

    def rope_positions(
        self, ids_RT: Tensor, valid_RT: Tensor | None, counted_RT: Tensor, rope_delta_R: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the M-RoPE positions of new tokens, which ``counted_RT`` numbers, and the updated rope deltas."""

    def next_position(self, ids: Sequence[int]) -> int:
        """Return the position of the token that follows the ids."""


class ModelRunner:
    """Runs a causal language model of Hugging Face over new tokens, whatever its architecture."""

    def __init__(self, model: Any, image_encoder: ImageInputs | None = None) -> None:
        """Look once which arguments the model takes."""
        self.image_encoder = image_encoder
        inner = base_model(model)
        accepted = inspect.signature(inner.forward).parameters
        self.model = model
        self.inner = inner
        self.config = inner.config.get_text_config(decoder=True)
        self.device = inner.device
        self.extra: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self.takes_position_ids = "position_ids" in accepted
        self.takes_cache_params = "cache_params" in accepted  # Mamba's states, and masks of new tokens alone
        self.max_positions = longest_row(inner.config)

    def prefill(
        self, prompts: Sequence[tuple[int, ...]], extra_columns: int = 0, kvs: Sequence[KVEntry | None] | None = None
    ) -> DecodingBatch:
        """Compute prompts, each once, leaving room for ``extra_columns`` tokens after them.

        The cached beginning of a prompt is not computed again, except that every row computes as many last tokens as
        the prompt with the most new tokens has: rows of a batch have equal widths.
        """
        width = max(len(ids) for ids in prompts)
        fresh = max(new_tokens(prompts, kvs)) if kvs is not None else width
        past = width - fresh
        lengths_R = torch.tensor([len(ids) for ids in prompts], device=self.device)
        cache = empty_cache(self.config, width + extra_columns)
        rope_delta_R = None if self.image_encoder is None else torch.zeros_like(lengths_R)
        rows = DecodingBatch(self, cache, torch.zeros_like(lengths_R), None, lengths_R[:0], 0, rope_delta_R)
        if past and kvs is not None:
            used = [max(0, len(ids) - fresh) for ids in prompts]
            cached = [kv.parts if kv is not None and count else None
                    for kv, count in zip(kvs, used, strict=True)]  # fmt: skip
            for layer in range(len(cache.layers)):
                parts = [part[layer] if part is not None else None for part in cached]
                cache.layers[layer] = CacheLayer.from_prefixes(parts, used, past, width + extra_columns)
            rows.position_R = (lengths_R - fresh).clamp(min=0)
            rows.longest = past
            rows.valid_RK = torch.arange(past, device=self.device)[None] >= past - rows.position_R[:, None]
            if self.image_encoder is not None:
                led = [
                    self.image_encoder.next_position(ids[:count]) - count
                    for ids, count in zip(prompts, used, strict=True)
                ]
                rows.rope_delta_R = torch.tensor(led, device=self.device)
        shown = [ids[-fresh:] for ids in prompts]
        padded = [(0,) * (fresh - len(ids)) + tuple(ids) for ids in shown]
        tokens_RT = torch.tensor(padded, dtype=torch.int64, device=self.device)
        valid_RT = torch.arange(fresh, device=self.device)[None] >= fresh - lengths_R[:, None]
        unpadded = bool(valid_RT.all())
        if unpadded and rows.valid_RK is not None and bool(rows.valid_RK.all()):
            rows.valid_RK = None
        rows.append_tokens(tokens_RT, None if unpadded else valid_RT)
        return rows

    def forward(self, cache: Cache, tokens_RT: Tensor, positions_RT: Tensor, valid_RK: Tensor | None) -> Tensor:
        """Run the model over new tokens and return the logits that follow the last one."""
        text = {"input_ids": tokens_RT}
        where = {"position_ids": positions_RT} if self.takes_position_ids else {}
        if self.takes_cache_params:
            new_RT = None if valid_RK is None else valid_RK[:, -tokens_RT.shape[1] :]
            past = {"cache_params": cache, "attention_mask": new_RT}
        else:
            past = {"past_key_values": cache, "attention_mask": valid_RK}
        with nullcontext(text) if self.image_encoder is None else self.image_encoder.reading(tokens_RT) as inputs:
            logits = self.model(**inputs, **where, **past, use_cache=True, **self.extra).logits
        last: Tensor = logits[:, -1]
        return last
