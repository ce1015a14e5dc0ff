"""What can go wrong with labels and held-out data: RC895 to RC899."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.errors.data import nearest
from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC895", "no-such-label")
def no_such_label(prompt: int, column: str, value: str, labels: Sequence[str]) -> Finding:
    """The right answer of a task is none of the labels, or names several.

    What it checks: the answer column against `labels` of the reward `exact_match`.
    Why it matters: no answer could be right for the task, since every answer is read as one of the labels.
    Example: `labels: [melanoma, rosacea]` over a row whose answer is `acne`.
    Use instead: all labels that the data has; `data.limit` or another file for a part of them.
    """
    listed = ", ".join(f"`{label}`" for label in labels[:12])
    return Finding(
        f"task {prompt}: `{column}` is {value[:80]!r}, which is none of the labels",
        why="every answer is read as one of the labels, so that none could be right",
        help=f"{nearest(value, list(labels))} they are {listed}".strip(),
    )
