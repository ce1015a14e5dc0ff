"""Runs, checkpoints and artifacts: RC760 to RC774; sweeps: RC974; longer stages: RC978."""

from __future__ import annotations

import json
from collections.abc import Sequence

from recipec.diagnostics.model import Finding, Span, diagnostic
from recipec.diagnostics.phrases import listed, nearest, question


@diagnostic("RC760", "different-recipe")
def different_recipe(folder: str, keys: Sequence[str], spans: tuple[Span, ...] = ()) -> Finding:
    """The run directory belongs to another recipe, or a stage in it was made of other files.

    What it checks: spec digests and the seed against the graph stored there; data, weights, templates and code that a
    stage reads against those that it was made of.
    Why it matters: continuing would mix two experiments in one directory.
    Example: `learning_rate` was edited after the run had started.
    How to fix: choose another directory with `--out`, or give `--replace`: it runs the stages that changed again and
    keeps their earlier results in the same directory.
    """
    path = keys[0] if keys else ""
    what = "by another recipe" if spans else "of other inputs"
    differ = "differs" if len(keys) == 1 else "differ"
    return Finding(
        f"the run in {folder} was made {what}: {listed(keys, 5)} {differ}", spans, path=path if spans else ""
    )


@diagnostic("RC761", "cannot-write")
def cannot_write(path: str, problem: str, remedy: str = "") -> Finding:
    """A checkpoint, an artifact, a log or another file of the run cannot be written.

    Why it matters: the result would be lost. Everything committed before is kept.
    Example: the disk is full.
    How to fix: free space, fix the permissions or choose another directory, then run the same command again: it
    continues.
    """
    if problem == "File too large":
        remedy = "files of this size are not allowed: raise the limit (`ulimit -f`), or choose another file system"
    return Finding(f"cannot write {path}: {problem}", help=remedy)


@diagnostic("RC762", "run-in-use")
def run_in_use(folder: str, owner: str) -> Finding:
    """Another process holds the lock of the run directory.

    What it checks: a lock that the operating system drops when its process ends. It is taken from a process of this
    machine that has ended and left it to another one.
    Why it matters: two processes would overwrite each other's checkpoints.
    Example: the same recipe started twice; or a node is lost, and the file server still has its lock.
    How to fix: wait for the other process, stop it, or choose another directory with `--out`. If the machine of the
    process that the message names is lost, file servers drop its lock after a minute or two; if one never does, make
    sure that the process is gone, then delete `.lock` in the run directory.
    """
    return Finding(
        f"{folder} is in use by {owner}",
        help=f"wait for it, stop it, or choose another directory with `--out`; only if its machine is lost: "
        f"`rm {folder}/.lock`",
    )


@diagnostic("RC763", "not-finite")
def not_finite(what: str, stage: str, step: int, prompts: Sequence[int], cause: str = "") -> Finding:
    """The loss, the gradient norm or a weight is NaN or infinite.

    What it checks: loss and gradient before each update of the optimizer, weights after it. On one process, the rows of
    the update are then computed one by one to name the first that is not finite, and its first signal that is not.
    Why it matters: a policy with such weights computes nothing. None is saved: the last checkpoint is intact.
    Example: a learning rate so high that the logits overflow.
    How to fix: lower `learning_rate`, or set `max_grad_norm` or `log_ratio_clamp`; `nonfinite: skip` skips such
    updates, at most three in a row.
    """
    shown = ", ".join(str(prompt) for prompt in prompts[:8])
    where = cause or f"prompts {shown}"
    return Finding(f"{what} is not finite in stage `{stage}`, step {step} ({where})")


@diagnostic("RC764", "other-machine")
def other_machine(folder: str, what: str, was: str, now: str) -> Finding:
    """A stage would continue with other threads, another device, torch version, attention or rollout engine.

    Why it matters: a resumed stage must give the same bits as an uninterrupted one; these settings change the order of
    summation.
    Example: `machine.threads` was changed between two runs.
    How to fix: restore the earlier setting, or give `--replace` to start the stage again.
    """
    return Finding(f"the stage in {folder} started with {what} {was}, now it is {now}")


@diagnostic("RC788", "continued-on-another-layout", "warning")
def other_layout(folder: str, what: str, was: str, now: str) -> Finding:
    """A stage continues on another number of processes, or with another training engine.

    Why it matters: the samples stay the same, and weights differ by rounding from those of an uninterrupted run.
    Example: a stage that was begun on two GPUs continues on one.
    How to fix: nothing, where rounding does not matter; else restore the earlier setting.
    """
    return Finding(f"the stage in {folder} started with {what} {was} and continues with {now}")


@diagnostic("RC765", "no-intact-checkpoint", "warning")
def damaged_checkpoint(path: str) -> Finding:
    """The size or hash of a checkpoint's file differs from its manifest.

    Why it matters: the file is incomplete or was changed, and its weights cannot be trusted.
    Example: a bit of a weights file flipped on disk.
    How to fix: nothing to do: the next older checkpoint is used, or the stage starts again.
    """
    return Finding(f"{path} does not match its manifest and is not used")


@diagnostic("RC789", "not-a-checkpoint-of-this-stage")
def foreign_checkpoint(path: str, problem: str) -> Finding:
    """A checkpoint is whole, and what it contains is not a state of this stage.

    What it checks: its step, its parts, and names, shapes and types of its tensors.
    Why it matters: the stage would go on from other weights, or from part of a state.
    Example: a checkpoint of a wider model, under the digest of this stage.
    How to fix: delete the folder: the next older checkpoint is used, or the stage starts again. Continue runs of people
    you trust alone: a checkpoint that was made to fit looks the same as your own.
    """
    return Finding(f"{path} is not a checkpoint of this stage: {problem}")


@diagnostic("RC766", "damaged-artifact")
def damaged_artifact(path: str, problem: str = "has other bytes than the stage wrote") -> Finding:
    """The size or hash of a finished stage's file differs from its manifest.

    Why it matters: a file was changed after the stage finished; later stages would build on something that was never
    trained.
    Example: a file in `stages/explore/policy` was edited.
    How to fix: restore the file, or delete the folder: the stage then runs again.
    """
    return Finding(f"{path} {problem}")


@diagnostic("RC767", "stage-too-short")
def nothing_to_do(stage: str, rows: int, need: int) -> Finding:
    """A stage has fewer rows than one step needs, and `remainder: drop` drops incomplete steps.

    Why it matters: the stage would end without a single update.
    Example: 6 prompts, `prompts_per_step: 8`, `remainder: drop`.
    How to fix: add rows, make the step smaller, or set `remainder: keep`.
    """
    return Finding(f"stage `{stage}` has {rows} rows, one step needs {need}, and incomplete steps are dropped")


@diagnostic("RC768", "row-over-microbatch")
def row_over_budget(tokens: int, budget: int) -> Finding:
    """A single row has more tokens than `microbatch_tokens`, the limit of one forward pass.

    Why it matters: rows are never truncated silently, and exceeding the limit may run out of memory.
    Example: a prompt of 20,000 tokens with `microbatch_tokens: 16384`.
    How to fix: raise `budget.microbatch_tokens`, or limit `data.max_length` and `sampler.max_completion_length`.
    """
    return Finding(f"a row has {tokens} tokens, more than microbatch_tokens ({budget})")


@diagnostic("RC769", "out-of-memory")
def out_of_memory(stage: str, step: int, device: str) -> Finding:
    """The device ran out of memory in a forward or backward pass.

    Why it matters: the stage stops. The last checkpoint is kept, and the same command continues from it.
    Example: a `microbatch_tokens` with more activations than fit.
    How to fix: lower `budget.microbatch_tokens` or `machine.rollout.max_rows`, or set
    `machine.train.gradient_checkpointing`.
    """
    return Finding(f"{device} ran out of memory in stage `{stage}`, step {step}")


@diagnostic("RC771", "no-such-device")
def no_device(asked: str) -> Finding:
    """The recipe requires a kind of device that torch does not find.

    Why it matters: another device would be used silently and could be a hundred times slower.
    Example: `device: cuda` on a machine without a GPU.
    How to fix: set `device: auto` or `cpu`, or use a machine with such a device.
    """
    return Finding(f"machine.device is `{asked}`, but torch finds no such device", path="machine.device")


@diagnostic("RC772", "unreadable-run")
def unreadable_run(path: str, error: Exception, runs: Sequence[str] | None = None) -> Finding:
    """A folder that is taken for a run directory is not one, or a file of it was altered or is from another program.

    Why it matters: what was run, and how far, is in these files.
    Example: `recipec report .` in place of `recipec report runs/NAME`; `run --out` with a folder of something else.
    How to fix: give the folder of a run, which has a `run.json`, such as `runs/NAME`. For `run`, choose another
    directory with `--out`.
    """
    match error:
        case FileNotFoundError():
            name = str(error.filename or "").rpartition("/")[2]
            problem = f"there is no `{name}` in it" if name and not path.endswith(name) else "there is no such file"
        case OSError():
            name = str(error.filename or "").rpartition("/")[2]
            problem = (f"`{name}`: " if name and not path.endswith(name) else "") + (error.strerror or str(error))
        case json.JSONDecodeError():
            problem = f"it is not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        case KeyError():
            problem = f"it has no `{error.args[0]}`"
        case _:
            problem = f"it holds something else ({str(error) or type(error).__name__})"
    remedy = "" if runs is None else _near(path, runs)
    return Finding(f"{path} is not of a run that can be read: {problem}", help=remedy)


def _near(folder: str, runs: Sequence[str]) -> str:
    """Say which runs there are, and which of them is meant by the name of a folder."""
    known = (
        f"there are {listed(runs, 5)}" if runs else "a run is in `runs/NAME` of the working directory, or in `--out`"
    )
    name, by_name = folder.rstrip("/").rpartition("/")[2], {run.rpartition("/")[2]: run for run in runs}
    meant = [by_name[one] for one in ([name] if name in by_name else nearest(name, by_name))]
    return f"{question(meant)} {known}".strip()


@diagnostic("RC773", "nothing-to-train")
def nothing_to_train(problem: str) -> Finding:
    """A name under `optimizer.freeze` matches no parameter of the model, or every parameter is frozen.

    Why it matters: parameters that should be frozen would be trained, or nothing would be.
    Example: `freeze: [visual_tower]` for a model that calls the module `visual`.
    How to fix: give a prefix or a dotted part of the model's own parameter names.
    """
    return Finding(problem, path="optimizer.freeze")


@diagnostic("RC774", "run-of-another-version")
def other_version(path: str, problem: str) -> Finding:
    """The `graph.json` of a run directory has the format of another version of recipec.

    Why it matters: this version cannot tell whether the run was made by the same recipe.
    Example: a run of version 0.1 is continued with a later version.
    How to fix: finish the run with the version that started it, run its stages again with `--replace`, or choose
    another directory with `--out`.
    """
    return Finding(f"{path} was written by another version of recipec: {problem}")


@diagnostic("RC879", "lost-records", "warning")
def lost_records(path: str, problem: str) -> Finding:
    """`metrics.jsonl` of a stage lacks lines that the stage wrote or has other numbers, or its samples were altered.

    What it checks: for a finished stage, the number of lines of its metrics and their hash, which its policy's manifest
    keeps (without times, and without evaluations added afterwards), and the files below `samples/` against the hashes
    in `SHA256SUMS` next to them; for a stage that continues, the same up to its checkpoint.
    Why it matters: the curves, tables or samples of the report are incomplete or wrong. The weights are not affected.
    Example: a copy of the run directory that was cut short.
    How to fix: nothing to do for the run; restore the file from a backup for the whole report.
    """
    return Finding(f"{path} {problem}")


@diagnostic("RC974", "bad-each")
def bad_each(text: str, remedy: str) -> Finding:
    """An argument of `--each` is not a key with its values, or says something twice.

    Why it matters: each combination of values is a run of its own.
    Example: `--each seed`, or `--each seed=0,0`.
    How to fix: write `--each KEY=VALUE,VALUE`, once for each key. A comma inside of brackets belongs to the value.
    """
    return Finding(f"`--each {text}` is not a key with different values", help=remedy)


@diagnostic("RC978", "cannot-go-on")
def cannot_go_on(stage: str, key: str, old: int, new: int, reason: str, spans: tuple[Span, ...] = ()) -> Finding:
    """A budget was raised, and the stage cannot go on from where it ended.

    What it checks: whether the steps that were taken are the first steps of the longer stage.
    Why it matters: a learning rate that falls over all updates has fallen by the old end. Further steps would not be
    those of the recipe.
    Example: `steps: 60` in place of 30 with `schedule: cosine`; a checkpoint to go on from that `budget.keep` deleted.
    How to fix: train the stage from the start with `--replace` or in another directory (`--out`). Stages with
    `schedule: constant`, or `wsd` and a checkpoint from before the fall, go on.
    """
    unit = key.rpartition(".")[2]
    return Finding(f"stage `{stage}` cannot go on from {old} to {new} {unit}: {reason}", spans, path=key)
