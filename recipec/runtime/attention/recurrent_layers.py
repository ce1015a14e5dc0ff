"""Recurrent, linear and convolutional layers over a forest: expand, mix, contract.

Such a layer carries a state from each token to the next, so it needs rows.  It alone is given them: hidden states are
gathered from the forest into its leaves' rows, right-padded, the layer runs as it is, and each unique token takes the
result of one of the rows that it belongs to; they all agree, since the layer is causal.  The rest of the model, often
most of its operations, still sees each token once.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recipec.runtime.attention.prefix_tree import PrefixTree

_KINDS = re.compile(r"(Mixer|MambaLayer|DeltaNet|DeltaAttention|ShortConv|LightningAttention|RecurrentBlock)$")
_OF_ROWS = ("attention_mask", "mask", "seq_idx", "cu_seq_lens_q", "cu_seq_lens_k", "cu_seqlens")
"""Arguments that speak of rows in the layout of the forest; in rows that are padded on the right none is needed."""
_MARK = "_recipec_mixer"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a forest's leaves, and where each token is found in them."""

    node_RT: Tensor
    row_N: Tensor
    column_N: Tensor

    def expand(self, value: Any) -> Any:
        """Turn what is a token long into rows; tuples inwards, and all else as it is."""
        if isinstance(value, tuple):
            return tuple(self.expand(one) for one in value)
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == (1, len(self.row_N)):
            return value[0][self.node_RT]
        return value

    def contract(self, value: Any) -> Any:
        """Turn rows into tokens."""
        if isinstance(value, tuple):
            return tuple(self.contract(one) for one in value)
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == self.node_RT.shape:
            return value[self.row_N, self.column_N][None]
        return value


def rows_of(forest: PrefixTree, device: torch.device) -> Rows:
    """Lay out one row for each leaf."""
    lengths = forest.lengths_R
    some = np.flatnonzero(lengths > 0)
    last = forest.node_RT[some, lengths[some] - 1]
    leaf = forest.exit_N[last] == last + 1
    _, first = np.unique(last[leaf], return_index=True)  # of equal rows one
    chosen = some[leaf][first]
    inside = np.arange(forest.node_RT.shape[1]) < lengths[chosen][:, None]
    node = np.where(inside, forest.node_RT[chosen], 0)
    row, column = np.zeros(forest.size, dtype=np.int64), np.zeros(forest.size, dtype=np.int64)
    places = inside.nonzero()
    row[node[places]], column[node[places]] = places
    return Rows(*(torch.from_numpy(found).to(device) for found in (node, row, column)))


def mixers(model: nn.Module) -> list[Any]:
    """The layers of a model that carry a state."""
    return [module for module in model.modules() if _KINDS.search(type(module).__name__)]


def bind(model: nn.Module, rows: Callable[[torch.device], Rows | None]) -> int:
    """Let each such layer ask for rows first; return how many there are.

    Layers change their class and nothing else, so that copies of the model are bound, each to its own weights.
    """
    found = mixers(model)
    for module in found:
        if not getattr(module, _MARK, False):
            module.__class__ = _over_rows(type(module), rows)  # type: ignore[arg-type]
    return len(found)


@functools.cache
def _over_rows(kind: Any, rows: Callable[[torch.device], Rows | None]) -> type[nn.Module]:
    """Derive a layer that mixes rows where there is a forest."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else next(value for value in kwargs.values() if isinstance(value, Tensor))
        laid = rows(hidden.device)
        if laid is None:
            return kind.forward(self, *args, **kwargs)
        given = {name: None if name in _OF_ROWS else laid.expand(value) for name, value in kwargs.items()}
        return laid.contract(kind.forward(self, *(laid.expand(value) for value in args), **given))

    inside = {"forward": forward, _MARK: True, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), inside)
