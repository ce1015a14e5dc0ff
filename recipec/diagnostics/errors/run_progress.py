"""What a run does not do, or learns nothing from, although it goes on: RC920 to RC930."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, diagnostic
from recipec.diagnostics.phrases import listed


@diagnostic("RC920", "finished-under-other-versions", "warning")
def other_versions(stage: str, changed: Sequence[str]) -> Finding:
    """A finished stage was trained with other versions of the packages that compute its numbers.

    Why it matters: trained again, the stage could end with other weights. A new version alone never trains a finished
    stage again.
    Example: torch was upgraded between two runs of the same command.
    How to fix: nothing to do to keep the stage. To train it again, delete its folder or choose another directory with
    `--out`.
    """
    return Finding(f"stage `{stage}` is kept; it was trained with {listed(changed, 4)}")


@diagnostic("RC921", "evaluation-not-made", "warning")
def not_evaluated(stage: str, evaluations: Sequence[str], folder: str) -> Finding:
    """A stage finished before an evaluation was added to the recipe, so its results lack it.

    Why it matters: the table of results has an empty cell that no later run of the same command fills.
    Example: `evaluate.held_out` was added after the run had ended.
    How to fix: run `recipec evaluate`, which evaluates finished stages.
    """
    names = listed([f"`{name}`" for name in evaluations])
    return Finding(
        f"stage `{stage}` finished without {names}",
        help=f"recipec evaluate {folder}",
        path=f"evaluate.{evaluations[0].partition('/')[0]}",
    )
