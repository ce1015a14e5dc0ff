"""Generation and rollouts: RC783 to RC787, RC840 to RC843, RC847, RC848 and RC893."""

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
    problems = "; ".join(first[:_SHOWN])
    return Finding(f"{errors} of {episodes} rollouts ended in an error: {problems}{more}", path="environment")


@diagnostic("RC786", "engine-keeps-old-weights")
def engine_keeps_old_weights(engine: str, gap: float, before: float, bound: float) -> Finding:
    """After an update the rollout engine computes other log-probabilities than the policy, and before it did not.

    Why it matters: the engine samples from weights that are not those of the policy, in part or in whole. Rewards
    would be credited to another policy than the trained one.
    Example: an engine that keeps the old output embedding where it is tied to the input embedding.
    How to fix: use another version of the engine, or `machine.rollout.type: hf`. The last checkpoint is intact.
    """
    return Finding(
        f"after an update the log-probabilities of the engine `{engine}` are {gap:.3g} nats from the policy's on "
        f"average, {before:.3g} before it; {bound:g} is allowed",
        path="machine.rollout",
    )


@diagnostic("RC787", "gap-over-bound")
def gap_over_bound(engine: str, gap: float, bound: float) -> Finding:
    """The rollout engine computes other log-probabilities than the policy, from the first weights on.

    Why it matters: rollouts would be samples of another policy than the trained one.
    Example: a model family that the engine implements in another way; weights in bfloat16 with a bound for float32.
    How to fix: give the engine the policy's `dtype`, or use `machine.rollout.type: hf`. If the difference is rounding,
    raise `machine.rollout.max_gap` and use a `sampler_correction`.
    """
    return Finding(
        f"the log-probabilities of the engine `{engine}` are {gap:.3g} nats from the policy's on average; {bound:g} is "
        "allowed",
        path="machine.rollout",
    )


@diagnostic("RC893", "no-decoding")
def no_decoding(family: str, problem: str) -> Finding:
    """A model of a recurrent family does not continue a sequence as it computes it whole.

    What it checks: the logits of two rows of different lengths, decoded token after token, when the engine is made.
    Why it matters: its samples would not be those of the policy, and their log-probabilities would be wrong.
    Example: RecurrentGemma and xLSTM, which keep their state in a form of their own.
    How to fix: use a model of another family, or train it in stages that do not sample, such as `sft`.
    """
    return Finding(f"models of the family {family!r} cannot be sampled here: {problem}", path="policy.from")


@diagnostic("RC840", "engine-version")
def engine_version(package: str, version: str, tested: str) -> Finding:
    """Another version of a rollout engine is installed than those that recipec was tested with.

    Why it matters: an update of the weights may work in one version and silently leave old weights in the next.
    Example: vllm 0.33 with a recipec that was tested with vllm 0.32.
    How to fix: install the version that the message names.
    """
    return Finding(
        f"{package} {version} is installed, but this version of recipec was tested with {tested}",
        help=f'pip install "{package}=={tested}"',
    )


@diagnostic("RC841", "engine-does-not-start")
def engine_does_not_start(engine: str, problem: str) -> Finding:
    """The rollout engine refuses the model or the machine.

    Why it matters: nothing can be sampled. The message is the engine's own.
    Example: a model family without LoRA in the engine; too little memory for the KV cache.
    How to fix: change what the message names: `machine.rollout.memory`, `cpu_cache` or `max_context_length` for memory;
    for a model that the engine does not know, use `machine.rollout.type: hf`.
    """
    return Finding(f"the engine `{engine}` does not start: {problem}", path="machine.rollout")


@diagnostic("RC843", "engine-fails")
def engine_fails(engine: str, problem: str) -> Finding:
    """The rollout engine fails while it samples.

    Why it matters: the step has no rollouts. The message is the engine's own. What was done up to the last checkpoint
    is kept.
    Example: a size of the attention heads that vLLM's kernels for CPUs do not have.
    How to fix: change what the message names, or use `machine.rollout.type: hf`.
    """
    return Finding(f"the engine `{engine}` fails while it samples: {problem}", path="machine.rollout")


@diagnostic("RC847", "rollout-servers-lost")
def servers_lost(restarts: int, most: int, problems: Sequence[str] = ()) -> Finding:
    """No rollout server answers, and none may be started again.

    Why it matters: nothing can be sampled. What was done up to the last checkpoint is kept, and the same command
    continues from there.
    Example: a server that runs out of memory at each start; a node with servers that was switched off.
    How to fix: read the log of the server, then raise `machine.rollout.max_restarts` or start the servers again.
    """
    return Finding(
        f"no rollout server answers after {restarts} of {most} restarts" + "".join(f"; {one}" for one in problems),
        path="machine.rollout.servers",
    )


@diagnostic("RC848", "server-takes-no-adapter")
def no_adapters(address: str, status: int, answer: str) -> Finding:
    """A rollout server refuses the adapter that is trained.

    Why it matters: it would sample without the adapter.
    Example: a server that was started without `--enable-lora`; an adapter of a larger rank than `--max-lora-rank`.
    How to fix: start it with `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`, `--enable-lora` and `--max-lora-rank` of at least
    `policy.lora.r`, on a file system with the run directory; or let the run start servers by `servers: 1`.
    """
    return Finding(
        f"the rollout server at {address} does not load the adapter: status {status}, {answer}",
        path="machine.rollout.servers",
    )
