"""Objectives of preference pairs: sums over pairs, weighted by their share of the whole minibatch."""

from typing import Literal, Self

from pydantic import model_validator

from recipec.component import component, param, when
from recipec.spec.loss.definition import Loss


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
    def _labels_to_smooth(self) -> Self:
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
    requires=("model_score_R", "by_pair_R", "chosen_R", "weight_R", when("margin", "column", "margin_R")),
    provides=("loss",),
    impl="recipec.runtime.objective.scored_pairs:bradley_terry",
)
class BradleyTerry(Loss):
    r"""Likelihood of preferences under the model of Bradley and Terry: trains the reward model of an `rm` stage.

    .. math:: \ell = -\log\sigma(r_{chosen} - r_{rejected} - m) + c\,(r_{chosen} + r_{rejected})^2

    :math:`r` is the score that the reward model gives to prompt and answer, :math:`m` the margin of the pair,
    0 if there is none.

    References:
        Ouyang et al., `InstructGPT <https://arxiv.org/abs/2203.02155>`_, 2022, eq. 1.
        Touvron et al., `Llama 2 <https://arxiv.org/abs/2307.09288>`_, 2023, eq. 2 (margin).
        Eisenstein et al., `Helping or Herding? <https://arxiv.org/abs/2312.09244>`_, 2023 (center).
    """

    type: Literal["bradley_terry"] = "bradley_terry"
    margin: Literal["none", "column"] = param(
        "none", "Margin of a pair: none, or the number in the column `margin` of the data."
    )
    center: float = param(0.0, "Coefficient that keeps the mean score of a pair near 0; 0 disables it.", ge=0)
