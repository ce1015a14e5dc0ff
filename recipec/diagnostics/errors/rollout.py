"""What can go wrong while episodes are played: RC785 to RC789."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, diagnostic

_SHOWN = 3  # errors that a message names


@diagnostic("RC785", "episodes-in-error")
def episodes_in_error(errors: int, episodes: int, first: Sequence[str]) -> Finding:
    """More than a fifth of a batch's episodes failed for reasons that are not the policy's.

    What it checks: the share of episodes that crashed, timed out or broke their prompt, in each batch.
    Why it matters: such episodes are in no baseline; with many of them the policy is trained on what happens to run.
    Example: the retrieval service is down, so that no question can be searched.
    Use instead: mend what the first errors name, then run the same command again: it continues.
    """
    named = "; ".join(first[:_SHOWN])
    more = f" (and {len(first) - _SHOWN} other kinds)" if len(first) > _SHOWN else ""
    return Finding(
        f"{errors} of {episodes} episodes ended in error: {named}{more}",
        why="training on the few that ran would favour whatever does not fail",
        help="mend what the errors name and run again: everything up to the last checkpoint is kept",
    )
