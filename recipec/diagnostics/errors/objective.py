"""What an objective asks of a model: RC890 to RC899."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC890", "head-not-linear")
def no_linear_head(name: str, kind: str) -> Finding:
    """The output layer of the model cannot be computed in float32.

    Why it matters: `policy.head_dtype: float32` multiplies hidden states by the weight of the output layer in float32;
    a layer of another kind has no such weight.
    Example: a model with another output layer than a `torch.nn.Linear`.
    How to fix: drop `policy.head_dtype`, or set `policy.dtype: float32`.
    """
    return Finding(f"the output layer of {name} is a {kind}, which `policy.head_dtype` cannot compute in float32")
