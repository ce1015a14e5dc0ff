"""What `recipec run --each` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recipec.host.progress import Progress
    from recipec.run.launching import RunArguments


def run_each(arguments: RunArguments, each: Sequence[str], display: Progress) -> int:
    """Run a sweep, print its results, and return the exit code: 4 if a run failed, 75 if one was stopped."""
    from recipec.cli.input_output import compile_or_exit
    from recipec.run.sweep import members, run_sweep

    first = members(each)[0]
    compile_or_exit(arguments.recipe, [*arguments.overrides, *first.overrides], arguments.text)  # with its warnings
    sweep = run_sweep(arguments, each, arguments.out, display.say)
    if text := sweep.text():
        print(text)
    for name in sweep.failed:
        display.say(f"failed: {sweep.folder / name}")
    if sweep.stopped:
        display.say(f"stopped; run the same command again to continue {', '.join(sweep.stopped)} ({sweep.folder})")
    elif sweep.finished:
        display.say(f"done: {sweep.page}")
    return 4 if sweep.failed else 75 if sweep.stopped else 0
