"""What the trial of the first rows finds before a stage is trained: RC922 to RC927."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, diagnostic, file_span


@diagnostic("RC922", "trial-episodes-fail")
def episodes_fail(failed: int, episodes: int, problems: Sequence[str]) -> Finding:
    """Every trial episode of an environment failed, whatever was answered.

    What it checks: the first tasks of the environment are played with fixed answers, without a model.
    Why it matters: the episodes of the policy would fail as well, and the stage would stop at its first step (RC785).
    Example: `step` raises an exception, or the prompt is longer than the model's positions.
    How to fix: correct the environment; `recipec try` shows the observations and the answers.
    """
    return Finding(f"{failed} of {episodes} trial episodes failed: {_first(problems)}")


@diagnostic("RC923", "some-trial-episodes-fail", "warning")
def some_episodes_fail(failed: int, episodes: int, problems: Sequence[str]) -> Finding:
    """The environment fails on some of the fixed answers of the trial.

    Why it matters: a policy may write anything. A stage stops when more than a fifth of a step's episodes fail (RC785).
    Example: `step` converts the action to a number and does not expect other text.
    How to fix: answer an action that cannot be read with an observation that says so.
    """
    return Finding(f"{failed} of {episodes} trial episodes failed: {_first(problems)}")


@diagnostic("RC924", "fewer-rows-than-a-step", "warning")
def fewer_rows(key: str, rows: int, per_step: int, unit: str) -> Finding:
    """The data has fewer rows than one step of the budget takes.

    Why it matters: every step takes all rows, so a step is smaller than the recipe says.
    Example: 4 rows and `prompts_per_step: 16`.
    How to fix: add rows, or lower the number.
    """
    count = f"{rows} row{'s' if rows != 1 else ''}"
    return Finding(
        f"the data has {count}, and `{unit}` is {per_step}: a step takes {rows}", path=f"{key}.budget.{unit}"
    )


@diagnostic("RC925", "unknown-characters", "warning")
def unknown_tokens(file: str, row: int, character: str) -> Finding:
    """A row has characters that the tokenizer replaces by its token for unknown text.

    Why it matters: the model reads the same token for all of them, and cannot learn to write any.
    Example: accents or emoji with the tokenizer `characters`, which knows ASCII alone.
    How to fix: use the tokenizer `bytes` for a new model, or remove the characters.
    """
    what = f"the tokenizer does not know {character!r}" if character else "the tokenizer does not know a character"
    return Finding(what, file_span(file, row))


@diagnostic("RC926", "disk-too-small", "warning")
def disk_too_small(stage: str, needs: str, free: str, folder: str) -> Finding:
    """The plan of the unfinished stages needs more space than the disk of the run directory has.

    Why it matters: a run stops where it cannot write a checkpoint (RC761).
    Example: checkpoints of a model with 7 billion parameters on a disk with 20 GB free.
    How to fix: free space, choose another disk with `--out`, or set `budget.keep: 1`.
    """
    return Finding(f"the plan needs {needs} on disk, most of it for stage `{stage}`; {folder} has {free}")


@diagnostic("RC927", "memory-too-small", "warning")
def memory_too_small(stage: str, needs: str, free: str, device: str) -> Finding:
    """The plan of a stage needs more memory than the device has.

    Why it matters: the stage would stop with RC769, or the machine would swap.
    Example: full training of a model with 7 billion parameters on a device of 24 GB.
    How to fix: lower `budget.microbatch_tokens`, set `machine.train.gradient_checkpointing`, or train a LoRA adapter.
    """
    return Finding(f"stage `{stage}` needs about {needs} of memory, {device} has {free}")


def _first(problems: Sequence[str]) -> str:
    return "; ".join(list(dict.fromkeys(problems))[:3])
