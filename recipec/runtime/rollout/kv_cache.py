"""Rows that are being written: what the model remembers of them, and how they fork, shrink and go on."""

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
from recipec.runtime.rollout.kv_reuse import KVEntry, KVStore, Part, new_tokens

_SPARE = 64  # columns added at once where the final length is unknown


class CacheLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, written in place into columns that were set aside.

    A layer with a sliding window keeps every column too: the model's own mask hides those outside its window.
    """

    def __init__(self, capacity: int = 0) -> None:
        """Plan for ``capacity`` columns; more are found when they are needed."""
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.held: tuple[Tensor, Tensor]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Learn dtype, device and shapes from the first keys and values."""
        super().lazy_initialization(key_states, value_states)
        self.held = (key_states[:, :, :0], value_states[:, :, :0])

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append columns and return all of them, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        if self.length > self.held[0].shape[2]:
            self._widen(start, max(self.capacity, self.length + (_SPARE if start else 0)))
        keys, values = self.held
        keys[:, :, start : self.length] = key_states
        values[:, :, start : self.length] = value_states
        self.keys, self.values = keys[:, :, : self.length], values[:, :, : self.length]
        return self.keys, self.values

    def row(self, row: int, start: int, end: int) -> Part:
        """Return copies of one row's keys and values in some columns."""
        return self.keys[row, :, start:end].clone(), self.values[row, :, start:end].clone()

    @classmethod
    def joined(cls, parts: Sequence[Part | None], used: Sequence[int], columns: int, capacity: int) -> CacheLayer:
        """Lay the first ``used`` columns of each part at the end of ``columns``, with 0 before them."""
        keys, values = next(part for part in parts if part is not None)
        room = cls(capacity)
        held = tuple(one.new_zeros(len(parts), one.shape[0], capacity, one.shape[2]) for one in (keys, values))
        for row, (part, count) in enumerate(zip(parts, used, strict=True)):
            for into, columns_of in zip(held, part or (), strict=False):
                into[row, :, columns - count : columns] = columns_of[:, :count]
        room.lazy_initialization(*held)
        room.held, room.length = held, columns  # type: ignore[assignment]
        room.keys, room.values = (one[:, :, :columns] for one in held)
        return room

    def _widen(self, used: int, capacity: int) -> None:
        self.capacity = capacity
        self.held = tuple(_copy_wider(held, used, capacity) for held in self.held)  # type: ignore[assignment]

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.length

    def taken(self, index_R: Tensor, spare: int) -> CacheLayer:
        """Return the rows of ``index_R``, in its order and as often as they occur, with room for ``spare`` columns."""
        other = CacheLayer(self.length + spare)
        if self.is_initialized:
            other.lazy_initialization(self.keys, self.values)
            other.length = self.length
            other.held = tuple(  # type: ignore[assignment]
                _copy_wider(held[:, :, : self.length].index_select(0, index_R), self.length, other.capacity)
                for held in self.held
            )
            other.keys, other.values = (held[:, :, : self.length] for held in other.held)
        return other


def _copy_wider(held: Tensor, used: int, capacity: int) -> Tensor:
    """Copy the used columns to where ``capacity`` fit."""
    rows, heads, _, size = held.shape
    wider = held.new_empty(rows, heads, capacity, size)
    wider[:, :, :used] = held[:, :, :used]
    return wider


def empty_cache(config: Any, capacity: int) -> Cache:
    """Return a cache that fits the model's layers: ours for attention, the model's own for what is recurrent."""
    cache = DynamicCache(config=config)
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    cache.layers = [CacheLayer(capacity) if type(layer) in plain else layer for layer in cache.layers]
    return cache


def _taken(cache: Cache, index_R: Tensor, spare: int) -> Cache:
    other = copy.copy(cache)
    other.layers = []
    for layer in cache.layers:
        if isinstance(layer, CacheLayer):
            other.layers.append(layer.taken(index_R, spare))
        else:
            other.layers.append(copy.deepcopy(layer))
            other.layers[-1].reorder_cache(index_R)
    return other


@dataclass(slots=True)
class CachedRows:
    """A batch of rows up to now: continue them with ``extend``, fork or drop them with ``take``.

    A shorter row starts with padding columns; ``valid_RK`` is absent if no row has any.
    """

    reader: PrefillReader
    cache: Cache
    position_R: Tensor
    """Position of the next token: how many the row has."""
    valid_RK: Tensor | None
    logits_RV: Tensor
    """Of the next token."""
    most: int
    """Upper bound of ``position_R``."""
    lead_R: Tensor | None = None
    """How far the next token's position is from ``position_R``, where images have positions of their own."""

    def take(self, index_R: Tensor, spare: int = 0) -> CachedRows:
        """Return copies of some rows, in the given order and as often as they occur: a fork leaves its parent whole."""
        valid_RK = None if self.valid_RK is None else self.valid_RK.index_select(0, index_R)
        if valid_RK is not None and bool(valid_RK.all()):
            valid_RK = None
        return CachedRows(
            self.reader,
            _taken(self.cache, index_R, spare),
            self.position_R.index_select(0, index_R),
            valid_RK,
            self.logits_RV.index_select(0, index_R),
            self.most,
            None if self.lead_R is None else self.lead_R.index_select(0, index_R),
        )

    def remember(self, row: int, ids: tuple[int, ...], store: KVStore) -> KVEntry | None:
        """Copy what is remembered of the first tokens of a row, ``ids``, where the layers and the store allow it."""
        if not all(isinstance(layer, CacheLayer) for layer in self.cache.layers):
            return None
        start = self.cache.get_seq_length() - int(self.position_R[row])  # only columns before a row's are no tokens
        return store.keep(ids, self.cache.layers, row, start)

    def extend(self, tokens_RT: Tensor, valid_RT: Tensor | None = None) -> None:
        """Read tokens that follow, left-padded where ``valid_RT`` is false."""
        rows, width = tokens_RT.shape
        positions_RT = self.position_R[:, None] + (
            torch.arange(width, device=tokens_RT.device)[None]
            if valid_RT is None
            else (valid_RT.cumsum(1) - 1).clamp(0)
        )
        self.most += width
        if self.reader.positions is not None and self.most > self.reader.positions:
            positions_RT = positions_RT.clamp(max=self.reader.positions - 1)  # rows that ended, before they are dropped
        if self.lead_R is not None and self.reader.image_encoder is not None:
            positions_RT, self.lead_R = self.reader.image_encoder.rope_positions(
                tokens_RT, valid_RT, positions_RT, self.lead_R
            )
        if valid_RT is not None or self.valid_RK is not None:
            whole = tokens_RT.new_ones(rows, width, dtype=torch.bool) if valid_RT is None else valid_RT
            before = whole.new_ones(rows, self.cache.get_seq_length()) if self.valid_RK is None else self.valid_RK
            self.valid_RK = torch.cat([before, whole], 1)
        self.logits_RV = self.reader.read(self.cache, tokens_RT, positions_RT, self.valid_RK)
        self.position_R = self.position_R + (width if valid_RT is None else valid_RT.sum(1))


class ImageInputs(Protocol):
    """What a policy that sees does with the ids of its images."""

    def reading(self, ids_RT: Tensor) -> AbstractContextManager[dict[str, Tensor]]:
        """Yield what the model reads of tokens in a pass inside."""

    def rope_positions(
        self, ids_RT: Tensor, valid_RT: Tensor | None, counted_RT: Tensor, lead_R: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return positions of new tokens, of which ``counted_RT`` are the numbers, and how far rows lead by then."""

    def next_position(self, ids: Sequence[int]) -> int:
        """Return the position of the token that follows a row's beginning."""


class PrefillReader:
    """Feeds tokens to a causal language model of Hugging Face, whatever its architecture."""

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
        self.positioned = "position_ids" in accepted
        self.positions: int | None = getattr(self.config, "max_position_embeddings", None)

    def start(
        self, prompts: Sequence[tuple[int, ...]], spare: int = 0, memories: Sequence[KVEntry | None] | None = None
    ) -> CachedRows:
        """Read prompts, each once, leaving room for ``spare`` tokens after them.

        What is remembered of a prompt is not read again, but for as many tokens at its end as the prompt with the
        longest new part has: all rows of a batch read equally many anyway.
        """
        width = max(len(ids) for ids in prompts)
        fresh = max(new_tokens(prompts, memories)) if memories is not None else width
        past = width - fresh
        lengths_R = torch.tensor([len(ids) for ids in prompts], device=self.device)
        cache = empty_cache(self.config, width + spare)
        lead_R = None if self.image_encoder is None else torch.zeros_like(lengths_R)
        rows = CachedRows(self, cache, torch.zeros_like(lengths_R), None, lengths_R[:0], 0, lead_R)
        if past and memories is not None:
            used = [max(0, len(ids) - fresh) for ids in prompts]
            held = [memory.parts if memory is not None and count else None
                    for memory, count in zip(memories, used, strict=True)]  # fmt: skip
            for layer in range(len(cache.layers)):
                parts = [part[layer] if part is not None else None for part in held]
                cache.layers[layer] = CacheLayer.joined(parts, used, past, width + spare)
            rows.position_R = (lengths_R - fresh).clamp(min=0)
            rows.most = past
            rows.valid_RK = torch.arange(past, device=self.device)[None] >= past - rows.position_R[:, None]
            if self.image_encoder is not None:
                led = [
                    self.image_encoder.next_position(ids[:count]) - count
                    for ids, count in zip(prompts, used, strict=True)
                ]
                rows.lead_R = torch.tensor(led, device=self.device)
        shown = [ids[-fresh:] for ids in prompts]
        padded = [(0,) * (fresh - len(ids)) + tuple(ids) for ids in shown]
        tokens_RT = torch.tensor(padded, dtype=torch.int64, device=self.device)
        valid_RT = torch.arange(fresh, device=self.device)[None] >= fresh - lengths_R[:, None]
        whole = bool(valid_RT.all())
        if whole and rows.valid_RK is not None and bool(rows.valid_RK.all()):
            rows.valid_RK = None
        rows.extend(tokens_RT, None if whole else valid_RT)
        return rows

    def read(self, cache: Cache, tokens_RT: Tensor, positions_RT: Tensor, valid_RK: Tensor | None) -> Tensor:
        """Run the model over new tokens and return the logits that follow the last one."""
        text = {"input_ids": tokens_RT}
        where = {"position_ids": positions_RT} if self.positioned else {}
        with nullcontext(text) if self.image_encoder is None else self.image_encoder.reading(tokens_RT) as given:
            logits = self.model(
                **given, **where, attention_mask=valid_RK, past_key_values=cache, use_cache=True, **self.extra
            ).logits
        last: Tensor = logits[:, -1]
        return last
