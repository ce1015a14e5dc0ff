"""Images in the rows of ``recipec certify``, for policies that read images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Batch, pad_rows
from recipec.runtime.images.picture import Picture

COLUMNS = ("tokens_RT", "attend_RT", "trained_RT")


def columns(part: Batch, width: int) -> list[Any]:
    """Return the columns that a policy scores, cut to a width, and the images if there are any."""
    cut = [part[name][:, :width] for name in COLUMNS]
    return cut + [part[name] for name in ("pixels_I", "image_row_I") if name in part]


def keyed(policy: Any, batch: Batch) -> Batch:
    """Return a batch in which different images have different ids, if the policy reads images."""
    tagged: Batch = batch if policy.image_encoder is None else policy.tag_batch(batch)
    return tagged


def with_images(policy: Any, batch: Batch, *, recorded: bool) -> Batch:
    """Insert an image after the first token of every row; rows with the same beginning have the same image.

    Raises:
        RecipeError: RC836, recorded rows have images, and files of rows do not contain their pixels.
    """
    if policy.image_encoder is None:
        return batch
    if recorded:
        if bool((batch["tokens_RT"] == policy.shown).any()):
            raise RecipeError(
                errors.nothing_to_certify("recorded rows do not contain the pixels of their images: omit `--rows`")
            )
        return batch
    shown = policy.image_encoder.sample_pictures()
    chosen: dict[tuple[int, ...], Picture] = {}
    rows: list[tuple[list[int], list[bool]]] = []
    pictures: list[Picture] = []
    for tokens_T, attend_T, trained_T in zip(*(batch[name] for name in COLUMNS), strict=True):
        ids = [token if token != policy.shown else 0 for token in tokens_T[attend_T].tolist()]
        picture = chosen.setdefault(tuple(ids[:4]), shown[len(chosen) % len(shown)])
        trained = trained_T[attend_T].tolist()
        tokens = [*ids[:1], *picture.tokens, *ids[1:]][: policy.max_positions]
        on = [*trained[:1], *[False] * len(picture.tokens), *trained[1:]][: policy.max_positions]
        rows.append((tokens, on))
        pictures.append(picture)
    lengths_R = torch.tensor([len(ids) for ids, _ in rows])
    tokens_RT = pad_rows([ids for ids, _ in rows], torch.int64)
    attend_RT = torch.arange(tokens_RT.shape[1]) < lengths_R[:, None]
    return Batch(
        tokens_RT=tokens_RT,
        attend_RT=attend_RT,
        trained_RT=attend_RT & pad_rows([on for _, on in rows], torch.float32).bool(),
        pixels_I=pictures,
        image_row_I=torch.arange(len(pictures)),
    )


def shifted_tokens(policy: Any, batch: Batch, shift: int) -> Tensor:
    """Return other ids with the same common prefixes; image tokens are unchanged."""
    tokens_RT: Tensor = batch["tokens_RT"]
    shifted_RT: Tensor = (tokens_RT + shift) % policy.vocabulary
    if policy.image_encoder is None:
        return shifted_RT
    marks = torch.tensor(sorted({i for picture in batch.get("pixels_I", ()) for i in picture.tokens}))
    shifted_RT[shifted_RT == policy.shown] = 0
    kept_RT: Tensor = torch.isin(tokens_RT, marks)
    return torch.where(kept_RT, tokens_RT, shifted_RT)
