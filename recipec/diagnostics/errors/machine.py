"""What this version cannot run though the recipe is right: RC510."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, Span, diagnostic


@diagnostic("RC510", "engine-not-in-this-version")
def no_engine(name: str, role: str, here: str, spans: tuple[Span, ...] = ()) -> Finding:
    """A run is asked of an engine that this version does not have.

    What it checks: the engines under `machine`, before a file is read or a model is loaded.
    Why it matters: nothing would train or sample; the recipe itself is right, and `plan` counts with the engine.
    Example: `recipec run` of a recipe with `machine: {rollout: {type: vllm}}`.
    Use instead: `--set machine.rollout.type=hf`, which learns the same on one device; or a later version.
    """
    return Finding(
        f"this version cannot run the engine `{name}`",
        spans,
        why="the recipe is valid and can be planned; nothing here would do the work",
        help=f"`--set machine.{role}.type={here} --set machine.devices=1` runs it as far as one device's memory goes",
        path=f"machine.{role}",
    )


@diagnostic("RC511", "no-four-bit-weights-here")
def no_four_bits(problem: str) -> Finding:
    """Four-bit weights are asked for on a machine that cannot compute with them.

    What it checks: a GPU and the package bitsandbytes, before the model is loaded.
    Why it matters: their products have kernels for GPUs only; nothing here would train.
    Example: `policy: {quantization: nf4}` on a laptop.
    Use instead: `--set 'stages.NAME.policy.quantization=null'`, which trains the same adapters over full weights.
    """
    return Finding(
        f"policy.quantization is nf4, and {problem}",
        why="the recipe is valid; this machine has nothing to compute four-bit weights with",
        help="run it where a GPU and bitsandbytes are, or leave policy.quantization out",
        path="policy.quantization",
    )
