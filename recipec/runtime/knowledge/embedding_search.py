"""Find entities similar to a text: mean-pooled sentence embeddings, nearest by cosine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipec.diagnostics.errors import knowledge as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import hash_tree
from recipec.host.build_once import build_once
from recipec.runtime.model.package_weights import locate
from recipec.runtime.model.weights import quiet
from recipec.spec.recipe import weights_kind

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext
    from recipec.spec import knowledge as specs

_FORMAT = 1
BATCH = 64
MAX_TOKENS = 256


class Embedder:
    r"""A sentence-embedding model, read with transformers alone.

    The embedding of a text is the mean of the last layer's states over its tokens, at length 1:
    :math:`e = \bar h / \lVert \bar h \rVert`, so that a product of two is their cosine.

    References:
        Reimers and Gurevych, `Sentence-BERT <https://arxiv.org/abs/1908.10084>`_, 2019.
    """

    def __init__(self, folder: Path, shown: str, cache: Path) -> None:
        """Read the model; ``cache`` keeps the embeddings of labels.

        Raises:
            RecipeError: RC880.
        """
        from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - slow, and only where texts are compared

        try:
            with quiet():
                self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                self.model: Any = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
            self.known = hash_tree(folder)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            problem = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RecipeError(errors.no_embedder(shown, problem)) from None
        self.cache = cache
        self._titles: Sequence[tuple[str, str]] | None = None
        self._of_titles = torch.empty(0)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of texts, [texts, width], float32 of length 1."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # similar lengths together need little padding
        vectors: list[Tensor] = [torch.empty(0)] * len(texts)
        for start in range(0, len(texts), BATCH):
            places = order[start : start + BATCH]
            part = [texts[i] or " " for i in places]
            encoded = self.tokenizer(part, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            states = self.model(**encoded).last_hidden_state.float()
            mask = encoded["attention_mask"].unsqueeze(-1).float()
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            for place, vector in zip(places, torch.nn.functional.normalize(mean, dim=-1), strict=True):
                vectors[place] = vector
        return torch.stack(vectors) if vectors else torch.empty(0)

    def nearest(self, text: str, top_k: int, titles: Sequence[tuple[str, str]]) -> list[tuple[str, float]]:
        """Return the entities with a title similar to a text, with the best cosine, the nearest first.

        ``titles`` are (entity, label) and are embedded once.
        """
        if not titles:
            return []
        if self._titles is not titles:
            self._titles, self._of_titles = titles, self._kept([label for _, label in titles])
        score = self._of_titles @ self.embed([text])[0]
        best: dict[str, float] = {}
        for place in score.argsort(descending=True, stable=True).tolist():
            best.setdefault(titles[place][0], float(score[place]))
            if len(best) == top_k:
                break
        return list(best.items())

    def _kept(self, labels: Sequence[str]) -> Tensor:
        """Return the embeddings of labels, from the cache where they were computed before."""
        key = hashlib.sha256(json.dumps([_FORMAT, self.known, *labels]).encode()).hexdigest()[:32]
        path = self.cache / "embeddings" / f"{key}.safetensors"
        return build_once(path, _read, lambda path: save_file({"labels": self.embed(labels)}, path))


def _read(path: Path) -> Tensor | None:
    with suppress(OSError, SafetensorError, KeyError):
        labels: Tensor = load_file(path)["labels"]
        return labels
    return None


def resembling(spec: specs.Knowledge, context: StageContext) -> Embedder | None:
    """Load the embedding model that a recipe names, if it names one.

    Raises:
        RecipeError: RC880; RC716, RC728 of its package.
    """
    if spec.embedder is None:
        return None
    if weights_kind(spec.embedder) == "package":
        return Embedder(locate(spec.embedder, context.cache), spec.embedder, context.cache)
    return Embedder(context.root / spec.embedder, spec.embedder, context.cache)
