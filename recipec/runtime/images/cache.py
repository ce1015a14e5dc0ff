"""Cache of encoder inputs, as many as fit in memory; others are recomputed when needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from recipec.runtime.images.picture import Inputs

MOST_BYTES = 1 << 30


class Cache:
    """Keeps the most recently used inputs, up to a number of bytes; the last one always.

    Example: ``Cache().put("9f…", made, lambda: process_again())["pixel_values"]``.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Begin empty."""
        self.most_bytes = most_bytes
        self.bytes = 0
        self._kept: OrderedDict[str, Inputs] = OrderedDict()

    def put(self, key: str, inputs: Inputs, again: Callable[[], Inputs]) -> Inputs:
        """Return a mapping that stands for ``inputs``, which ``again`` makes once more where they had to go."""
        self._keep(key, inputs)
        return _Kept(self, key, tuple(inputs), again)

    def take(self, key: str, again: Callable[[], Inputs]) -> Inputs:
        """Return what is kept under a key, or make it again."""
        entry = self._kept.get(key)
        if entry is None:
            entry = again()
            self._keep(key, entry)
        self._kept.move_to_end(key)
        return entry

    def _keep(self, key: str, inputs: Inputs) -> None:
        if key in self._kept:
            return
        self._kept[key] = inputs
        self.bytes += _size(inputs)
        while self.bytes > self.most_bytes and len(self._kept) > 1:
            self.bytes -= _size(self._kept.popitem(last=False)[1])


class _Kept(Mapping[str, Tensor]):
    """Inputs of one image, in memory or not."""

    def __init__(self, cache: Cache, key: str, names: tuple[str, ...], again: Callable[[], Inputs]) -> None:
        self.cache = cache
        self.key = key
        self.names = names
        self.again = again

    def __getitem__(self, name: str) -> Tensor:
        return self.cache.take(self.key, self.again)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _size(inputs: Inputs) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in inputs.values())
