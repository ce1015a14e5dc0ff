"""What can go wrong with a run and what it leaves behind: RC760 to RC799."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, Span, diagnostic


@diagnostic("RC760", "different-recipe")
def different_recipe(folder: str, keys: Sequence[str], spans: tuple[Span, ...] = ()) -> Finding:
    """The run directory was made by a recipe that says something else.

    What it checks: the meaning of the recipe (its spec digests and seed) against the graph stored with the run.
    Why it matters: continuing would mix two experiments in one directory, and its report would describe neither.
    Example: `learning_rate` was edited after the run had begun.
    Use instead: `--out` with another directory, or `--replace`, which re-runs the stages that changed and keeps
    what they replace beside it.
    """
    named = ", ".join(f"`{k}`" for k in keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    return Finding(
        f"the run in {folder} was made by another recipe: {named} differ",
        spans,
        why="continuing would mix two experiments in one directory",
        help="give another directory with --out, or --replace to re-run what changed and keep the old beside it",
        path=keys[0] if keys else "",
    )


@diagnostic("RC761", "cannot-write")
def cannot_write(path: str, problem: str) -> Finding:
    """A file or folder of the run cannot be written.

    What it checks: every write of a checkpoint, an artifact or a log.
    Why it matters: what cannot be written would be lost; everything committed before is kept.
    Example: the disk is full.
    Use instead: free space or fix the permissions, then run the same command again: it continues.
    """
    return Finding(
        f"cannot write {path}: {problem}",
        help="free space, fix the permissions or name another place, and run again: what was committed is kept",
    )


@diagnostic("RC762", "run-in-use")
def run_in_use(folder: str, owner: str) -> Finding:
    """Another process is working in the run directory.

    What it checks: the lock of the directory.
    Why it matters: two writers would destroy each other's checkpoints.
    Example: the same recipe started twice.
    Use instead: wait for the other process, stop it, or give `--out`.
    """
    return Finding(f"{folder} is in use by {owner}", help="wait for it, stop it, or give another directory with --out")


@diagnostic("RC763", "not-finite")
def not_finite(what: str, stage: str, step: int, prompts: Sequence[int]) -> Finding:
    """A loss, gradient or log-probability is NaN or infinite.

    What it checks: the loss and the norm of the gradient before every optimizer update.
    Why it matters: one such update destroys the weights; they are never saved.
    Example: a learning rate so high that the logits overflow.
    Use instead: a lower learning rate, `max_grad_norm`, `log_ratio_clamp`; or `nonfinite: skip`, which leaves such
    updates out, at most three in a row.
    """
    ids = ", ".join(str(p) for p in prompts[:8])
    return Finding(
        f"{what} is not finite in stage `{stage}`, step {step} (prompts {ids})",
        why="the update would destroy the weights, so it was not taken",
        help="lower the learning rate, set max_grad_norm or log_ratio_clamp; the last checkpoint is kept",
    )


@diagnostic("RC764", "other-machine")
def other_machine(folder: str, what: str, was: str, now: str) -> Finding:
    """A half-finished stage would continue under conditions that change its bits.

    What it checks: threads, device, torch's version, the attention and the engines against those the stage began with.
    Why it matters: sums in another order give other bits, and a continued run must end as an uninterrupted one.
    Example: `machine.threads` was changed between two runs.
    Use instead: the former setting, or `--replace` to begin the stage again.
    """
    return Finding(
        f"the stage in {folder} began with {what} {was}, now it is {now}",
        why="a continued run must end with the same bits as an uninterrupted one",
        help="go back to the former setting, or give --replace to begin the stage again",
    )


@diagnostic("RC765", "no-intact-checkpoint", "warning")
def damaged_checkpoint(path: str) -> Finding:
    """A checkpoint does not match its manifest and is not used.

    What it checks: size and hash of every file of a checkpoint before it is loaded.
    Why it matters: a torn or altered file would give silently wrong weights.
    Example: one bit of a weights file flipped on disk.
    Use instead: nothing is asked of you; the next older checkpoint is taken, or the stage begins again.
    """
    return Finding(f"{path} does not match its manifest and is not used", why="a file in it was altered or torn")


@diagnostic("RC766", "damaged-artifact")
def damaged_artifact(path: str) -> Finding:
    """An artifact of a finished stage does not match its manifest.

    What it checks: size and hash of every file of a policy, rollouts or pairs before they are used.
    Why it matters: the next stage would start from weights that nobody trained.
    Example: a file in `stages/explore/policy` was edited.
    Use instead: restore the file, or remove the folder: the stage then runs again.
    """
    return Finding(
        f"{path} does not match its manifest",
        why="a file in it was altered since the stage finished",
        help="restore it, or remove the folder to run the stage again",
    )


@diagnostic("RC767", "stage-too-short")
def nothing_to_do(stage: str, rows: int, need: int) -> Finding:
    """A stage has fewer rows than one step needs, and short steps are dropped.

    What it checks: the number of rows against `remainder: drop`.
    Why it matters: the stage would end without one update.
    Example: 6 prompts, `prompts_per_step: 8`, `remainder: drop`.
    Use instead: more rows, smaller steps, or `remainder: keep`.
    """
    return Finding(
        f"stage `{stage}` has {rows} rows, a step needs {need}, and short steps are dropped",
        help="give more rows, a smaller step, or `remainder: keep`",
    )


@diagnostic("RC768", "too-long-row")
def row_over_budget(tokens: int, budget: int) -> Finding:
    """One row alone is larger than `microbatch_tokens`.

    What it checks: the longest row of a minibatch against the token budget of one forward pass.
    Why it matters: rows are never cut silently, and going over the budget may run out of memory.
    Example: a prompt of 20,000 tokens with `microbatch_tokens: 16384`.
    Use instead: a larger `microbatch_tokens`, or `data.max_length` with `overlong: drop`.
    """
    return Finding(
        f"a row has {tokens} tokens, more than microbatch_tokens ({budget})",
        help="raise budget.microbatch_tokens, or limit data.max_length and sampler.max_completion_length",
    )


@diagnostic("RC769", "out-of-memory")
def out_of_memory(stage: str, step: int, device: str) -> Finding:
    """The device ran out of memory in a forward or backward pass.

    What it checks: allocation failures while a stage runs.
    Why it matters: what was committed until the last checkpoint is kept; nothing else is.
    Example: `microbatch_tokens` larger than the activations that fit.
    Use instead: a smaller `microbatch_tokens`, `machine.train.gradient_checkpointing`, or fewer `max_rows`.
    """
    return Finding(
        f"{device} ran out of memory in stage `{stage}`, step {step}",
        help="lower budget.microbatch_tokens or machine.rollout.max_rows, or set gradient_checkpointing",
    )


@diagnostic("RC770", "no-extra")
def no_extra(package: str, extra: str) -> Finding:
    """A package that `run` needs is not installed.

    What it checks: that torch, transformers and their like can be imported when a recipe is run.
    Why it matters: `validate` needs none of them, so a light installation has none.
    Example: `pip install recipec` without extras, then `recipec run`.
    Use instead: install the extra that is named.
    """
    return Finding(f"`{package}` is not installed", help=f"pip install 'recipec[{extra}]'")


@diagnostic("RC771", "no-such-device")
def no_device(asked: str) -> Finding:
    """The recipe asks for a kind of device that this machine does not have.

    What it checks: `machine.device` against what torch finds when the run starts.
    Why it matters: falling back to another device would silently take a hundred times as long.
    Example: `device: cuda` on a machine without a GPU.
    Use instead: `device: auto`, or a machine that has one.
    """
    return Finding(f"machine.device is `{asked}`, and torch finds none here", help="say `device: auto` or `cpu`")


@diagnostic("RC772", "unreadable-graph")
def unreadable_run(path: str, problem: str) -> Finding:
    """A file that describes an earlier run cannot be read.

    What it checks: `run.json` and `graph.json` of an existing run directory.
    Why it matters: without them nobody can say whether the run may be continued.
    Example: the directory holds something else.
    Use instead: another directory with `--out`.
    """
    return Finding(f"{path} cannot be read: {problem}", help="give another directory with --out")


@diagnostic("RC774", "run-of-another-version")
def other_version(path: str, problem: str) -> Finding:
    """A run directory was written by another version of recipec, in another format.

    What it checks: the format of `graph.json` in an existing run directory.
    Why it matters: this version cannot tell whether the recipe is the one that was run.
    Example: a run that version 0.1 began is continued with a later one.
    Use instead: the version that began the run, `--replace` to run its stages again, or another directory.
    """
    return Finding(
        f"{path} is of another version of recipec: {problem}",
        help="finish the run with the version that began it, run again with `--replace`, or give another `--out`",
    )


@diagnostic("RC773", "nothing-to-train")
def nothing_to_train(problem: str) -> Finding:
    """The recipe freezes too much, or names parameters that the model does not have.

    What it checks: `optimizer.freeze` against the names of the model's parameters.
    Why it matters: a name that matches nothing would leave training what was meant to stay.
    Example: `freeze: [visual_tower]` on a model whose part is called `visual`.
    Use instead: names of the model's own parameters; `recipec show` lists nothing here, since only the weights know.
    """
    return Finding(
        problem, help="use a prefix or a dotted part of the model's own parameter names", path="optimizer.freeze"
    )
