"""Where the parts of the GPU check run, at which size, and the models and data that they share."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

import recipec

SMALL = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
         "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}  # fmt: skip
LARGE = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}  # fmt: skip
TOY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
       "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 96}  # fmt: skip


class SkipError(Exception):
    """This machine cannot run a part; the message says why."""


class WrongError(Exception):
    """Numbers are not what they have to be."""


@dataclass(frozen=True)
class Place:
    """A device, a folder, and whether sizes are those of a test.

    Example: ``Place("cuda", Path("runs/gpu"))``.
    """

    device: str
    folder: Path
    toy: bool = False

    @property
    def gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def size(self, real: int, toy: int) -> int:
        """Return a size, or the one of a test."""
        return toy if self.toy else real

    def model(self, name: str) -> Path:
        """Return the folder of a random model of the sizes of Qwen3-0.6B (``small``) or Qwen3-4B (``large``)."""
        folder = self.folder / "models" / name
        if not (folder / "tokenizer.json").exists():
            write_model(folder, self.shape(name), self.device)
        return folder

    def shape(self, name: str) -> dict:
        """Return the sizes of a model."""
        return TOY if self.toy else {"small": SMALL, "large": LARGE}[name]

    def run(self, name: str, text: str, *settings: str) -> Path:
        """Run a recipe in this process, in a folder of its own, or go on where it stopped."""
        home = self.folder / name
        home.mkdir(parents=True, exist_ok=True)
        (home / "r.yaml").write_text(text)
        recipec.run(home / "r.yaml", [f"machine.device={self.device}", *settings], out=home / "out")
        return home / "out"

    @contextmanager
    def peak(self) -> Iterator[dict]:
        """Measure the most memory of the device while something runs, in GiB."""
        found = {"gib": float("nan")}
        if self.gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        yield found
        if self.gpu:
            found["gib"] = torch.cuda.max_memory_allocated() / 2**30


def write_model(folder: Path, shape: dict, device: str) -> None:
    """Write a random Qwen3, and a tokenizer in which every token is a word: w2, w3, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(**shape, tie_word_embeddings=True, max_position_embeddings=40960, eos_token_id=1)
    config.bos_token_id = config.pad_token_id = None
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3ForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    words = ["<pad>", "<eos>", *(f"w{i}" for i in range(2, shape["vocab_size"]))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, words[0]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)


def words(count: int, seed: int, vocabulary: int) -> str:
    """Return a text of ``count`` tokens."""
    return " ".join(f"w{2 + (seed * 7919 + 37 * i + i * i) % (vocabulary - 2)}" for i in range(count))


def write_rows(path: Path, count: int, prompt: int, answer: int, vocabulary: int) -> None:
    """Write examples of one length: ``prompt`` and ``answer`` tokens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        {"prompt": words(prompt, 2 * i, vocabulary), "completion": " " + words(answer, 2 * i + 1, vocabulary)}
        for i in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def metrics(run: Path, stage: str) -> list[dict]:
    """Return the metrics of the steps of a stage, the first one left out: kernels are compiled in it."""
    lines = (run / "stages" / stage / "metrics.jsonl").read_text().splitlines()
    found = [row for row in map(json.loads, lines) if row["step"] > 0]
    return found[1:] or found


def middle(rows: list[dict], name: str) -> float:
    """Return the median of a metric."""
    return statistics.median([row[name] for row in rows if name in row] or [float("nan")])
