"""What can go wrong while the policy writes: RC783 and RC784."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC783", "prompt-does-not-fit")
def prompt_does_not_fit(prompt_id: int, tokens: int, positions: int | None) -> Finding:
    """A prompt leaves the policy no position to write in, or has no token at all.

    What it checks: the encoded length of each prompt against the positions that the model's configuration declares.
    Why it matters: beyond its positions a model either fails or writes noise that would be trained on.
    Example: a prompt of 1,100 tokens for a model with 1,024 positions.
    Use instead: `data.max_length` with `overlong: drop`, or a model with more positions.
    """
    if not tokens:
        return Finding(
            f"the prompt of task {prompt_id} has no tokens",
            why="the policy's first token needs one before it",
            help="leave the row out, or give the prompt a template that is never empty",
        )
    return Finding(
        f"the prompt of task {prompt_id} has {tokens} tokens, and the model has {positions} positions",
        why="the policy has no position left to write in",
        help="set `data.max_length` with `overlong: drop`, or choose a model with more positions",
    )


@diagnostic("RC784", "logits-not-finite")
def logits_not_finite() -> Finding:
    """The policy's logits are not numbers.

    What it checks: every log-probability that the sampling engine records.
    Why it matters: what is drawn from such logits is noise, and training on it cannot mend the weights.
    Example: the learning rate was so high that the weights became NaN.
    Use instead: continue from the last checkpoint with a lower learning rate or stronger gradient clipping.
    """
    return Finding(
        "the policy's logits are not numbers",
        why="its weights have diverged: what it writes now is noise",
        help="start again from an earlier checkpoint with a lower learning rate or a smaller `max_grad_norm`",
    )
