"""Attention over packed rows and shared prefixes: RC830 to RC845."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic, file_span


@diagnostic("RC830", "not-certified")
def not_certified(attention: str, model: str, problem: str, *, shares: bool) -> Finding:
    """The attention of the recipe does not give the same results as dense attention for this model.

    What it checks: before the stage starts, that every layer uses the attention; for shared prefixes also
    log-probabilities and gradients of a small random model of the same architecture, over a prefix tree of three
    levels, against those of dense rows, to 1e-5 in float32.
    Why it matters: a layer that ignores the boundaries between rows would silently give wrong results.
    Example: `attention: packed` with a state-space model; `attention: {type: trie}` with `dynamic` rope scaling.
    How to fix: set `attention` to `packed` or `dense`, or leave it out.
    """
    remedy = "" if shares else "set `attention` to `dense`, or leave it out"
    return Finding(f"attention `{attention}` cannot compute `{model}`: {problem}", help=remedy)


@diagnostic("RC831", "kernel-not-here")
def kernel_not_here(kernel: str, problem: str) -> Finding:
    """The attention kernel of the recipe cannot compute this model on this device.

    Why it matters: another kernel gives the same numbers, but at another speed than the recipe asks for.
    Example: `kernel: flash` with a model that caps its attention scores.
    How to fix: set `attention.kernel` to `auto`, which takes the fastest possible kernel for each layer.
    """
    return Finding(f"kernel `{kernel}` cannot be used: {problem}")


@diagnostic("RC832", "mask-from-outside")
def mask_from_outside(problem: str) -> Finding:
    """Rows do not begin at their first token, have holes, or the model adds its own mask.

    Why it matters: with shared prefixes a token attends to its own prefix only; any other mask would be ignored.
    Example: rows padded on the left.
    How to fix: pad on the right, or set `attention` to `dense`.
    """
    return Finding(f"rows cannot share prefixes: {problem}")


@diagnostic("RC833", "layer-missed")
def layer_missed(found: int, expected: int) -> Finding:
    """Not every attention layer used prefix-tree attention in a forward pass.

    Why it matters: the other layers would attend across sequences, so the step was aborted.
    Example: layers of the model were replaced after it was loaded.
    How to fix: set `attention` to `packed` or `dense`; and please report it.
    """
    return Finding(f"only {found} of {expected} attention layers used prefix-tree attention")


@diagnostic("RC834", "shared-dropout")
def shared_dropout(value: float) -> Finding:
    """Attention dropout is on, and rows share the computation of their prefixes.

    Why it matters: rows would share one dropout mask, which gives another gradient than separate rows.
    Example: `recipec.sequence_logprobs` with a model in training mode and `attention_dropout: 0.1`.
    How to fix: set dropout to 0, call `model.eval()`, or use attention `packed`.
    """
    return Finding(f"a layer has an attention dropout of {value:g}, but rows share the computation of their prefixes")


@diagnostic("RC835", "bad-sequence")
def bad_sequence(place: int, problem: str) -> Finding:
    """A sequence given to `recipec.sequence_logprobs` has ids outside the vocabulary, or more tokens than positions.

    Why it matters: such a token has no probability.
    Example: `sequence_logprobs(model, [[1, 2, -1]])`.
    How to fix: give ids of the model's own tokenizer.
    """
    return Finding(f"sequence {place} {problem}")


@diagnostic("RC836", "nothing-to-certify")
def nothing_to_certify(problem: str) -> Finding:
    """`recipec certify` has no model or no rows to compare with dense attention.

    Why it matters: a certificate without a comparison would be worthless.
    Example: neither the weights nor the architecture of the model are available.
    How to fix: use a stage with a model that is available, and rows with token ids below its vocabulary.
    """
    return Finding(problem)


@diagnostic("RC845", "rows-without-ids")
def no_ids(file: str, line: int, problem: str) -> Finding:
    """A row given to `recipec plan --rows` does not consist of token ids.

    What it checks: every line is a JSON object with `prompt_ids` and `ids`, as in the `samples/` of a run, or with
    `prompt_ids`, `chosen_ids` and `rejected_ids`, as in its pairs; `trained` has an entry for each of `ids`.
    Why it matters: sharing is counted in tokens, and only the run's tokenizer tells how text is split into them.
    Example: `{"prompt": "2+2=", "completion": "4"}`.
    How to fix: give the folder `stages/STAGE/samples` of a run, or a file of it.
    """
    where = f"line {line}: " if line else ""
    return Finding(f"{where}{problem}", file_span(file, line))
