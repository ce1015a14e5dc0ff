"""Recipes around a model of four thousand parameters, written to a folder and run through the command line."""

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recipec import cli

MODEL = """\
    from: scratch
    policy:
      type: causal_lm
      scratch: {architecture: llama, hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32, max_positions: 64}
"""
SFT = f"""\
recipec: 1
name: small
stages:
  learn:
    kind: sft
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 2, rows_per_step: 2}}
"""
SEEING = """\
recipec: 1
name: small
stages:
  learn:
    kind: sft
    from: scratch
    policy:
      type: vision_lm
      scratch: {architecture: qwen2_vl, hidden_size: 32, layers: 1, heads: 2, intermediate_size: 32, max_positions: 64,
                image_size: 16, patch_size: 4, vision_layers: 1}
    data: {path: a.jsonl}
    optimizer: {learning_rate: 1.0e-2}
    budget: {steps: 2, rows_per_step: 2}
"""
AGAIN = """\
  again:
    kind: sft
    from: learn
    data: {path: b.jsonl}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 1, rows_per_step: 2}
"""
RL = f"""\
recipec: 1
name: small
use: [./rewards.py]
stages:
  explore:
    kind: rl
{MODEL}\
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 2, max_completion_length: 4}}
    reward:
      right: {{type: function, name: score}}
    advantage:
      group: {{type: group_relative}}
    loss: {{type: clipped}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 2, prompts_per_step: 2}}
"""


def rows(*made: dict[str, Any]) -> str:
    """Write rows as JSONL."""
    return "".join(json.dumps(row) + "\n" for row in made)


ROWS = rows(*({"prompt": f"p{i}", "completion": f"c{i}", "answer": str(i)} for i in range(4)))


@dataclass
class Ended:
    """What the command line gave back."""

    code: int
    out: str
    err: str

    @property
    def first(self) -> str:
        """Code of the first error, or nothing; a run prints warnings of its check before."""
        return self.err.partition("error[")[2].partition("]")[0]


class Folder:
    """A folder with a recipe, its data, and what was run in it."""

    def __init__(self, path: Path, monkeypatch: Any, capsys: Any) -> None:
        self.path = path
        self.monkeypatch = monkeypatch
        self.capsys = capsys
        monkeypatch.chdir(path)
        monkeypatch.setenv("XDG_CACHE_HOME", str(path / "cache"))

    def write(self, **files: str | bytes) -> None:
        """Write files; `__` in a name is a dot."""
        for name, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            (self.path / name.replace("__", ".")).write_bytes(data)

    def call(self, *args: str, stdin: str = "") -> Ended:
        """Call `recipec` in this process, as its entry point does."""
        self.monkeypatch.setattr(sys, "argv", ["recipec", *args])
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        self.capsys.readouterr()
        code: Any = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            torch.use_deterministic_algorithms(mode=False)
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err
        return Ended(code, out, err)

    def run(self, recipe: str, *args: str, **files: str | bytes) -> Ended:
        """Write a recipe and its files, and run it."""
        self.write(r__yaml=recipe, **files)
        return self.call("run", "r.yaml", *args)
