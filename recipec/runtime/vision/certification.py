"""Proof that an image-text architecture computes forests of rows with images as its own forward computes the rows.

As in ``attention.certification.run``, a small random model of the architecture shows it: rows that share
an image share its tokens, rows with equal words and different images share none after them, and the encoder's
gradients count, too.  The stock model is given ids, pixels and grids by its own arguments, one row at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipec.runtime.attention import interface
from recipec.runtime.attention.certification import run
from recipec.runtime.attention.certification import tiny_config as plain
from recipec.runtime.attention.sequence_logprobs import GivenModel
from recipec.runtime.batch import Batch, pad_rows
from recipec.runtime.images.picture import Picture
from recipec.runtime.model import weights
from recipec.runtime.vision.families import Idefics, Qwen
from recipec.runtime.vision.vision_lm import VisionLm
from recipec.spec import attention as specs
from recipec.spec.policy import VisionLm as Spec

_SHOWN, _BEGIN, _END = 63, 62, 61
_EYES = {
    "depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4, "intermediate_size": 32,
    "out_hidden_size": 32, "window_size": 16, "fullatt_block_indexes": [1], "spatial_merge_size": 2,
    "temporal_patch_size": 1, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "mlp_ratio": 2,
}  # fmt: skip


class Seeing(VisionLm, GivenModel):
    """A given model that sees, and images for it."""

    def __init__(self, model: Any, cache: Path) -> None:
        """Take the model as it is."""
        GivenModel.__init__(self, model, cache)  # the other one loads a model
        self.spec = Spec()
        self._see()

    def specimens(self) -> list[Picture]:
        """Draw two images: of different sizes, where the model takes any."""
        config: Any = self.model.config.vision_config
        made = []
        for name, rows in (("one", 4), ("other", 2)):
            if isinstance(self.family, Qwen):
                width = 3 * int(config.temporal_patch_size) * int(config.patch_size) ** 2
                inputs = {"pixel_values": torch.randn(4 * rows, width), "image_grid_thw": torch.tensor([[1, rows, 4]])}
                count = rows * 4 // int(config.spatial_merge_size) ** 2
            else:
                assert isinstance(self.family, Idefics)
                inputs = {"pixel_values": torch.randn(1, 1, 3, config.image_size, config.image_size)}
                count = self.family.length
            made.append(Picture(name, name, inputs, (_BEGIN, *[_SHOWN] * count, _END)))
        return made


def shrunk(config: Any) -> Any:
    """Return a small configuration of the same architecture, decoder and encoder."""
    text = plain.shrunk(config).to_dict()
    eyes = config.vision_config.to_dict()
    eyes |= {name: size for name, size in _EYES.items() if name in eyes}
    if config.model_type == "qwen2_vl":
        eyes["hidden_size"] = text["hidden_size"]
    said = {
        name: value
        for name, value in config.to_dict().items()
        if name not in {"dtype", "torch_dtype", "quantization_config", "architectures", "transformers_version"}
        and name not in {"model_type", "text_config", "vision_config"}
        and name not in text  # older files say what is the decoder's at the top
    }
    marks = {"image_token_id": _SHOWN, "video_token_id": 64, "pad_token_id": 0, "scale_factor": 2}
    said |= {name: value for name, value in marks.items() if name in config.to_dict()}
    said["tie_word_embeddings"] = bool(getattr(config, "tie_word_embeddings", False))
    return type(config)(text_config=text, vision_config=eyes, **said)


def build(small: Any) -> Any:
    """Build a random model of a small configuration, its norms and biases drawn as well."""
    kind = weights.model_class(small)
    model = kind._from_config(small, attn_implementation=weights.implementation(small))  # noqa: SLF001
    model.float().train()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


Row = tuple[list[int], list[Picture]]


def probe(one: Picture, other: Picture) -> list[Row]:
    """Rows of a tree: shared images, equal words with different images, two images, none; one row twice."""
    draw = np.random.default_rng(0)

    def some(count: int) -> list[int]:
        return [int(i) for i in draw.integers(3, _END, count)]

    begin, ask, more = some(4), some(7), some(5)
    first: Row = ([*begin, *one.tokens, *ask], [one])
    twin: Row = ([*begin, *other.tokens, *ask], [other])
    both: Row = ([*first[0], *other.tokens, *more], [one, other])
    rows = [(row[0] + some(count), row[1]) for row in (first, twin, both) for count in (3, 6)]
    return [*rows, rows[0], first, (begin + some(9), []), (some(5), [])]


def batch_of(rows: Sequence[Row]) -> Batch:
    """Lay rows out; every token is scored that is none of an image."""
    tokens_RT = pad_rows([ids for ids, _ in rows], torch.int64)
    lengths_R = torch.tensor([len(ids) for ids, _ in rows])
    attend_RT = torch.arange(tokens_RT.shape[1]) < lengths_R[:, None]
    return Batch(
        tokens_RT=tokens_RT,
        attend_RT=attend_RT,
        trained_RT=attend_RT & (tokens_RT != _SHOWN),
        pixels_I=[picture for _, shown in rows for picture in shown],
        image_row_I=torch.tensor([row for row, (_, shown) in enumerate(rows) for _ in shown], dtype=torch.int64),
    )


def stock(model: Any, rows: Sequence[Row]) -> Tensor:
    """Log-probability of every scored token but the first of each row, by the model's own forward alone."""
    found = []
    for row, shown in rows:
        ids = torch.tensor(row)
        given = {}
        for name in shown[0].inputs if shown else ():
            given[name] = torch.cat([picture.inputs[name] for picture in shown], 0 if "grid" in name or
                                    shown[0].inputs[name].dim() < 5 else 1)  # fmt: skip
        if "image_grid_thw" in given:
            given["mm_token_type_ids"] = (ids == _SHOWN).int()[None]
        logits = model(input_ids=ids[None], use_cache=False, **given).logits[0, :-1].float()
        scored = ids[1:] != _SHOWN
        found.append(torch.log_softmax(logits, -1).gather(-1, ids[1:, None])[:, 0][scored])
    return torch.cat(found)


@torch.enable_grad()
def certify(small: Any, cache: Path) -> run.Certificate:
    """Compare rows and forest in a random model of a small configuration."""
    with torch.random.fork_rng(devices=[]), weights.quiet():
        torch.manual_seed(1)
        model = build(small)
        policy = Seeing(model, cache)
        rows = probe(*policy.specimens())
        batch = batch_of(rows)
        logprob = stock(model, rows)
        weight = torch.randn(len(logprob))
        expected, expected_grad = run.scored(model, weight, logprob)
        trie = specs.Trie()
        attention = trie.load()(trie, policy.context)
        attention.layers, _ = interface.bind(model)
        policy.attention = attention
        columns = (batch[name] for name in ("tokens_RT", "attend_RT", "trained_RT", "pixels_I", "image_row_I"))
        scored_RT = batch["trained_RT"].clone()
        scored_RT[:, 0] = False
        logprob = policy.logprobs(*columns, entropy=False)["logprob_RT"][scored_RT]
        found, found_grad = run.scored(model, weight, logprob)
    return run.compared(found, found_grad, expected, expected_grad)
