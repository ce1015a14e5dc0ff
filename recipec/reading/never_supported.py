"""Keys of other tools that no recipe can have, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping

_CODE = "a recipe is data: checking, planning and reading one must be safe whoever wrote it"
REFUSED = {
    "trust_remote_code": "code that comes with a model's files is never run; only architectures of the library load",
    "allow_remote_code": "code that comes with a model's files is never run; only architectures of the library load",
    "eval": f"{_CODE}; values may refer to each other as `${{vars.x}}`",
    "exec": f"{_CODE}; your own functions go in a file under `use`",
    "shell": f"{_CODE}; no command is ever started from one",
    "command": f"{_CODE}; no command is ever started from one",
    "pickle": "pickled files run code when they are opened; weights are read from safetensors only",
    "torch_load": "pickled files run code when they are opened; weights are read from safetensors only",
    "weights_only": "pickled files are never opened, so there is nothing to restrict",
    "allow_pickle": "pickled files run code when they are opened; weights are read from safetensors only",
    "env": f"{_CODE}, and gives the same result on every machine: it reads no environment variable",
}
"""Keys that other tools have and this one never will, and why."""


_PROGRAM = {"eval", "exec", "shell", "command"}
"""Keys that other tools also have for sections of settings."""


def refused(key: object, value: object) -> bool:
    """Whether a key, with its value, is one of those that this tool never has.

    >>> refused("env", {"HF_HOME": "/x"}), refused("env", {"max_steps": 50}), refused("eval", {"steps": 5})
    (True, False, False)
    """
    if key == "env":
        return isinstance(value, Mapping) and bool(value) and all(str(name).isupper() for name in value)
    if key in _PROGRAM:
        return not isinstance(value, Mapping | bool | int)
    return key in REFUSED
