"""The tokens of a minibatch that objectives of the entropy's mechanism treat apart."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from recipec.runtime.rng import rng_for


def select_tokens(
    ratio_to_RT: Tensor,
    advantage_RT: Tensor,
    trained_RT: Tensor,
    weight_RT: Tensor,
    tokens_RT: Tensor,
    *,
    share: float,
    lowest: float | None = None,
    highest: float | None = None,
) -> dict[str, Tensor]:
    r"""Select a share of the tokens of the whole minibatch by their covariance; call it before micro-batches are cut.

    .. math:: c_t = (\log\pi_t - \overline{\log\pi})(A_t - \bar A)

    in float64, with means over the N tokens that have a weight. Of the tokens with a covariance between the bounds,
    int(share N) are drawn at random, at least one; without bounds those with the highest covariance are taken. Draws
    are keyed by the tokens, so that a continued run, and any number of processes, draw the same.

    >>> old_RT, one_RT = torch.tensor([[-1.0, -9.0, -2.0]]), torch.ones(1, 3)
    >>> credit_RT = torch.tensor([[1.0, -1.0, 0.0]])
    >>> select_tokens(old_RT, credit_RT, one_RT > 0, one_RT / 3, one_RT.long(), share=0.5)["selected_RT"].tolist()
    [[False, True, False]]
    """
    kept_RT = trained_RT & (weight_RT > 0)
    selected_RT = torch.zeros_like(kept_RT)
    places_M = kept_RT.flatten().nonzero()[:, 0]
    if not len(places_M):
        return {"selected_RT": selected_RT}
    logprob_M, advantage_M = ratio_to_RT.flatten()[places_M].double(), advantage_RT.flatten()[places_M].double()
    covariance_M = (logprob_M - logprob_M.mean()) * (advantage_M - advantage_M.mean())
    count = max(1, int(share * len(places_M)))
    if lowest is None or highest is None:
        chosen = covariance_M.argsort(descending=True, stable=True)[:count]
    else:
        inside = ((covariance_M > lowest) & (covariance_M < highest)).nonzero()[:, 0]
        key = hashlib.sha256(tokens_RT.flatten()[places_M].cpu().numpy().tobytes()).hexdigest()
        order = torch.from_numpy(rng_for("covariance", key).permutation(len(inside))).to(inside.device)
        chosen = inside[order[:count]]
    selected_RT.view(-1)[places_M[chosen]] = True
    return {"selected_RT": selected_RT}
