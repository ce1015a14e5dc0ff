"""Generation and rollouts: RC783 to RC785."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, diagnostic

_SHOWN = 3  # errors that a message names


@diagnostic("RC783", "prompt-does-not-fit")
def prompt_does_not_fit(prompt_id: int, tokens: int, positions: int | None) -> Finding:
    """A prompt has no token, or as many tokens as the model has positions.

    Why it matters: the policy needs a token to start from and a position to write in.
    Example: a prompt of 1,100 tokens for a model with 1,024 positions.
    How to fix: set `data.max_length` with `overlong: drop`, or use a model with more positions.
    """
    if not tokens:
        remedy = "leave the row out, or give the prompt a template that is never empty"
        return Finding(f"the prompt of task {prompt_id} has no tokens", help=remedy)
    return Finding(f"the prompt of task {prompt_id} has {tokens} tokens, but the model has {positions} positions")


@diagnostic("RC784", "logits-not-finite")
def logits_not_finite() -> Finding:
    """A log-probability of a sampled token is NaN or infinite.

    Why it matters: the policy's weights have diverged. What it samples now is noise and cannot repair them.
    Example: a learning rate so high that the weights became NaN; a temperature of 1e-45, by which no logit can be
    divided.
    How to fix: start again from an earlier checkpoint with a lower learning rate or a smaller `max_grad_norm`.
    """
    return Finding("the policy's logits are not finite")


@diagnostic("RC785", "episodes-in-error")
def episodes_in_error(errors: int, episodes: int, first: Sequence[str]) -> Finding:
    """More than a fifth of a batch's rollouts crashed, timed out or broke their prompt.

    Why it matters: failed rollouts are left out of the batch. With many of them, training would favour tasks that do
    not fail.
    Example: the retrieval service is down, so that no search succeeds.
    How to fix: correct what the errors name, then run the same command again: it continues from the last checkpoint.
    """
    more = f" (and {len(first) - _SHOWN} other kinds)" if len(first) > _SHOWN else ""
    return Finding(f"{errors} of {episodes} rollouts ended in an error: {'; '.join(first[:_SHOWN])}{more}")
