"""What can go wrong with rows that share the computation of their prefixes: RC830 to RC849."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC830", "not-certified")
def not_certified(attention: str, model: str, problem: str) -> Finding:
    """A model was not shown to give the same over shared prefixes as row by row.

    What it checks: when the attention is bound, a small random model of the same architecture, over a tree of three
    levels: log-probabilities and gradients against those of dense rows, to 1e-5 in float32.
    Why it matters: a layer that looks at neighbours in memory, at the longest row of the batch, or past the attention
    interface would be silently wrong.
    Example: `attention: {type: trie}` with a model whose rope scaling is `dynamic`.
    Use instead: `attention: packed` or `dense`.
    """
    return Finding(
        f"attention `{attention}` cannot compute `{model}`: {problem}",
        why="what is not shown to be equal would be silently wrong",
        help="set attention to `packed` or `dense`, or leave it out",
    )


@diagnostic("RC831", "kernel-not-here")
def kernel_not_here(kernel: str, problem: str) -> Finding:
    """The kernel that the recipe asks for cannot compute this model here.

    What it checks: `attention.kernel` against the device, the build of torch, and what the layers do with scores.
    Why it matters: another kernel would give the same numbers at another speed: the recipe asked for this one.
    Example: `kernel: flash` with a model whose scores are capped.
    Use instead: `kernel: auto`, which takes the fastest that can, layer by layer.
    """
    return Finding(f"kernel `{kernel}` cannot be used: {problem}", help="set attention.kernel to `auto`")


@diagnostic("RC832", "mask-from-outside")
def mask_from_outside(problem: str) -> Finding:
    """Rows come with a mask that a forest cannot have.

    What it checks: rows begin at their first token and have no holes, and the model makes no mask of its own.
    Why it matters: in a forest a token sees its path and nothing else; any other mask would be dropped.
    Example: rows padded on the left.
    Use instead: rows padded on the right, or `attention: dense`.
    """
    return Finding(f"rows cannot share prefixes: {problem}", help="pad on the right, or set attention to `dense`")


@diagnostic("RC833", "layer-missed")
def layer_missed(found: int, expected: int) -> Finding:
    """Not every attention layer went through the attention of the forest.

    What it checks: after every forward pass, calls of the attention against the layers counted at certification.
    Why it matters: a layer that attends by itself sees neighbours in memory, which are tokens of other rows.
    Example: a model whose layers were replaced after it was loaded.
    Use instead: `attention: packed` or `dense`; and please report it.
    """
    return Finding(
        f"{found} of {expected} attention layers went through the attention of the forest",
        why="the others would have seen tokens of other rows",
        help="set attention to `packed` or `dense`",
    )


@diagnostic("RC834", "shared-dropout")
def shared_dropout(value: float) -> Finding:
    """Dropout is on in a model whose rows share the computation of their prefixes.

    What it checks: the dropout that a layer applies while the model trains.
    Why it matters: rows would share one draw of the mask: not the gradient of the rows alone.
    Example: `recipec.sequence_logprobs` with a model in training mode whose `attention_dropout` is 0.1.
    Use instead: dropout 0, `model.eval()`, or attention `packed`.
    """
    return Finding(
        f"a layer drops {value:g} of its attention, and rows share the computation",
        help="set dropout to 0, or use attention `packed`",
    )


@diagnostic("RC835", "bad-sequence")
def bad_sequence(place: int, problem: str) -> Finding:
    """A sequence of token ids cannot be scored.

    What it checks: every sequence given to `recipec.sequence_logprobs`: whole numbers below the vocabulary, no more of
    them than the model has positions.
    Why it matters: an id outside the vocabulary has no probability.
    Example: `sequence_logprobs(model, [[1, 2, -1]])`.
    Use instead: ids of the model's own tokenizer.
    """
    return Finding(f"sequence {place} {problem}", help="give ids of the model's tokenizer")


@diagnostic("RC836", "nothing-to-certify")
def nothing_to_certify(problem: str) -> Finding:
    """There is nothing that could be compared with dense rows.

    What it checks: the stage that `recipec certify` looks at: it trains a policy, and its rows have tokens.
    Why it matters: a certificate of nothing would look like one.
    Example: `recipec certify recipe.yaml --stage explore` in a recipe without a stage of that name.
    Use instead: the name of a stage; `recipec ls recipes` and `recipec plan` print them.
    """
    return Finding(problem, help="name a stage of the recipe, and rows with tokens")
