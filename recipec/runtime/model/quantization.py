"""Weights of four bits (NF4, quantized twice) or eight (LLM.int8) under an adapter, by bitsandbytes on a GPU.

References:
    Dettmers et al., `QLoRA <https://arxiv.org/abs/2305.14314>`_, 2023, section 3.
    Dettmers et al., `LLM.int8() <https://arxiv.org/abs/2208.07339>`_, 2022.
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
from recipec.host.preflight import PreflightRequest
from recipec.spec.optimizer import Adamw
from recipec.spec.policy import Policy


def check(spec: Policy, request: PreflightRequest) -> Iterator[Diagnostic]:
    """Say why this machine cannot compute a policy's four-bit weights: RC511."""
    if spec.quantized() and (why := problem(request.device)):
        yield replace(errors.no_four_bits(why), path="quantization")


def check_moments(spec: Adamw, request: PreflightRequest) -> Iterator[Diagnostic]:
    """Say why this machine cannot keep an optimizer's moments in eight bits: RC511."""
    if spec.moments != "float32" and (why := problem(request.device)):
        yield replace(errors.no_four_bits(why, "optimizer.moments"), path="moments")


def eight_bit_adamw(device: torch.device, *, paged: bool) -> Any:
    """Return the class of AdamW that keeps its moments in eight bits.

    Raises:
        RecipeError: RC511, this machine cannot.
    """
    if why := problem(device.type):
        raise RecipeError(errors.no_four_bits(why, "optimizer.moments"))
    library: Any = importlib.import_module("bitsandbytes")
    return library.optim.PagedAdamW8bit if paged else library.optim.AdamW8bit


def problem(device: str = "auto") -> str:
    """Say why this machine cannot compute with four-bit weights; nothing where it can."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return "the package bitsandbytes is not installed"
    if device == "cpu":
        return "machine.device is cpu"
    return "" if torch.cuda.is_available() else "there is no GPU"


def quantize(model: Any, decoder: str, device: torch.device, kind: str) -> Any:
    """Replace the decoder's matrices by narrow ones, which quantize when they move to the GPU; the head stays.

    Raises:
        RecipeError: RC511, this machine cannot, or the decoder has no linear layers.
    """
    if why := problem(device.type):
        raise RecipeError(errors.no_four_bits(why))
    library: Any = importlib.import_module("bitsandbytes")
    layers: nn.Module = model.get_submodule(decoder)
    linear_layers = [(name, module) for name, module in layers.named_modules() if isinstance(module, nn.Linear)]
    if not linear_layers:
        raise RecipeError(errors.no_four_bits("the layers of the model are not linear ones of torch"))
    for name, module in linear_layers:
        parent, _, last = name.rpartition(".")
        quantized = _four_bits(library, module) if kind == "nf4" else _eight_bits(library, module)
        if module.bias is not None:
            quantized.bias = module.bias
        setattr(layers.get_submodule(parent), last, quantized)
    # by this peft knows which layers its own have to wrap
    setattr(model, "is_loaded_in_4bit" if kind == "nf4" else "is_loaded_in_8bit", True)
    return model.to(device)


def _four_bits(library: Any, module: nn.Linear) -> Any:
    layer = library.nn.Linear4bit(
        module.in_features,
        module.out_features,
        bias=module.bias is not None,
        compute_dtype=module.weight.dtype,
        compress_statistics=True,
        quant_type="nf4",
    )
    layer.weight = library.nn.Params4bit(
        module.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4"
    )
    return layer


def _eight_bits(library: Any, module: nn.Linear) -> Any:
    layer = library.nn.Linear8bitLt(
        module.in_features, module.out_features, bias=module.bias is not None, has_fp16_weights=False, threshold=6.0
    )
    layer.weight = library.nn.Int8Params(module.weight.data, requires_grad=False, has_fp16_weights=False)
    return layer


def restored(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as they would be without quantization, by the names they have without an adapter.

    Quantizing them again changes them by the rounding of their scales alone.
    """
    library: Any = importlib.import_module("bitsandbytes")
    plain = dict(state)
    for name, module in model.named_modules():
        if not isinstance(module, library.nn.Linear4bit | library.nn.Linear8bitLt):
            continue
        key = name.replace(".base_layer", "") + ".weight"
        for other in [other for other in plain if other.startswith(key) or other == key.replace(".weight", ".SCB")]:
            del plain[other]
        weight: Any = module.weight
        if isinstance(module, library.nn.Linear4bit):
            plain[key] = library.functional.dequantize_4bit(weight.data, weight.quant_state).cpu()
        else:
            scale = weight.SCB if weight.SCB is not None else module.state.SCB
            plain[key] = (weight.data.float() * scale.float()[:, None] / 127).to(_width(model)).cpu()
    return plain


def _width(model: nn.Module) -> torch.dtype:
    """Return the type of the weights that were not quantized."""
    return next(p.dtype for p in model.parameters() if p.is_floating_point() and not p.requires_grad)
