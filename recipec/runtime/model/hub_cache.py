"""Models of the hub in the cache of this machine."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache

_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "adapter_config.json")


def cached_commit(name: str) -> str:
    """Return the commit of ``org/name`` that the cache has; empty if it has none."""
    for file in _FILES:
        path = try_to_load_from_cache(name, file)
        if isinstance(path, str):
            return Path(path).parent.name
    return ""
