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


@diagnostic("RC891", "no-label")
def no_label(row: int) -> Finding:
    """A row has no label, and the loss needs one.

    Why it matters: `kto` raises the probability of answers that are labelled good and lowers that of the others.
    Example: a row `{"prompt": "2+2=", "completion": "4"}` without `"label": true`.
    How to fix: give every row a column `label` with true or false, or name the column: `data.columns: {label: good}`.
    """
    return Finding(f"row {row} of the data has no label that is true or false, and `kto` needs one")
