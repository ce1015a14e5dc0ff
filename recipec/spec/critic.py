"""Critics: models that estimate how much reward is to come."""

from typing import ClassVar, Literal

from recipec.component import Component, OriginRef, component, param
from recipec.spec.optimizer import Adamw


class Critic(Component):
    """Base class of critics."""

    slot: ClassVar[str] = "critic"
    of_loss: ClassVar[tuple[str, ...]] = ("cliprange_value", "coefficient")
    """Parameters of the value loss, which the compiler makes a node of its own."""
    warmup_steps: int = param(0, "First steps of the stage in which only the critic is trained.", unit="steps", ge=0)

    def other_model(self) -> str | None:
        """Return the origin of its weights; ``None`` where they are those that the policy starts from."""
        return None


@component(
    "critic",
    requires=("tokens_RT", "attend_RT", "trained_RT"),
    provides=("value_RT", "old_value_RT"),
    impl="recipec.runtime.objective.critic:ValueModel",
    state=True,
    uses=("policy", "train_engine"),
)
class ValueModel(Critic):
    r"""A decoder of its own with a scalar head, which estimates the reward to come at each token (PPO).

    .. math:: \ell = \tfrac{1}{2} c \max\big((V - G)^2, (\operatorname{clip}(V, V_{old} \pm \epsilon) - G)^2\big)

    G is the target of advantage level `gae`. The loss is a mean over the trained tokens of the minibatch; minibatches
    and passes are those of the policy. Weights are all trained, by an optimizer of its own, and are in checkpoints;
    later stages cannot name them.

    References:
        Schulman et al., `PPO <https://arxiv.org/abs/1707.06347>`_, 2017.
        TRL ``PPOTrainer`` and verl ``compute_value_loss``: the same loss.
    """

    type: Literal["value_model"] = "value_model"
    from_: OriginRef | None = param(
        None,
        "Weights to start from: a stage, a directory or a Hub model; a reward model brings its head. Those that the "
        "policy starts from, with a new head, if omitted.",
        alias="from",
    )
    dtype: Literal["float32", "bfloat16"] = param("float32", "Data type of its weights; the head is always float32.")
    cliprange_value: float | None = param(
        None, "Bound of the change of a value from that before the updates (epsilon); not clipped if omitted.",
        unit="reward units", gt=0,
    )  # fmt: skip
    coefficient: float = param(
        1.0, "Factor of the loss (c); matters with gradient clipping only, since the optimizer is its own.", gt=0
    )
    optimizer: Adamw = param(lambda: Adamw(learning_rate=1e-5), "Optimizer and learning-rate schedule of the critic.")

    def other_model(self) -> str | None:
        """Return `from`."""
        return self.from_
