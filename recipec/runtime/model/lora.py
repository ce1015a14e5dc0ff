"""Low-rank adapters: new ones, ones that are continued, ones that are merged; plain LoRA and nothing else."""

from __future__ import annotations

import json
import re
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import regex
import torch
from peft import LoraConfig, PeftMixedModel, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from recipec.diagnostics.errors import model as errors, trust
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.diagnostics.phrases import did_you_mean, listed
from recipec.runtime.model.weights import BASE, INDEX, read_json, weight_files
from recipec.spec.policy import Lora

SAME = 1e-5
"""Largest difference of logits before and after a merge, for logits of size 1."""
ALL = "all-linear"
MATCH_SECONDS = 5.0
CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_TAKEN = ("r", "lora_alpha", "lora_dropout", "target_modules", "fan_in_fan_out", "use_rslora")
# what they say is the default, or about the file and not about the adapter
_IGNORED = {
    "peft_type", "task_type", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping",
    "megatron_core", "loftq_config", "qalora_group_size", "runtime_config",
}  # fmt: skip
_INIT, _KEEPS_BASE = "init_lora_weights", (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin an adapter that leave the weights under it as they are; with others it belongs to changed ones."""
_DEFAULT = re.compile(r"\.default(?=\.|$)")  # the adapter's name, which files leave out
_PLAIN: tuple[Any, ...] = (None, False, {}, [], "none", "")


def base_model(model: Any) -> Any:
    """Return the model inside peft's wrapper, with adapters as layers of it; a model without a wrapper as it is."""
    return model.get_base_model() if isinstance(model, PeftModel | PeftMixedModel) else model


def add(model: Any, spec: Lora, seed: int) -> PeftModel:
    """Put a new adapter into ``model``: its first matrices are drawn from ``seed``, the second ones are 0.

    Raises:
        RecipeError: RC732, no layer has a name among the targets.
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding | Conv1D)]
    for target in () if spec.targets == "all_linear" else spec.targets:
        if not any(f".{layer}".endswith(f".{target}") for layer in layers):  # peft passes over one of several
            raise RecipeError(unknown_target(target, layers))
    targets = ALL if spec.targets == "all_linear" else list(spec.targets)
    config = LoraConfig(
        r=spec.r, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=targets, task_type=_task(model)
    )
    return _inject(model, config, seed)


def _task(model: Any) -> str:
    """Return peft's name of what a model does; all linear layers are then those without its head."""
    return "CAUSAL_LM" if predicts_tokens(model) else "SEQ_CLS"


def predicts_tokens(model: Any) -> bool:
    """Whether a model has a layer that predicts tokens; a reward model has none."""
    return model.get_output_embeddings() is not None


def unknown_target(target: str, layers: Sequence[str]) -> Diagnostic:
    """Return RC732 for a target that names none of the ``layers``, with the names that there are.

    >>> unknown_target("q", ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]).help
    'its layers are `q_proj`'
    """
    names = list(dict.fromkeys(layer.rpartition(".")[2] for layer in layers))
    remedy = f"{did_you_mean(target, names)} its layers are {listed(names)}".strip()
    problem = f"the model has no layer with the name `{target}`"
    return errors.adapter_mismatch(problem, remedy, "policy.lora.targets")


def load(model: Any, folder: Path, spec: Lora | None) -> PeftModel:
    """Put the adapter of ``folder`` into ``model``; where the recipe describes it too, the two agree.

    Raises:
        RecipeError: RC603, RC604, it is a pickle or more than LoRA; RC722, RC723, RC732, RC735, it cannot be used.
    """
    config = _described(folder)
    config.task_type = _task(model)
    if isinstance(config.target_modules, str) and config.target_modules != ALL:
        config.target_modules = _matching(model, config.target_modules, folder)
    if spec is not None:
        for name, mine, its in (("r", spec.r, config.r), ("alpha", spec.alpha, config.lora_alpha)):
            if mine != its:
                raise RecipeError(
                    errors.adapter_mismatch(f"lora.{name} is {mine}, and the adapter in {folder} was made with {its}")
                )
    config.lora_dropout = 0.0 if spec is None else spec.dropout  # as the recipe says, which the graph is made for
    adapted = _inject(model, config, 0)
    try:
        weights = load_file(folder / WEIGHTS)
        expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        if set(weights) != set(expected):
            raise RecipeError(_stray(folder, set(weights) ^ set(expected)))
        set_peft_model_state_dict(adapted, weights)
    except (SafetensorError, RuntimeError) as error:
        raise RecipeError(errors.damaged_weights(str(folder), str(error).partition("\n")[0])) from error
    return adapted


@torch.no_grad()
def merge(model: Any, folder: Path) -> Any:
    """Add the adapter of ``folder`` to the weights of ``model``, which is returned without it.

    A weight that several layers share gets a copy for each layer under the adapter: merged into the shared one, the
    adapter would change all of them.

    Raises:
        RecipeError: RC737, the outputs are others than with the adapter; and what ``load`` raises.
    """
    adapted = load(model, folder, None)
    adapted.eval()
    tokens = torch.arange(min(16, model.config.get_text_config().vocab_size))[None]
    before = _outputs(model, tokens)
    # deep models amplify rounding: a shorter row shows by how much
    rounding = (_outputs(model, tokens[:, :5]) - before[:, :5]).abs().max().item()
    _untie(model)
    merged = adapted.merge_and_unload()
    difference = (_outputs(merged, tokens) - before).abs().max().item()
    if not difference <= max(SAME * before.abs().max().item(), SAME, 10 * rounding):
        raise RecipeError(errors.merge_differs(str(folder), difference))
    return merged


def _outputs(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return the logits of each token; of a reward model, which has one score for all, its hidden states."""
    outputs: torch.Tensor
    if predicts_tokens(model):
        outputs = model(input_ids=tokens, use_cache=False).logits
    else:
        outputs = getattr(model, model.base_model_prefix)(input_ids=tokens, use_cache=False).last_hidden_state
    return outputs.double()


def _untie(model: Any) -> None:
    """Give each layer under an adapter its own weight where others have the same one."""
    owners = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    for layer in model.modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        own = layer.get_base_layer()
        if owners[id(own.weight)] > 1:
            own.weight = nn.Parameter(own.weight.clone(), requires_grad=own.weight.requires_grad)
            for config in (model.config, model.config.get_text_config()):
                config.tie_word_embeddings = False


def _described(folder: Path) -> LoraConfig:
    """Read the configuration of an adapter: the keys of plain LoRA are taken, any other one that says something not."""
    described = read_json(folder / CONFIG)
    for key, value in described.items():
        plain = _KEEPS_BASE if key == _INIT else _PLAIN
        unplain = value not in plain and key not in _TAKEN and key not in _IGNORED
        if unplain or (key == "peft_type" and value != "LORA"):
            raise RecipeError(trust.adapter_code(str(folder / CONFIG), f"{key}: {value}"))
    if not (folder / WEIGHTS).is_file():
        if (folder / PICKLE).exists():
            raise RecipeError(trust.pickled_weights(str(folder), PICKLE))
        raise RecipeError(errors.missing_file(str(folder), WEIGHTS))
    try:
        return LoraConfig(**{key: described[key] for key in _TAKEN if key in described})
    except (TypeError, ValueError) as error:
        raise RecipeError(errors.unreadable(str(folder / CONFIG), str(error))) from error


def _matching(model: Any, pattern: str, folder: Path) -> set[str]:
    """Return the names of the layers that match a pattern, which peft would match without a limit of time."""
    begun = time.monotonic()
    try:
        return {
            name
            for name, _ in model.named_modules()
            if regex.fullmatch(pattern, name, timeout=max(0.01, MATCH_SECONDS - time.monotonic() + begun))
        }
    except (regex.error, OverflowError, RecursionError, TimeoutError) as error:
        problem = f"matching takes more than {MATCH_SECONDS:.0f} s" if isinstance(error, TimeoutError) else str(error)
        raise RecipeError(errors.unreadable(str(folder / CONFIG), f"`target_modules`: {problem}")) from None


def _stray(folder: Path, names: set[str]) -> Any:
    first = min(names)
    return errors.adapter_mismatch(f"the adapter in {folder} does not fit the model: {len(names)} names, {first} first")


def _inject(model: Any, config: LoraConfig, seed: int) -> PeftModel:
    config.fan_in_fan_out = any(isinstance(module, Conv1D) for module in model.modules())
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to those who write peft's calls by hand
            torch.manual_seed(seed)
            return PeftModel(model, config)  # what it adds for a task, such as a copy of the head, has no use here
    except ValueError as error:
        raise RecipeError(errors.adapter_mismatch(str(error).partition("\n")[0])) from error


def hide_base(folder: Path) -> None:
    """Move the weights of a folder into ``base/`` under names of their own, and let the index point there.

    ``from_pretrained`` follows the index, and adds the adapter of the folder. A converter or a server that looks for
    ``model*.safetensors`` finds nothing, and cannot take the weights under the adapter for those that were trained.
    """
    (folder / BASE).mkdir()
    places: dict[str, str] = {}
    for number, file in enumerate(weight_files(folder)):
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
        place = f"{BASE}/weights-{number:05d}.safetensors"
        file.rename(folder / place)
        places |= dict.fromkeys(names, place)
    index = {"metadata": {}, "weight_map": dict(sorted(places.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def save(adapted: PeftModel, folder: Path, base: str | None, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write the adapter in peft's format into ``folder``; ``base`` is the hub's name of the weights under it, if any.

    ``weights`` are those of the adapter by the names of the model inside; the adapter's own if left out.
    """
    config = adapted.peft_config["default"]
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(folder)
    config.inference_mode = False
    written = json.loads((folder / CONFIG).read_text(encoding="utf-8"))  # a set, in another order in every process
    if isinstance(written.get("target_modules"), list):
        written["target_modules"] = sorted(written["target_modules"])
        (folder / CONFIG).write_text(json.dumps(written, indent=2, sort_keys=True), encoding="utf-8")
    if weights is None:
        state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    else:
        state = {f"base_model.model.{_DEFAULT.sub('', name)}": tensor for name, tensor in weights.items()}
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / WEIGHTS)


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


def base_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights under the adapter, by the names they have without it."""
    return {name.replace(".base_layer.", "."): tensor for name, tensor in state.items() if not is_adapter(name)}
