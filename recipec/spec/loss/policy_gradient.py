"""Objectives of rl stages: sums over tokens, weighted by their share of the whole minibatch."""

from typing import Literal, Self

from pydantic import model_validator

from recipec.component import Section, SignalRef, component, param, when
from recipec.spec.loss.definition import AGGREGATE, Loss

PolicyAggregate = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "prompt_mean", "fixed"]
_POLICY_AGGREGATE = AGGREGATE.replace("; or", "; per prompt, then over prompts (`prompt_mean`); or")


class SamplerRejection(Section):
    """Bounds of old / sampler probability outside of which tokens or rows are left out of the policy term.

    References:
        verl, ``rollout_rs``, next to ``rollout_is``; OpenRLHF, ``seq-mask-tis``; SkyRL, ``sequence_mask_metric``.
    """

    level: Literal["token", "sequence", "geometric"] = param(
        "geometric", "Ratio of each token, of the whole row (product over its tokens), or their geometric mean over it."
    )
    cap: float = param(2.0, "Highest ratio that is kept.", unit="ratio", gt=0)
    floor: float = param(0.0, "Lowest ratio that is kept.", unit="ratio", ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.floor >= self.cap:
            raise ValueError(f"`floor: {self.floor:g}` must be below `cap: {self.cap:g}`")
        return self


class PolicyGradient(Loss):
    """Base class of objectives of rl stages: KL penalty and entropy bonus, correction, average over tokens."""

    ratio_to: SignalRef = param(
        "old_logprob_RT",
        "Denominator of the ratio: `old_logprob_RT`, `ref_logprob_RT` or `sampler_logprob_RT`.",
    )
    log_ratio_clamp: float | None = param(
        None,
        "Bound of |log ratio| before exponentiation, in the policy ratio and in the k3 KL estimate.",
        unit="nats",
        gt=0,
    )
    beta: float = param(0.0, "Coefficient of the KL penalty to the reference; 0 disables it.", ge=0)
    kl: Literal["k1", "k2", "k3", "abs"] = param("k3", "Estimator of the KL divergence.")
    kl_clamp: float | None = param(None, "Bound of the absolute KL estimate of a token.", unit="nats", gt=0)
    entropy: float = param(0.0, "Coefficient of the entropy bonus; 0 disables it.", ge=0)
    sampler_correction: Literal["none", "truncate", "clip", "mask", "reject"] = param(
        "none",
        "Correct the mismatch of sampling and training engine: weight w = old / sampler probability; at most the cap "
        "(`truncate`), between floor and cap (`clip`), or 0 outside of them (`mask`); `reject` only drops what is "
        "outside and weights the rest by 1.",
    )
    sampler_correction_level: Literal["token", "sequence", "geometric"] = param(
        "token", "Weight of each token, of the whole row (product over its tokens), or their geometric mean over it."
    )
    sampler_correction_cap: float = param(2.0, "Highest weight of `sampler_correction`.", gt=0)
    sampler_correction_floor: float = param(
        0.0, "Lowest weight of `sampler_correction` (`clip`, `mask` and `reject`).", unit="ratio", ge=0
    )
    sampler_correction_normalised: bool = param(
        False, "Divide the weights of `sampler_correction` by their mean over the minibatch (self-normalised)."
    )
    sampler_rejection: SamplerRejection | None = param(
        None, "Leave out tokens or rows, in addition to the weights of `sampler_correction`."
    )
    aggregate: PolicyAggregate = param("token_mean", _POLICY_AGGREGATE)
    normaliser: int | None = param(None, "Tokens that each row counts for (`aggregate: fixed`).", unit="tokens", ge=1)

    def credit_alone(self) -> bool:
        """Whether there is neither a KL term nor an entropy bonus."""
        return not self.beta and not self.entropy

    def coarse(self) -> Literal["row", "turn"] | None:
        """Return what has one ratio; ``None`` where every token has its own.

        >>> Clipped(ratio="sequence").coarse(), Cispo().coarse()
        ('row', None)
        """
        return None


_OWN = ("logprob_RT", "ratio_to_RT", "advantage_RT", "trained_RT")
_ADDED = (
    when("beta", "ref_logprob_RT"), when("entropy", "entropy_RT"),
    *(when("sampler_correction", how, "sampler_logprob_RT") for how in ("truncate", "clip", "mask", "reject")),
    when("sampler_rejection", "sampler_logprob_RT"),
    when("sampler_correction_normalised", "correction_mean_R"),
)  # fmt: skip
_LOWERED = ("aggregate", "normaliser")


@component(
    "loss",
    requires=(*_OWN, "turn_RT", "weight_RT", *_ADDED),
    provides=("loss",),
    impl="recipec.runtime.objective.loss:clipped",
    lowered=_LOWERED,
)
class Clipped(PolicyGradient):
    r"""Clipped policy-gradient objective of PPO, GRPO and GSPO.

    .. math:: \ell = -\min(\rho A, \operatorname{clip}(\rho, 1-\epsilon, 1+\epsilon_{high}) A),\quad
        \rho = \exp(\log\pi - \log\pi_{old})

    References:
        Schulman et al., `PPO <https://arxiv.org/abs/1707.06347>`_, 2017.
        Ye et al., `Mastering Complex Control <https://arxiv.org/abs/1912.09729>`_, 2020 (dual clip).
        Zheng et al., `GSPO <https://arxiv.org/abs/2507.18071>`_, 2025 (sequence ratio).
        Ahmadian et al., `Back to Basics <https://arxiv.org/abs/2402.14740>`_, 2024 (product ratio; TRL's RLOO).
    """

    type: Literal["clipped"] = "clipped"
    ratio: Literal["token", "turn", "sequence", "product"] = param(
        "token",
        "Probability ratio of each token; its geometric mean over a turn or the whole sequence (GSPO); or the ratio of "
        "the whole sequence, their `product` (RLOO).",
    )
    ratio_gradient: Literal["all", "own"] = param(
        "all",
        "Gradient of a turn or sequence ratio: through all its tokens, or only through each token's own (GSPO-token).",
    )
    epsilon: float = param(0.2, "Lower clip range: the ratio is clipped below 1 - epsilon.", gt=0, le=1)
    epsilon_high: float | None = param(
        None, "Upper clip range: the ratio is clipped above 1 + epsilon_high; `epsilon` if omitted.", gt=0
    )
    dual_clip: float | None = param(None, "Upper bound of the ratio for negative advantages.", gt=1)

    def coarse(self) -> Literal["row", "turn"] | None:
        """Return what `ratio` names."""
        return None if self.ratio == "token" else "turn" if self.ratio == "turn" else "row"


@component(
    "loss",
    requires=(*_OWN, "weight_RT", *_ADDED),
    provides=("loss",),
    impl="recipec.runtime.objective.loss:cispo",
    lowered=_LOWERED,
)
class Cispo(PolicyGradient):
    r"""CISPO: the policy gradient of every token, weighted by its ratio without a gradient, which is bounded.

    .. math:: \ell = -\operatorname{sg}[\operatorname{clip}(\rho, r_{min}, r_{max})] \, A \log\pi

    No token loses its gradient by clipping. Bounds are of the ratio itself: TRL's ``epsilon_high`` of 5 is
    ``ratio_max: 5``, verl's ``clip_ratio_high`` of 5 is ``ratio_max: 6``.

    References:
        MiniMax, `MiniMax-M1 <https://arxiv.org/abs/2506.13585>`_, 2025, eq. 4 and 5.
        Khatri et al., `ScaleRL <https://arxiv.org/abs/2510.13786>`_, 2025: the objective of its recipe.
    """

    type: Literal["cispo"] = "cispo"
    ratio_max: float = param(5.0, "Highest weight of a token.", unit="ratio", gt=0)
    ratio_min: float = param(0.0, "Lowest weight of a token.", unit="ratio", ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.ratio_min >= self.ratio_max:
            raise ValueError(f"`ratio_min: {self.ratio_min:g}` must be below `ratio_max: {self.ratio_max:g}`")
        return self


@component(
    "loss",
    requires=(*_OWN, "weight_RT", *_ADDED),
    provides=("loss",),
    impl="recipec.runtime.objective.loss:sapo",
    lowered=_LOWERED,
)
class Sapo(PolicyGradient):
    r"""SAPO: a smooth gate in place of clipping.

    .. math:: \ell = -\frac{4}{\tau}\,\sigma(\tau(\rho - 1))\,A,\quad
        \tau = \tau_{pos} \text{ if } A > 0, \text{ else } \tau_{neg}

    At ratio 1 its gradient is that of the policy gradient. As published, ``aggregate: seq_mean_token_mean``.

    References:
        Gao et al., `Soft Adaptive Policy Optimization <https://arxiv.org/abs/2511.20347>`_, 2025, eq. 5 and 6.
    """

    type: Literal["sapo"] = "sapo"
    temperature_pos: float = param(1.0, "Sharpness of the gate for positive advantages.", gt=0)
    temperature_neg: float = param(1.05, "Sharpness of the gate for the others.", gt=0)


@component(
    "loss",
    requires=(*_OWN, "turn_RT", "weight_RT", *_ADDED),
    provides=("loss",),
    impl="recipec.runtime.objective.loss:gmpo",
    lowered=_LOWERED,
)
class Gmpo(PolicyGradient):
    r"""GMPO: the geometric mean of a sequence's token ratios, each clipped before the mean.

    .. math:: \ell = -A \exp\Big(\frac{1}{n}\sum_t d_t\Big),\quad d_t = \min(\log\rho_t, \epsilon_{high})
        \text{ if } A > 0, \text{ else } \max(\log\rho_t, -\epsilon)

    Clip ranges are in log space. As published, ``aggregate: seq_mean_token_mean``: one value a sequence.

    References:
        Zhao et al., `Geometric-Mean Policy Optimization <https://arxiv.org/abs/2507.20673>`_, 2025, eq. 4.
    """

    type: Literal["gmpo"] = "gmpo"
    epsilon: float = param(0.4, "Lower clip range of the log-ratio of a token.", unit="nats", gt=0)
    epsilon_high: float | None = param(
        None, "Upper clip range of the log-ratio of a token; `epsilon` if omitted.", unit="nats", gt=0
    )

    def coarse(self) -> Literal["row", "turn"]:
        """Return the row."""
        return "row"


@component(
    "loss",
    requires=(*_OWN, "weight_RT", "selected_RT", *_ADDED),
    provides=("loss",),
    impl="recipec.runtime.objective.loss:clip_cov",
    lowered=(*_LOWERED, "share", "lowest", "highest"),
)
class ClipCov(PolicyGradient):
    r"""Clip-Cov: the clipped objective without a few random tokens that would lower the entropy most.

    .. math:: \ell = 0 \text{ if selected, else }
        -\min(\rho A, \operatorname{clip}(\rho, 1-\epsilon, 1+\epsilon_{high}) A)

    Of the N trained tokens of a minibatch, ``share`` N are selected at random, at least one, among those with a
    covariance :math:`(\log\pi_{old} - \overline{\log\pi_{old}})(A - \bar A)` between the bounds; means are over the
    minibatch. The authors take the log-probabilities of the policy, and each micro-batch on its own; both are the same
    in the first update of a step.

    References:
        Cui et al., `The Entropy Mechanism of Reinforcement Learning <https://arxiv.org/abs/2505.22617>`_, 2025; verl,
        ``loss_mode: clip_cov``.
    """

    type: Literal["clip_cov"] = "clip_cov"
    share: float = param(
        0.0002, "Share of the tokens of a minibatch that are selected.", unit="share of tokens", gt=0, le=1
    )
    lowest: float = param(1.0, "Covariance above which tokens are selected.", unit="nats")
    highest: float = param(5.0, "Covariance below which tokens are selected.", unit="nats")
    epsilon: float = param(0.2, "Lower clip range: the ratio is clipped below 1 - epsilon.", gt=0, le=1)
    epsilon_high: float | None = param(
        None, "Upper clip range: the ratio is clipped above 1 + epsilon_high; `epsilon` if omitted.", gt=0
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(f"`lowest: {self.lowest:g}` must be below `highest: {self.highest:g}`")
        return self


@component(
    "loss",
    requires=(*_OWN, "weight_RT", "selected_RT", *_ADDED),
    provides=("loss",),
    impl="recipec.runtime.objective.loss:kl_cov",
    lowered=(*_LOWERED, "share"),
)
class KlCov(PolicyGradient):
    r"""KL-Cov: the policy gradient with a penalty on the change of the tokens that would lower the entropy most.

    .. math:: \ell = -\rho A + \kappa \, |\log\rho| \text{ if selected}

    Selected are the ``share`` of the trained tokens of a minibatch with the highest covariance, at least one; see
    ``clip_cov``. The ratio is not clipped.

    References:
        Cui et al., `The Entropy Mechanism of Reinforcement Learning <https://arxiv.org/abs/2505.22617>`_, 2025; verl,
        ``loss_mode: kl_cov``.
    """

    type: Literal["kl_cov"] = "kl_cov"
    share: float = param(
        0.002, "Share of the tokens of a minibatch that are selected.", unit="share of tokens", gt=0, le=1
    )
    penalty: float = param(1.0, "Coefficient of the penalty on selected tokens.", gt=0)

    def credit_alone(self) -> bool:
        """Return False: a token without credit may be selected."""
        return False
