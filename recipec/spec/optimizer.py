"""Optimizers."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from recipec.component import Component, component, param


class Optimizer(Component):
    """Base class of optimizers."""

    slot: ClassVar[str] = "optimizer"

    def same_if_longer(self, updates: int | None) -> int | None:  # noqa: ARG002 - a schedule that falls reads it
        """Return how many of the first ``updates`` would be the same if there were more updates; None for all.

        Without a number, it is not known how many there were.
        """
        return None

    def length_setting(self) -> str:
        """Say which setting makes updates depend on their number."""
        return ""


@component(
    "optimizer",
    requires=("loss",),
    impl="recipec.runtime.training.optimizer:AdamW",
    state=True,
    uses=("policy",),
)
class Adamw(Optimizer):
    """AdamW with a learning-rate schedule and gradient clipping.

    References:
        Loshchilov & Hutter, `Decoupled Weight Decay Regularization <https://arxiv.org/abs/1711.05101>`_, 2019.
        Dettmers et al., `8-bit Optimizers <https://arxiv.org/abs/2110.02861>`_, 2022 (int8 moments).
        Hägele et al., `Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations
        <https://arxiv.org/abs/2405.18392>`_, 2024 (wsd).
    """

    preflight: ClassVar[str] = "recipec.runtime.model.quantization:check_moments"

    type: Literal["adamw"] = "adamw"
    learning_rate: float = param(1e-6, "Peak learning rate.", gt=0)
    betas: tuple[float, float] = param((0.9, 0.999), "Decay rates of the first and second moment.")
    epsilon: float = param(1e-8, "Added to the square root of the second moment.", gt=0)
    moments: Literal["float32", "int8", "paged_int8"] = param(
        "float32",
        "Data type of the moments: of eight bits in blocks (`int8`), also moved to the host's memory where that of the "
        "GPU runs out (`paged_int8`); both need bitsandbytes and a GPU.",
    )
    weight_decay: float = param(0.0, "Decoupled weight decay; not applied to biases and norms.", ge=0)
    schedule: Literal["constant", "linear", "cosine", "wsd"] = param(
        "constant",
        "Learning-rate schedule after warm-up: constant, falling along a line or half a cosine, or constant and then "
        "falling along a line (`wsd`, warm-up-stable-decay).",
    )
    min_ratio: float = param(
        0.0, "Last learning rate of `linear`, `cosine` and `wsd`, as a fraction of the peak.", ge=0, le=1
    )
    decay_ratio: float = param(0.1, "Fraction of all updates in which `wsd` falls.", gt=0, le=1)
    warmup_updates: int | None = param(None, "Number of updates of linear warm-up.", unit="updates", ge=0)
    warmup_ratio: float | None = param(None, "Linear warm-up as a fraction of all updates.", ge=0, le=1)
    max_grad_norm: float = param(1.0, "Maximum gradient norm (gradient clipping); 0 disables clipping.", ge=0)
    freeze: tuple[str, ...] = param(
        (),
        "Modules to freeze: `vision`, `projector` and `decoder` of a vision-language model, `embeddings` of any model; "
        "or the beginning, or a dotted part, of parameter names.",
    )
    nonfinite: Literal["stop", "skip"] = param("stop", "On a non-finite gradient: stop the run, or skip the update.")

    def same_if_longer(self, updates: int | None) -> int | None:
        """Return the warm-up, or that and the constant part of `wsd`; all updates of `constant`.

        >>> [Adamw(schedule=name).same_if_longer(100) for name in ("constant", "wsd", "cosine")]
        [None, 90, 0]
        """
        if self.warmup_ratio:
            return 0
        if self.schedule == "constant":
            return None
        warmup = self.warmup_updates or 0
        if self.schedule != "wsd" or updates is None:
            return warmup
        return max(warmup, updates - math.ceil(self.decay_ratio * updates))

    def length_setting(self) -> str:
        """Name `warmup_ratio` or the schedule."""
        if self.warmup_ratio:
            return "`optimizer.warmup_ratio` is a share of all updates"
        if self.schedule == "wsd":
            return "it has no checkpoint from before its learning rate fell (`optimizer.schedule: wsd`)"
        return f"its learning rate has fallen over the updates that it had (`optimizer.schedule: {self.schedule}`)"
