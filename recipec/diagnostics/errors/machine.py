"""Valid recipes that this version or machine cannot run: RC510, RC511, RC539 and RC979."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, Span, diagnostic


@diagnostic("RC510", "engine-not-in-this-version")
def no_engine(name: str, role: str, here: str, spans: tuple[Span, ...] = ()) -> Finding:
    """A run needs an engine of `machine` that this version does not implement.

    Why it matters: the recipe is valid and can be planned, but nothing here would do the work.
    Example: `recipec run` of a recipe with an engine that a package only declares.
    How to fix: use the engine of this version, as in `--set machine.rollout.type=hf`: it gives the same results on one
    device. Or use a later version.
    """
    return Finding(
        f"this version cannot run the engine `{name}`",
        spans,
        help=f"`--set machine.{role}.type={here} --set machine.devices=1` runs it as far as one device's memory goes",
        path=f"machine.{role}",
    )


@diagnostic("RC511", "no-four-bit-weights-here")
def no_four_bits(problem: str, what: str = "policy.quantization") -> Finding:
    """Weights or moments have four or eight bits, but there is no GPU or no bitsandbytes.

    Why it matters: the recipe is valid, but kernels for such weights exist for GPUs only.
    Example: `policy: {quantization: nf4}` on a laptop.
    How to fix: run it on a GPU with bitsandbytes, or leave `policy.quantization` out: the same adapters are then
    trained on full weights.
    """
    return Finding(f"{what} cannot be computed here: {problem}", path=what)


@diagnostic("RC539", "sequences-not-spread")
def sequences_not_spread(count: int, problem: str) -> Finding:
    """The tokens of one sequence cannot be spread over several devices here.

    Why it matters: every device would compute whole sequences, and need their memory; a valid plan would not be that of
    the run.
    Example: `train: {type: deepspeed, sequence_parallel: 2}`, with an engine that computes whole sequences; a recipe
    with `sequence_parallel: 4` under a torchrun with 6 processes.
    How to fix: use `train: {type: fsdp, sequence_parallel: 2}` with as many processes as the recipe has devices; or set
    `sequence_parallel: 1` with a smaller `budget.microbatch_tokens` and `gradient_checkpointing: true`.
    """
    return Finding(f"`sequence_parallel` is {count}, but {problem}", path="sequence_parallel")


@diagnostic("RC979", "not-on-windows")
def not_on_windows(what: str, path: str = "") -> Finding:
    """A recipe needs something that Windows does not have.

    What it checks: several devices, names of directories, images of a dataset, and whatever runs in processes with
    limits: templates of prompts and chats, environments, tools, programs, and most rewards that compare answers.
    Why it matters: processes there have no groups and no limits of memory and time, so that code could not be ended.
    Example: `data: {path: rows.jsonl, template: ask.j2}` on Windows.
    How to fix: run the recipe on Linux, for example under WSL. `validate`, `plan`, `compile` and `report` need nothing
    of it.
    """
    return Finding(f"{what} cannot be had on Windows", path=path)
