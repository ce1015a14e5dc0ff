"""Recurrent, linear and convolutional layers over a prefix tree.

Such a layer has a state that passes from each token to the next, so it needs whole sequences.  Hidden states are
gathered from the tree into one right-padded sequence per leaf, the layer runs unchanged, and each unique token takes
its result from one of its sequences; the layer is causal, so all of them agree.  The rest of the model, often most of
its operations, still processes each token once.
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
"""Arguments about the layout of sequences; sequences that are padded on the right need none."""
_MARK = "_recipec_mixer"


@dataclass(frozen=True, slots=True)
class Rows:
    """The sequences of a tree's leaves, and the place of each token in them."""

    node_RT: Tensor
    row_N: Tensor
    column_N: Tensor

    def expand(self, value: Any) -> Any:
        """Turn tensors over tokens into sequences, inside tuples too; other values are unchanged."""
        if isinstance(value, tuple):
            return tuple(self.expand(one) for one in value)
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == (1, len(self.row_N)):
            return value[0][self.node_RT]
        return value

    def contract(self, value: Any) -> Any:
        """Turn tensors over sequences into tokens."""
        if isinstance(value, tuple):
            return tuple(self.contract(one) for one in value)
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == self.node_RT.shape:
            return value[self.row_N, self.column_N][None]
        return value


def rows_of(tree: PrefixTree, device: torch.device) -> Rows:
    """Return one sequence for each leaf."""
    lengths = tree.lengths_R
    some = np.flatnonzero(lengths > 0)
    last = tree.node_RT[some, lengths[some] - 1]
    leaf = tree.exit_N[last] == last + 1
    _, first = np.unique(last[leaf], return_index=True)  # one of equal sequences
    chosen = some[leaf][first]
    inside = np.arange(tree.node_RT.shape[1]) < lengths[chosen][:, None]
    node = np.where(inside, tree.node_RT[chosen], 0)
    row, column = np.zeros(tree.size, dtype=np.int64), np.zeros(tree.size, dtype=np.int64)
    places = inside.nonzero()
    row[node[places]], column[node[places]] = places
    return Rows(*(torch.from_numpy(array).to(device) for array in (node, row, column)))


def mixers(model: nn.Module) -> list[Any]:
    """Return the recurrent layers of a model."""
    return [module for module in model.modules() if _KINDS.search(type(module).__name__)]


def install(model: nn.Module, rows: Callable[[torch.device], Rows | None]) -> int:
    """Let each recurrent layer use ``rows``; return the number of such layers.

    Only the class of a layer changes, so that copies of the model have it too, each to its own weights.
    """
    layers = mixers(model)
    for module in layers:
        if not getattr(module, _MARK, False):
            module.__class__ = _over_rows(type(module), rows)  # type: ignore[arg-type]
    return len(layers)


@functools.cache
def _over_rows(kind: Any, rows: Callable[[torch.device], Rows | None]) -> type[nn.Module]:
    """Derive a layer that runs on whole sequences in a pass over a prefix tree."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else next(value for value in kwargs.values() if isinstance(value, Tensor))
        laid = rows(hidden.device)
        if laid is None:
            return kind.forward(self, *args, **kwargs)
        arguments = {name: None if name in _OF_ROWS else laid.expand(value) for name, value in kwargs.items()}
        return laid.contract(kind.forward(self, *(laid.expand(value) for value in args), **arguments))

    inside = {"forward": forward, _MARK: True, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), inside)
