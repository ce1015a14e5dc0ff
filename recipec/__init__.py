"""A declarative compiler of LLM post-training recipes.

Everything a recipe can say has a class of the same name here: ``recipec.Recipe``, ``recipec.Stage``,
``recipec.Chain``, ``recipec.GroupRelative``.  Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "recipec.builder": ("from_yaml", "load", "to_yaml"),
    "recipec.diagnostics": ("Diagnostic", "Refused"),
    "recipec.spec.recipe": ("Budget", "Evaluation", "Recipe", "Sampling", "Stage"),
    "recipec.spec.advantage": ("BatchStandardised", "GroupRelative", "Rloo", "Signed"),
    "recipec.spec.attention": ("Auto", "Dense", "Packed", "SharedPrefix", "Trie"),
    "recipec.spec.data": ("Columns", "File", "ReasoningGym", "Rollouts"),
    "recipec.spec.environment": ("Alfworld", "SearchQa"),
    "recipec.spec.grouping": ("AnchorState",),
    "recipec.spec.knowledge": ("Triples",),
    "recipec.spec.loss": ("Clipped", "Dpo", "Nll"),
    "recipec.spec.machine": ("Deepspeed", "Hf", "Local", "Machine", "Service", "Vllm"),
    "recipec.spec.optimizer": ("Adamw",),
    "recipec.spec.policy": ("CausalLm", "Lora", "Scratch", "VisionLm"),
    "recipec.spec.preference": ("BestVsWorst", "KgRag", "KgRank"),
    "recipec.spec.reference": ("Frozen", "Lagged"),
    "recipec.spec.reward": (
        "AnswerMatch", "Environment", "ExactMatch", "Function", "KlPenalty", "Length", "MathVerify", "RegexFormat",
        "Verifier",
    ),
    "recipec.spec.sampler": ("Chain", "Tree"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)  # noqa: PLE0605 - a list of the table's names


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'recipec' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List what can be asked for."""
    return [*globals(), *_HOME]
