"""Optimizers."""

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

    def moment_bytes(self) -> int:
        """Return the bytes of the state of a weight, about.

        >>> Adamw().moment_bytes(), Adamw(moments="int8").moment_bytes(), Adafactor().moment_bytes()
        (8, 2, 0)
        """
        return 8

    def whole(self) -> str:
        """Return the parameter for which it cannot be spread over devices; empty if it can."""
        return ""


class Scheduled(Optimizer):
    """Base class of optimizers with a learning-rate schedule and gradient clipping."""

    learning_rate: float = param(1e-6, "Peak learning rate.", gt=0)
    weight_decay: float = param(0.0, "Decoupled weight decay; not applied to biases and norms.", ge=0)
    schedule: Literal["constant", "linear", "cosine", "wsd"] = param(
        "constant",
        "Learning-rate schedule after warm-up: constant, falling along a line or half a cosine, or constant and then "
        "falling along a line (`wsd`, warm-up-stable-decay).",
    )
    min_ratio: float = param(
        0.0,
        "What the learning rate of `linear`, `cosine` and `wsd` falls to, as a fraction of the peak: an update after "
        "the last would have it.",
        ge=0,
        le=1,
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


@component(
    "optimizer",
    requires=("loss",),
    impl="recipec.runtime.training.optimizer:AdamW",
    state=True,
    uses=("policy",),
)
class Adamw(Scheduled):
    """AdamW with a learning-rate schedule and gradient clipping.

    References:
        Loshchilov & Hutter, `Decoupled Weight Decay Regularization <https://arxiv.org/abs/1711.05101>`_, 2019.
        Dettmers et al., `8-bit Optimizers <https://arxiv.org/abs/2110.02861>`_, 2022 (int8 moments).
        Hägele et al., `Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations
        <https://arxiv.org/abs/2405.18392>`_, 2024 (wsd).
    """

    preflight: ClassVar[str] = "recipec.runtime.model.quantization:check_moments"

    type: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = param((0.9, 0.999), "Decay rates of the first and second moment.")
    epsilon: float = param(1e-8, "Added to the square root of the second moment.", gt=0)
    moments: Literal["float32", "int8", "paged_int8"] = param(
        "float32",
        "Data type of the moments: of eight bits in blocks (`int8`), also moved to the host's memory where that of the "
        "GPU runs out (`paged_int8`); both need bitsandbytes and a GPU.",
    )

    def moment_bytes(self) -> int:
        """Return the bytes of two moments."""
        return 8 if self.moments == "float32" else 2

    def whole(self) -> str:
        """Return `moments`, unless they are float32."""
        return "" if self.moments == "float32" else "moments"


@component(
    "optimizer",
    requires=("loss",),
    impl="recipec.runtime.training.optimizer:Muon",
    state=True,
    uses=("policy",),
)
class Muon(Scheduled):
    r"""Muon for the matrices inside of the model, AdamW for embeddings, output layer, biases and norms.

    .. math:: W \leftarrow W - \eta \, 0.2 \sqrt{\max(a, b)} \, O_t - \eta \lambda W

    :math:`O_t` is the momentum of the gradient of the a by b matrix, made orthogonal by Newton-Schulz iterations. Its
    root mean square is that of AdamW's updates, so that both parts have one learning rate. It is ``torch.optim.Muon``
    with ``adjust_lr_fn="match_rms_adamw"``. Matrices must be whole: it needs train engine `local`.

    References:
        Jordan et al., `Muon <https://kellerjordan.github.io/posts/muon/>`_, 2024.
        Liu et al., `Muon is Scalable for LLM Training <https://arxiv.org/abs/2502.16982>`_, 2025: the scale.
    """

    type: Literal["muon"] = "muon"
    momentum: float = param(0.95, "Decay rate of the momentum.", ge=0, lt=1)
    nesterov: bool = param(True, "Nesterov momentum.")
    iterations: int = param(5, "Number of Newton-Schulz iterations.", unit="iterations", ge=1, le=99)
    betas: tuple[float, float] = param((0.9, 0.95), "Decay rates of the moments of AdamW.")
    epsilon: float = param(1e-8, "Added to the square root of the second moment of AdamW.", gt=0)

    def whole(self) -> str:
        """Return `type`."""
        return "type"


@component(
    "optimizer",
    requires=("loss",),
    impl="recipec.runtime.training.optimizer:Adafactor",
    state=True,
    uses=("policy",),
)
class Adafactor(Scheduled):
    r"""Adafactor: second moments of matrices by row and column, no first moment.

    The learning rate is relative to the root mean square of each weight, :math:`\eta \max(\epsilon_2, RMS(W))`, and an
    update is divided by its root mean square over ``clip_threshold`` where that is above 1. PyTorch's
    ``torch.optim.Adafactor``; it needs train engine `local`.

    References:
        Shazeer & Stern, `Adafactor <https://arxiv.org/abs/1804.04235>`_, 2018.
    """

    type: Literal["adafactor"] = "adafactor"
    learning_rate: float = param(1e-2, "Peak learning rate, relative to the size of each weight.", gt=0)
    beta2_decay: float = param(-0.8, "Exponent of the decay rate of the second moment, 1 - t^c.", lt=0)
    scale_floor: float = param(1e-3, "Smallest root mean square of a weight that the rate is relative to.", gt=0)
    clip_threshold: float = param(1.0, "Largest root mean square of an update.", gt=0)

    def moment_bytes(self) -> int:
        """Return 0: a row and a column of each matrix."""
        return 0

    def whole(self) -> str:
        """Return `type`."""
        return "type"
