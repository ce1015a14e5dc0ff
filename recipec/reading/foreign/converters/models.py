"""Templates, engines, data types and adapters of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recipec.reading.foreign.converters.places import home_less
from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Refused,
    Values,
    condition,
    converter,
    items_of,
    of_value,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row
from recipec.reading.foreign.values import part, reads_images

_TARGETS = {"all-linear", "all_linear", "all"}
_NAMED = re.compile(r"(language_model|model\.layers|text_model)[^$]*[.]\(([a-z_|]+)\)(_[a-z]+)?\$?$")
"""Patterns of layers of a decoder that end in their names: ``…layers.[\\d]+.(mlp|self_attn).(up|down)_proj``."""


@of_value
def template(value: Any) -> Any:
    """A chat template: a file or its text."""
    if not value:
        raise Needless("it is not set")
    text = str(value)
    if "{" in text or "\n" in text:
        return text
    if not text.endswith((".j2", ".jinja", ".jinja2")):
        raise Refused("a template is a Jinja file, not a name or a tokenizer")
    return home_less(text)


@condition
def images(file: File, model: str) -> str:
    """While the model may read images."""
    return "the model reads text alone" if reads_images(str(file.get(model))) is False else ""


@converter
def named_template(value: Any, row: Row, file: File, model: str) -> Values:
    """A chat template by its name: what the tool's own table says, or that of the model's tokenizer."""
    name_ = str(value or "").lower()
    if not name_ or name_ in {"tokenizer_default", "auto"}:
        raise Needless("it is the tokenizer's own")
    table = file.choices("template")
    known = table.get(name_, table.get("*"))
    if known == "":
        raise Needless(f"`{value}` is the tokenizer's own")
    if isinstance(known, Mapping):
        return {**known}
    if known is not None:
        if known.startswith("!"):
            raise Refused(known[1:])
        return {row.to: known}
    family, origin_ = _family(name_), str(file.get(model) or "").lower()
    if family and family in _letters(origin_) and (family.startswith(_WITH_TEMPLATE) or _TUNED.search(origin_)):
        if family == "qwen3" and re.search(r"instruct-2507", origin_):
            raise Refused(f"`{value}` writes empty thoughts before an answer, which the model's own template does not")
        raise Needless(f"`{value}` is the template of the model's family, which its tokenizer has")
    raise Refused("no template of the package marks turns like it: `policy.chat_template` may be a Jinja file")


_WITH_TEMPLATE = ("qwen", "smollm", "glm", "deepseek")
"""Families of which base models come with a chat template, too."""
_TUNED = re.compile(r"instruct|chat|-it\b|-sft|tulu|hermes|-rl|distill|thinking|reasoning")


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _family(name_: str) -> str:
    """Return what a template's name and the names of its family's models begin with.

    >>> [_family(name) for name in ("qwen3_nothink", "qwen_25", "llama3", "phi_3", "qwen2_vl", "chatml")]
    ['qwen3', 'qwen25', 'llama3', 'phi3', 'qwen2', '']
    """
    found = re.match(
        r"(qwen|llama|gemma|phi|mistral|olmo|smollm|deepseek|granite|glm|falcon|minicpm|internlm)_?\D??(\d*)(?:_(\d))?",
        name_,
    )
    return "".join(part or "" for part in found.groups()) if found else ""


@converter
def plugins(value: Any, row: Row, file: File) -> Values:
    """Extensions of axolotl: kernels and trackers change no result."""
    others = [str(item) for item in items_of(value) if not _HARMLESS.search(str(item))]
    if others:
        raise Refused(f"`{others[0].rpartition('.')[2]}` is not offered")
    raise Needless("its kernels and trackers change no result")


_HARMLESS = re.compile(r"(?i)liger|cross_?entropy|swanlab|kernels|spectrum_scanner")


@converter
def backend(value: Any, row: Row, file: File) -> Values:
    """An engine that generates, with its degrees of parallelism, such as ``sglang:d4t2``."""
    found = re.search(r"t(\d+)", str(value).partition(":")[2])
    spread = int(found[1]) if found else 1
    return {row.to: part("engine"), **({"machine.rollout.tensor_parallel": spread} if spread > 1 else {})}


@of_value
def train_backend(value: Any) -> Any:
    """An engine that trains, such as ``fsdp:d4``."""
    if not value:
        raise Needless("it is not set")
    return part("sharded")


@of_value
def device(value: Any) -> Any:
    """A type of device."""
    if str(value) not in {"cpu", "cuda", "auto"}:
        raise Refused("devices are `cpu` and `cuda`")
    return str(value)


@of_value
def dtype(value: Any) -> Any:
    """A data type of weights."""
    text = str(value).lower().removeprefix("torch.")
    known = {"bf16": "bfloat16", "bfloat16": "bfloat16", "fp32": "float32", "float32": "float32", "float": "float32"}
    if text in {"none", "null", "auto"}:
        raise Needless("the default is float32")
    if text not in known:
        raise Refused("`policy.dtype` is float32 or bfloat16")
    return known[text]


@converter
def lora(value: Any, row: Row, file: File) -> Values:
    """The switch of LoRA, reported with its parameters."""
    raise Needless("with the parameters of the adapter" if on(value) else "it is off")


@converter
def adapter(value: Any, row: Row, file: File) -> Values:
    """The kind of adapter, or of fine-tuning."""
    text = str(value or "").lower()
    if text in {"lora", "qlora"}:
        return {f"{row.to}.r": 8} if row.name == "_" else _switched(text)
    if text in {"", "full", "none", "null"}:
        raise Needless("all weights are trained")
    raise Refused(f"`{text}` is not offered: LoRA is the only adapter")


def _switched(text: str) -> Values:
    raise Needless("with the parameters of the adapter" + (" and `load_in_4bit`" if text == "qlora" else ""))


@converter
def lora_rank(value: Any, row: Row, file: File, key: str) -> Values:
    """A rank; without a scaling of its own, twice the rank."""
    if str(file.get(key)) in {"full", "freeze"} or not on(file.get(key)):
        raise Needless(f"`{key}` is {file.get(key)}")
    found: Values = {row.to: whole(value)}
    return found if file.get("lora_alpha") is not None else {**found, "policy.lora.alpha": 2 * whole(value)}


@converter
def rank_and_scale(value: Any, row: Row, file: File, key: str, usual: str) -> Values:
    """A rank; without a scaling of its own, that of the tool."""
    found: Values = {row.to: whole(value)}
    return found if file.get(key) is not None else {**found, "policy.lora.alpha": whole(usual)}


@converter
def targets(value: Any, row: Row, file: File, key: str = "") -> Values:
    """Names of adapted layers."""
    if key and (not on(file.get(key)) or str(file.get(key)) == "full"):
        raise Needless(f"`{key}` is off")
    items = [str(item) for item in items_of(value)]
    if len(items) == 1 and items[0] in _TARGETS:
        return {row.to: "all_linear"}
    if not items:
        raise Needless("it is not set")
    if len(items) == 1 and (named := _NAMED.search(items[0])):
        ends = named[2].split("|")
        return {row.to: list(dict.fromkeys(f"{end}{named[3] or ''}" for end in ends))}
    if any(re.search(r"[*\\|()^$]", item) for item in items):
        raise Refused("layers are named, not matched by a pattern")
    return {row.to: [name for item in items for name in _FUSED.get(item, (item,))]}


_FUSED = {
    "linear_qkv": ("q_proj", "k_proj", "v_proj"),
    "linear_proj": ("o_proj",),
    "linear_fc1": ("gate_proj", "up_proj"),
    "linear_fc2": ("down_proj",),
}
"""Megatron's names of layers, and those that they are made of."""
