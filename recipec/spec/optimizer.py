"""How the weights are updated."""

from __future__ import annotations

from typing import ClassVar, Literal

from recipec.component import Component, component, param


class Optimizer(Component):
    """Base class of optimizers."""

    slot: ClassVar[str] = "optimizer"


@component(
    "optimizer",
    requires=("loss",),
    impl="recipec.runtime.training.optimizer:AdamW",
    state=True,
    uses=("policy",),
)
class Adamw(Optimizer):
    """Adam with decoupled weight decay, a schedule and a bound on the gradient.

    References:
        Loshchilov & Hutter, `Decoupled Weight Decay Regularization <https://arxiv.org/abs/1711.05101>`_, 2019.
    """

    type: Literal["adamw"] = "adamw"
    learning_rate: float = param(1e-6, "Peak learning rate.", gt=0)
    betas: tuple[float, float] = param((0.9, 0.999), "Decay of the moments.")
    epsilon: float = param(1e-8, "Added to the second moment's root.", gt=0)
    weight_decay: float = param(0.0, "Decoupled decay; none on biases and norms.", ge=0)
    schedule: Literal["constant", "linear", "cosine"] = param("constant", "Learning rate after the warm-up.")
    warmup_updates: int | None = param(None, "Linear warm-up.", unit="updates", ge=0)
    warmup_ratio: float | None = param(None, "Linear warm-up, as a share of all updates.", ge=0, le=1)
    max_grad_norm: float = param(1.0, "Scale the gradient down to this norm; 0: leave it as it is.", ge=0)
    freeze: tuple[str, ...] = param(
        (),
        "Parts that stay: `vision`, `projector` and `decoder` of a policy that sees, `embeddings` of any; "
        "or parameters whose names start with, or contain as a part, one of these.",
    )
    nonfinite: Literal["stop", "skip"] = param(
        "stop", "On a gradient that is not finite: stop, or leave the update out."
    )
