"""What optimizers update: the trained weights in float32, with their moments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recipec.runtime.model.quantization import eight_bit_adamw
from recipec.runtime.model.weight_layout import Gathering, as_laid_out, full, largest
from recipec.spec.optimizer import Adamw, Muon, Scheduled


class MasterWeights:
    """Float32 copies of the trained weights, with their moments; weights in float32 are their own copies.

    Train engines with a library that keeps them elsewhere put a class of their own in its place. What a checkpoint has
    of either is the same: whole tensors by the name of the parameter.

    Example: ``MasterWeights(spec, policy.trainable_parameters(), optimizer.made).step(1e-5)``.
    """

    def __init__(
        self,
        spec: Scheduled,
        named: Mapping[str, nn.Parameter],
        make: Callable[[Mapping[str, Tensor]], Sequence[torch.optim.Optimizer]],
    ) -> None:
        """Copy the weights that are not float32; ``make`` gives the optimizers of these copies, by name."""
        self.spec = spec
        self.named = named
        self.masters: dict[str, Tensor] = {
            name: p if p.dtype == torch.float32 else p.detach().float().clone() for name, p in named.items()
        }
        self.optimizers = make(self.masters)

    def step(self, rate: float, *, finite_loss: bool = True) -> float:
        """Update by the gradients added so far, unless they or their loss are not finite; return their norm."""
        for name, parameter in self.named.items():
            master = self.masters[name]
            # an update without rows is an update all the same: moments decay
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            master.grad = grad if master is parameter else grad.float()
        norm = self._norm()
        if math.isfinite(norm) and finite_loss:
            self._scale(norm)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
            with torch.no_grad():
                for name, parameter in self.named.items():
                    if self.masters[name] is not parameter:
                        parameter.copy_(self.masters[name])
        for name, parameter in self.named.items():
            parameter.grad = self.masters[name].grad = None
        return norm

    def finite(self) -> bool:
        """Whether every trained weight is finite."""
        return math.isfinite(largest(self.named.values()))

    def _norm(self) -> float:
        grads = [m.grad for m in self.masters.values() if m.grad is not None]
        return float(full(torch.nn.utils.get_total_norm(grads))) if grads else 0.0

    def _scale(self, norm: float) -> None:
        bound = self.spec.max_grad_norm
        if bound and norm > bound:
            for master in self.masters.values():
                if master.grad is not None:
                    master.grad.mul_(bound / (norm + 1e-6))  # 1e-6 as in torch's clip_grad_norm_

    def state(self) -> dict[str, Any]:
        """Moments and float32 copies by parameter name."""
        tensors: dict[str, dict[str, Any]] = {"moments": {}, "masters": {}}
        for name, parameter in self.named.items():
            tensors["moments"][name] = self.moments(name)
            if parameter.dtype != torch.float32:
                tensors["masters"][name] = self.master(name)
        return tensors

    def moments(self, name: str) -> dict[str, Gathering]:
        """Return the moments of a parameter and the number of its updates; empty before the first."""
        return dict(self._of(self.masters[name]).state.get(self.masters[name], {}))

    def _of(self, master: Tensor) -> torch.optim.Optimizer:
        """Return the optimizer that updates a weight."""
        groups = ((optimizer, group["params"]) for optimizer in self.optimizers for group in optimizer.param_groups)
        return next(optimizer for optimizer, weights in groups if any(weight is master for weight in weights))

    def master(self, name: str) -> Gathering:
        """Return a parameter in float32."""
        return self.masters[name]

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``, after the weights themselves were loaded.

        Raises:
            ValueError: a tensor has another shape or type than its weight; the fused kernel would read beyond it.
        """
        self._check(state)
        for name, master in state["masters"].items():
            self.masters[name].copy_(as_laid_out(master, self.masters[name]))
        for name, moments in state["moments"].items():
            if moments:
                master = self.masters[name]
                self._of(master).state[master] = {
                    # the step too: the fused kernel reads it where the weights are
                    key: value.clone().to(master.device)
                    if value.shape != master.shape
                    else as_laid_out(value, master).clone()
                    for key, value in moments.items()
                }

    def _check(self, state: Mapping[str, Any]) -> None:
        # moments of eight bits are packed, those of Adafactor are of rows and columns
        alike = isinstance(self.spec, Muon) or (isinstance(self.spec, Adamw) and self.spec.moments == "float32")
        moments = state["moments"].items() if alike else ()
        flat = [(name, value) for name, of_weight in moments for value in of_weight.values() if value.dim()]
        for name, value in (*flat, *state["masters"].items()):
            if value.shape != self.masters[name].shape or value.dtype != torch.float32:
                raise ValueError(f"a moment of `{name}` is of {tuple(value.shape)} numbers of type {value.dtype}")


def decayed(weights: Iterable[Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: biases and norms are not decayed.

    >>> [group["weight_decay"] for group in decayed([torch.ones(2), torch.ones(2, 2)], 0.1)]
    [0.1, 0.0]
    """
    weights = list(weights)
    matrices, plain = [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(spec: Adamw, device: torch.device, weights: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return an AdamW of torch or bitsandbytes over weights."""
    groups = decayed(weights, spec.weight_decay)
    params: dict[str, Any] = {"lr": spec.learning_rate, "betas": spec.betas, "eps": spec.epsilon}
    if spec.moments == "float32":
        return torch.optim.AdamW(groups, **params, fused=True)
    optimizer: torch.optim.Optimizer = eight_bit_adamw(device, paged=spec.moments == "paged_int8")(groups, **params)
    return optimizer
