"""Entities that resemble a text: mean-pooled sentence embeddings, nearest by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recipec.diagnostics import Refused
from recipec.faults import knowledge as faults
from recipec.runtime.package import locate
from recipec.spec.recipe import weights_kind

if TYPE_CHECKING:
    from recipec.runtime.setting import Setting
    from recipec.spec import knowledge as specs

BATCH = 64
MAX_TOKENS = 256


class Embedder:
    r"""A sentence-embedding model, read with transformers alone.

    The embedding of a text is the mean of the last layer's states over its tokens, at length 1:
    :math:`e = \bar h / \lVert \bar h \rVert`, so that a product of two is their cosine.

    References:
        Reimers and Gurevych, `Sentence-BERT <https://arxiv.org/abs/1908.10084>`_, 2019.
    """

    def __init__(self, folder: Path, shown: str) -> None:
        """Read the model.

        Raises:
            Refused: RC880.
        """
        from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - slow, and only where texts are compared

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.model: Any = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            problem = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise Refused(faults.no_embedder(shown, problem)) from None
        self._titles: Sequence[tuple[str, str]] | None = None
        self._of_titles = torch.empty(0)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of texts, [texts, width], float32 of length 1."""
        found = []
        for start in range(0, len(texts), BATCH):
            part = [text or " " for text in texts[start : start + BATCH]]
            given = self.tokenizer(part, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            states = self.model(**given).last_hidden_state.float()
            mask = given["attention_mask"].unsqueeze(-1).float()
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            found.append(torch.nn.functional.normalize(mean, dim=-1))
        return torch.cat(found) if found else torch.empty(0)

    def nearest(self, text: str, top_k: int, titles: Sequence[tuple[str, str]]) -> list[tuple[str, float]]:
        """Return the entities whose titles resemble a text, with the cosine, nearest first.

        ``titles`` are (entity, label); they are embedded once, as long as they are the same.
        """
        if not titles:
            return []
        if self._titles is not titles:
            self._titles, self._of_titles = titles, self.embed([label for _, label in titles])
        score = self._of_titles @ self.embed([text])[0]
        best, at = score.topk(min(top_k, len(titles)))
        return [(titles[i][0], float(s)) for s, i in zip(best.tolist(), at.tolist(), strict=True)]


def resembling(spec: specs.Graph, setting: Setting) -> Embedder | None:
    """Read the model that a recipe names, if it names one.

    Raises:
        Refused: RC880; RC727, RC728 of its package.
    """
    if spec.embedder is None:
        return None
    if weights_kind(spec.embedder) == "package":
        return Embedder(locate(spec.embedder, setting.cache), spec.embedder)
    return Embedder(setting.root / spec.embedder, spec.embedder)
