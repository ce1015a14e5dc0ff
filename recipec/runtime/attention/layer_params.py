"""What a layer of a model does in its attention: read from the arguments of the call and the model's configuration."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recipec.runtime.attention.kernels.reference import Layer

_FULL_ATTENTION_TYPES = {"full_attention", "attention", "hybrid"}
_IGNORED_KWARGS = {
    "position_ids",
    "use_cache",
    "output_attentions",
    "output_router_logits",
    "is_causal",
    "cache_position",
}
"""Arguments of families' attention that have no effect in a pass without a cache."""


class Unsupported(Exception):  # noqa: N818 - turned into a coded diagnostic
    """A layer needs a feature that our attention does not have."""


def layer_params(module: nn.Module, query: Tensor, kwargs: dict[str, Any]) -> Layer:
    """Return a layer's scale, window, chunk, soft-cap and sink, from its arguments or the configuration.

    Raises:
        Unsupported: the layer has something else, which would be ignored.
    """
    scale = kwargs.get("scaling")
    window, chunk = _window_and_chunk(module, kwargs.get("sliding_window"))
    softcap, sink = kwargs.get("softcap"), kwargs.get("s_aux")
    known = {"scaling", "sliding_window", "softcap", "s_aux"} | _IGNORED_KWARGS
    for name, value in kwargs.items():
        if name not in known and isinstance(value, Tensor) and value.is_floating_point():
            raise Unsupported(f"its attention has `{name}`")
    return Layer(
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
        window=window,
        chunk=chunk,
        softcap=None if not softcap else float(softcap),
        sink_H=None if sink is None else sink.reshape(-1),
    )


def layer_kind(module: nn.Module) -> str | None:
    """Return what the configuration calls the layer, such as `sliding_attention`; None if it has no such list."""
    index = getattr(module, "layer_idx", None)
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    return kinds[index] if kinds and index is not None and index < len(kinds) else None


def _window_and_chunk(module: nn.Module, argument: int | None) -> tuple[int | None, int | None]:
    """Return the layer's window and chunk in positions."""
    config: Any = getattr(module, "config", None)
    kind = layer_kind(module)
    if kind == "chunked_attention":
        return None, int(config.attention_chunk_size)
    if kind in _FULL_ATTENTION_TYPES:
        return None, None
    if kind == "sliding_attention":
        window = argument or getattr(config, "sliding_window", None)
        if window is None:
            raise Unsupported("a sliding layer has no window size")
        return int(window), None
    if kind is not None:
        raise Unsupported(f"it has layers of the kind `{kind}`")
    if argument is None and getattr(config, "use_sliding_window", True):
        argument = getattr(config, "sliding_window", None)
    return (None if argument is None else int(argument)), None
