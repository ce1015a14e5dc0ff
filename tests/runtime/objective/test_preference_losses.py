"""Variants of the preference objective, against their published formulas in plain float64 arithmetic."""

import itertools
import math

import pytest
import torch
from pydantic import ValidationError

from recipec.runtime.objective.loss import dpo
from recipec.spec.loss import Dpo

EPSILON, TAU = 0.1, 0.3
PAIRS = ((0.7, -1.3), (-2.1, 0.4), (0.0, 0.0), (12.0, -9.0), (-3.0, 25.0))
"""Log-ratios of the chosen and the rejected answer, nats."""


def sigma(x):
    """Return the logistic function."""
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def log_sigma(x):
    """Return its logarithm."""
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def kullback(z, e):
    """Return the divergence of what the policy prefers from the smoothed label."""
    return sigma(z) * (log_sigma(z) - math.log(1 - e)) + sigma(-z) * (log_sigma(-z) - math.log(e))


FORMULAS = {
    "sigmoid": lambda c, r, b: -(1 - EPSILON) * log_sigma(b * (c - r)) - EPSILON * log_sigma(-b * (c - r)),
    "robust": lambda c, r, b: (
        (-(1 - EPSILON) * log_sigma(b * (c - r)) + EPSILON * log_sigma(b * (r - c))) / (1 - 2 * EPSILON)
    ),
    "hinge": lambda c, r, b: max(0.0, 1 - b * (c - r)),
    "ipo": lambda c, r, b: (c - r - 1 / (2 * b)) ** 2,
    "exo_pair": lambda c, r, b: kullback(b * (c - r), EPSILON),
    "nca_pair": lambda c, r, b: -log_sigma(b * c) - 0.5 * log_sigma(-b * c) - 0.5 * log_sigma(-b * r),
    "bco_pair": lambda c, r, b: -log_sigma(b * c) - log_sigma(-b * r),
    "sppo_hard": lambda c, r, b: (c - 0.5 / b) ** 2 + (r + 0.5 / b) ** 2,
    "apo_zero": lambda c, r, b: 1 - sigma(b * c) + sigma(b * r),
    "apo_down": lambda c, r, b: sigma(b * c) + 1 - sigma(b * (c - r)),
    "discopop": lambda c, r, b: (
        (1 - sigma(b * (c - r) / TAU)) * -log_sigma(b * (c - r)) + sigma(b * (c - r) / TAU) * math.exp(-b * (c - r))
    ),
}


def computed(spec, pairs):
    """Return loss and gradient by log-ratio for pairs whose rejected row stands first."""
    ratios = torch.tensor([[r, c] for c, r in pairs], dtype=torch.float64).reshape(-1, 1).requires_grad_()
    column_RT = torch.cat([torch.zeros_like(ratios), ratios], 1)
    rows = len(ratios)
    made = dpo(
        column_RT, torch.zeros_like(column_RT), torch.tensor([[False, True]]).expand(rows, 2),
        torch.arange(rows) // 2, torch.arange(rows) % 2 == 1, torch.ones(rows), **spec.params(),
    )  # fmt: skip
    made["loss"].backward()
    return float(made["loss"].detach()), ratios.grad.flatten().tolist()


@pytest.mark.parametrize(("variant", "beta"), [*itertools.product(FORMULAS, (0.1, 0.7))])
def test_variant_is_its_formula(variant, beta):
    """The loss of a batch is the sum of the formula over its pairs, and its gradient is the formula's slope."""
    spec = Dpo(variant=variant, beta=beta, label_smoothing=EPSILON, discopop_tau=TAU)

    def formula(c, r):
        return FORMULAS[variant](c, r, beta)

    loss, gradient = computed(spec, PAIRS)
    assert loss == pytest.approx(sum(formula(c, r) for c, r in PAIRS), rel=1e-9)
    step = 1e-6
    for place, (c, r) in enumerate(PAIRS):
        slopes = [
            (formula(c, r + step) - formula(c, r - step)) / (2 * step),
            (formula(c + step, r) - formula(c - step, r)) / (2 * step),
        ]
        assert gradient[2 * place : 2 * place + 2] == pytest.approx(slopes, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("variant", FORMULAS)
def test_far_pairs_have_a_gradient(variant):
    """Log-ratios of a thousand nats on either side give finite losses and gradients, never NaN."""
    smoothing = 0.01 if variant == "exo_pair" else 0.0
    spec = Dpo(variant=variant, label_smoothing=smoothing)
    loss, gradient = computed(spec, ((1000.0, -1000.0), (-1000.0, 1000.0)))
    assert math.isfinite(loss)
    assert all(map(math.isfinite, gradient))


def test_every_variant_has_a_formula():
    """A variant that is offered is one that is compared here."""
    offered = Dpo.model_fields["variant"].annotation.__args__
    assert set(offered) == set(FORMULAS)


def test_a_label_to_smooth_is_asked_for():
    """EXO compares with a smoothed label; without smoothing its divergence would be infinite."""
    with pytest.raises(ValidationError, match="label_smoothing"):
        Dpo(variant="exo_pair")
