"""Four-bit weights (NF4, quantized twice) of a decoder under an adapter, by bitsandbytes on a GPU.

References:
    Dettmers et al., `QLoRA <https://arxiv.org/abs/2305.14314>`_, 2023, section 3.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from recipec.diagnostics.errors import machine as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.run.preflight import PreflightRequest
from recipec.spec.policy import Policy


def check(spec: Policy, request: PreflightRequest) -> Iterator[Diagnostic]:
    """Say why this machine cannot compute a policy's four-bit weights: RC511."""
    if spec.quantized() and (why := problem(request.device)):
        yield replace(errors.no_four_bits(why), path="quantization")


def problem(device: str = "auto") -> str:
    """Say why this machine cannot compute with four-bit weights; nothing where it can."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return "the package bitsandbytes is not installed"
    if device == "cpu":
        return "machine.device is cpu"
    return "" if torch.cuda.is_available() else "there is no GPU"


def quantize(model: Any, decoder: str, device: torch.device) -> Any:
    """Replace the decoder's matrices by four-bit ones, which quantize when they move to the GPU; the head stays.

    Raises:
        RecipeError: RC511, this machine cannot.
    """
    if why := problem(device.type):
        raise RecipeError(errors.no_four_bits(why))
    library: Any = importlib.import_module("bitsandbytes")
    layers: nn.Module = model.get_submodule(decoder)
    for name, module in list(layers.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        parent, _, last = name.rpartition(".")
        made = library.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=module.weight.dtype,
            compress_statistics=True,
            quant_type="nf4",
        )
        made.weight = library.nn.Params4bit(
            module.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4"
        )
        if module.bias is not None:
            made.bias = module.bias
        setattr(layers.get_submodule(parent), last, made)
    model.is_loaded_in_4bit = True  # by this peft knows which layers its own have to wrap
    return model.to(device)


def restored(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as they would be without quantization, by the names they have without an adapter.

    Quantizing them again changes them by the rounding of their blocks' scales alone.
    """
    library: Any = importlib.import_module("bitsandbytes")
    plain = dict(state)
    for name, module in model.named_modules():
        if not isinstance(module, library.nn.Linear4bit):
            continue
        key = name.replace(".base_layer", "") + ".weight"
        for other in [other for other in plain if other.startswith(key)]:
            del plain[other]
        weight: Any = module.weight
        plain[key] = library.functional.dequantize_4bit(weight.data, weight.quant_state).cpu()
    return plain
