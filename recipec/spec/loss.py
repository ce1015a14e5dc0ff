"""Training objectives; each is a sum over tokens or pairs, weighted by their share of the whole minibatch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from recipec.component import Component, SignalRef, component, param, when

Aggregate = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "fixed"]
PolicyAggregate = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "prompt_mean", "fixed"]
_AGGREGATE = (
    "How token losses are averaged: over all trained tokens (`token_mean`); per row, then over rows "
    "(`seq_mean_token_mean`); summed per row, then averaged over rows (`seq_mean_token_sum`); "
    "or the sum divided by the number of rows times `normaliser` (`fixed`)."
)
_POLICY_AGGREGATE = _AGGREGATE.replace("; or", "; per prompt, then over prompts (`prompt_mean`); or")


class Loss(Component):
    """Base class of objectives."""

    slot: ClassVar[str] = "loss"

    def credit_alone(self) -> bool:
        """Whether a sample with credit 0 on every token adds nothing to the loss or its gradient."""
        return False


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
    def _ordered(self) -> Cispo:
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
    requires=("logprob_RT", "trained_RT", "weight_RT"),
    provides=("loss",),
    impl="recipec.runtime.objective.loss:nll",
    lowered=_LOWERED,
)
class Nll(Loss):
    r"""Negative log-likelihood of the completion (supervised fine-tuning).

    .. math:: \ell = -\sum_t w_t \log\pi(t)

    References:
        TRL, `SFTTrainer <https://huggingface.co/docs/trl/sft_trainer>`_ with completion-only loss.
    """

    type: Literal["nll"] = "nll"
    aggregate: Aggregate = param("token_mean", _AGGREGATE)
    normaliser: int | None = param(None, "Tokens that each row counts for (`aggregate: fixed`).", unit="tokens", ge=1)


@component(
    "loss",
    requires=("logprob_RT", "ref_logprob_RT", "trained_RT", "by_pair_R", "chosen_R", "weight_R"),
    provides=("loss",),
    impl="recipec.runtime.objective.loss:dpo",
)
class Dpo(Loss):
    r"""Direct preference optimization: prefer the chosen answer over the rejected one, relative to the reference.

    .. math:: \Delta = \sum_t \log\pi(t) - \log\pi_{ref}(t),\quad c = \beta\Delta_{chosen},\
        r = \beta\Delta_{rejected},\ z = c - r

    The loss of each ``variant``; names and formulas are those of TRL, and :math:`\varepsilon` is
    ``label_smoothing``:

    - ``sigmoid``: :math:`-(1-\varepsilon)\log\sigma(z) - \varepsilon\log\sigma(-z)`
    - ``robust``: :math:`(-(1-\varepsilon)\log\sigma(z) + \varepsilon\log\sigma(-z)) / (1 - 2\varepsilon)`
    - ``hinge``: :math:`\max(0, 1 - z)`
    - ``ipo``: :math:`(\Delta_{chosen} - \Delta_{rejected} - 1/(2\beta))^2`; as in TRL with ``length_normalised``
    - ``exo_pair``: :math:`KL(\sigma(\pm z) \,\|\, (1-\varepsilon, \varepsilon))`
    - ``nca_pair``: :math:`-\log\sigma(c) - \tfrac12\log\sigma(-c) - \tfrac12\log\sigma(-r)`
    - ``bco_pair``: :math:`-\log\sigma(c) - \log\sigma(-r)`, without the running mean that older versions subtract
    - ``sppo_hard``: :math:`(\Delta_{chosen} - 1/(2\beta))^2 + (\Delta_{rejected} + 1/(2\beta))^2`
    - ``apo_zero``: :math:`1 - \sigma(c) + \sigma(r)`; ``apo_down``: :math:`\sigma(c) + 1 - \sigma(z)`
    - ``discopop``: :math:`-(1-m)\log\sigma(z) + m e^{-z},\ m = \sigma(z/\tau)`

    TRL's ``aot`` is not supported: it sorts the pairs of a batch, so its value depends on the size of the minibatch.

    References:
        Rafailov et al., `DPO <https://arxiv.org/abs/2305.18290>`_, 2023.
        Chowdhury et al., `Provably Robust DPO <https://arxiv.org/abs/2403.00409>`_, 2024.
        Zhao et al., `SLiC <https://arxiv.org/abs/2305.10425>`_, 2023 (hinge).
        Azar et al., `IPO <https://arxiv.org/abs/2310.12036>`_, 2023, eq. 17.
        Ji et al., `EXO <https://arxiv.org/abs/2402.00856>`_, 2024, eq. 16.
        Chen et al., `NCA <https://arxiv.org/abs/2402.05369>`_, 2024.
        Jung et al., `BCO <https://arxiv.org/abs/2404.04656>`_, 2024.
        Wu et al., `SPPO <https://arxiv.org/abs/2405.00675>`_, 2024, eq. 4.7.
        D'Oosterlinck et al., `APO <https://arxiv.org/abs/2408.06266>`_, 2024, eq. 7 and 8.
        Lu et al., `DiscoPOP <https://arxiv.org/abs/2406.08414>`_, 2024, eq. 5.
        Pang et al., `Iterative RPO <https://arxiv.org/abs/2404.19733>`_, 2024, eq. 1 (nll).
    """

    type: Literal["dpo"] = "dpo"
    beta: float = param(
        0.1, "Strength of the penalty for deviating from the reference; higher values allow less deviation.", gt=0
    )
    variant: Literal[
        "sigmoid", "robust", "hinge", "ipo", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down",
        "discopop",
    ] = param("sigmoid", "Loss function.")  # fmt: skip
    label_smoothing: float = param(
        0.0,
        "Probability that a preference label is wrong (sigmoid, robust, exo_pair; must be above 0 for exo_pair).",
        ge=0,
        lt=0.5,
    )
    discopop_tau: float = param(0.05, "Temperature of the modulation between the two loss terms (discopop).", gt=0)
    length_normalised: bool = param(False, "Divide the log-ratio of each answer by its number of trained tokens.")
    nll: float = param(
        0.0, "Coefficient of the negative log-likelihood of preferred answers, each a mean over its tokens (RPO).", ge=0
    )

    @model_validator(mode="after")
    def _labels_to_smooth(self) -> Dpo:
        if self.variant == "exo_pair" and not self.label_smoothing:
            raise ValueError("`variant: exo_pair` needs `label_smoothing` above 0, such as 0.001")
        return self


_PAIRS = ("logprob_RT", "trained_RT", "by_pair_R", "chosen_R", "weight_R")
_NLL = "Coefficient of the negative log-likelihood of preferred answers, a mean over all their tokens."


@component(
    "loss",
    requires=(*_PAIRS, when("nll", "weight_RT")),
    provides=("loss",),
    impl="recipec.runtime.objective.preference_losses:cpo",
)
class Cpo(Loss):
    r"""Contrastive preference optimization: DPO without a reference, and imitation of the preferred answer.

    .. math:: z = \beta(\log\pi(y_{chosen}) - \log\pi(y_{rejected})),\quad \ell = f(z) + nll

    :math:`f` is the ``variant`` of ``dpo``.

    References:
        Xu et al., `Contrastive Preference Optimization <https://arxiv.org/abs/2401.08417>`_, 2024, eq. 3 and 5.
    """

    type: Literal["cpo"] = "cpo"
    beta: float = param(0.1, "Scale of the difference of log-probabilities.", gt=0)
    variant: Literal["sigmoid", "hinge", "ipo"] = param("sigmoid", "Loss function.")
    label_smoothing: float = param(0.0, "Probability that a preference label is wrong (sigmoid).", ge=0, lt=0.5)
    nll: float = param(1.0, _NLL, ge=0)


@component(
    "loss",
    requires=(*_PAIRS, when("nll", "weight_RT")),
    provides=("loss",),
    impl="recipec.runtime.objective.preference_losses:simpo",
)
class Simpo(Loss):
    r"""SimPO: mean log-probabilities of answers are compared, without a reference and with a margin.

    .. math:: \ell = -\log\sigma\Big(\frac{\beta}{|y_c|}\log\pi(y_c) - \frac{\beta}{|y_r|}\log\pi(y_r) - \gamma\Big)

    References:
        Meng et al., `SimPO <https://arxiv.org/abs/2405.14734>`_, 2024, eq. 6.
    """

    type: Literal["simpo"] = "simpo"
    beta: float = param(2.0, "Scale of the difference of mean log-probabilities.", gt=0)
    gamma: float = param(0.5, "Margin by which the preferred answer must be better.", ge=0)
    label_smoothing: float = param(0.0, "Probability that a preference label is wrong.", ge=0, lt=0.5)
    nll: float = param(0.0, _NLL, ge=0)


@component(
    "loss",
    requires=(*_PAIRS, "weight_RT"),
    provides=("loss",),
    impl="recipec.runtime.objective.preference_losses:orpo",
)
class Orpo(Loss):
    r"""ORPO: imitation of the preferred answer, and a penalty by the odds ratio of the two answers.

    .. math:: \ell = nll(y_c) - \beta \log\sigma\Big(\log\frac{odds(y_c)}{odds(y_r)}\Big),\quad
        odds(y) = \frac{p}{1 - p},\ p = \exp\Big(\frac{1}{|y|}\log\pi(y)\Big)

    The likelihood is that of the answer; TRL adds the prompt's.

    References:
        Hong et al., `ORPO <https://arxiv.org/abs/2403.07691>`_, 2024, eq. 4 to 7.
    """

    type: Literal["orpo"] = "orpo"
    beta: float = param(0.1, "Weight of the odds ratio (lambda).", gt=0)


@component(
    "loss",
    requires=("logprob_RT", "ref_logprob_RT", "trained_RT", "desirable_R", "baseline_R", "weight_R"),
    provides=("loss",),
    impl="recipec.runtime.objective.preference_losses:kto",
)
class Kto(Loss):
    r"""KTO: answers that are labelled good or bad, one by one, in an `sft` stage.

    .. math:: \ell = \lambda\,\big(1 - \sigma(\pm\beta(\Delta - z_0))\big),\quad
        \Delta = \log\pi(y|x) - \log\pi_{ref}(y|x),\quad z_0 = \max(0, \overline{\Delta}_{mismatched})

    + for good answers, - for bad ones; the column `label` of the data is true or false. The baseline :math:`z_0` is of
    answers after other prompts of the step, under the policy before the updates of the step.

    References:
        Ethayarajh et al., `KTO <https://arxiv.org/abs/2402.01306>`_, 2024, eq. 7 and 8.
    """

    type: Literal["kto"] = "kto"
    beta: float = param(0.1, "Strength of the penalty for deviating from the reference.", gt=0)
    desirable_weight: float = param(1.0, "Weight of good answers.", unit="weight", ge=0)
    undesirable_weight: float = param(1.0, "Weight of bad answers.", unit="weight", ge=0)
