"""What a run does not do, or learns nothing from: RC920, RC921, RC930 to RC935; RC970 to RC973: stops and trackers."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, diagnostic
from recipec.diagnostics.phrases import listed


@diagnostic("RC920", "finished-under-other-versions", "warning")
def other_versions(stage: str, changed: Sequence[str]) -> Finding:
    """A finished stage was trained with other versions of the packages that compute its numbers.

    Why it matters: trained again, the stage could end with other weights. A new version alone never trains a finished
    stage again.
    Example: torch was upgraded between two runs of the same command.
    How to fix: nothing to do to keep the stage. To train it again, delete its folder or choose another directory with
    `--out`.
    """
    return Finding(f"stage `{stage}` is kept; it was trained with {listed(changed, 4)}")


@diagnostic("RC921", "evaluation-not-made", "warning")
def not_evaluated(stage: str, evaluations: Sequence[str], folder: str) -> Finding:
    """A stage finished before an evaluation was added to the recipe, so its results lack it.

    Why it matters: the table of results has an empty cell that no later run of the same command fills.
    Example: `evaluate.held_out` was added after the run had ended.
    How to fix: run `recipec evaluate RECIPE`, which evaluates finished stages.
    """
    return Finding(
        f"stage `{stage}` finished without {listed(evaluations)}",
        help="recipec evaluate RECIPE makes it" + (f", with --out {folder}" if folder else ""),
        path=f"evaluate.{evaluations[0].partition('/')[0]}",
    )


@diagnostic("RC930", "no-credit", "warning")
def no_credit(stage: str, steps: int) -> Finding:
    """In several steps in a row, all rewards of every group were equal.

    What it checks: `frac_reward_zero_std` is 1 for five steps.
    Why it matters: an advantage compares answers of a group; where they are equal it is 0, and nothing is learned.
    Example: a reward that no answer of the policy reaches yet, or that every answer reaches.
    How to fix: use easier prompts or a reward with steps between wrong and right, train on demonstrations first, raise
    `sampler.num_generations` or `sampler.temperature`, or filter groups with `sampler.group_filter`.
    """
    return Finding(
        f"stage `{stage}` learned nothing in {steps} steps: in every group, all rewards are equal", path="reward"
    )


@diagnostic("RC931", "no-gradient", "warning")
def no_gradient(stage: str, steps: int) -> Finding:
    """The norm of the gradient was exactly 0 in several steps in a row.

    Why it matters: the weights do not change.
    Example: all rows have the advantage 0, or everything that the loss depends on is frozen.
    How to fix: look at `reward` and `frac_reward_zero_std` in the metrics, and at `optimizer.freeze`.
    """
    return Finding(f"stage `{stage}` has had a gradient of exactly 0 for {steps} steps")


@diagnostic("RC932", "all-answers-cut", "warning")
def all_cut(stage: str, steps: int) -> Finding:
    """Every completion ended at the limit of its length, in several steps in a row.

    Why it matters: the policy never ends by itself, and a reward that reads the end of an answer sees none.
    Example: `max_completion_length: 64` for a model that reasons for hundreds of tokens; a chat model without its chat
    template.
    How to fix: raise `sampler.max_completion_length`, set `data.chat: true` for a chat model, or give `sampler.stop`.
    """
    return Finding(
        f"in {steps} steps of stage `{stage}`, every completion was cut at its limit",
        path="sampler.max_completion_length",
    )


@diagnostic("RC933", "entropy-collapsed", "warning")
def entropy_collapsed(stage: str, steps: int) -> Finding:
    """The entropy of the policy fell below a twentieth of what it was in the first step.

    Why it matters: all answers to a prompt become the same, and groups give no credit any more.
    Example: a high learning rate without a KL term.
    How to fix: lower `optimizer.learning_rate`, set `loss.entropy` or `loss.beta`, or raise `loss.epsilon_high`.
    """
    return Finding(
        f"the entropy of stage `{stage}` has collapsed, for {steps} steps now", path="optimizer.learning_rate"
    )


@diagnostic("RC934", "constant-reward", "warning")
def constant_reward(stage: str, steps: int) -> Finding:
    """The mean reward was exactly the same in several steps in a row.

    Why it matters: a reward that does not depend on the answer teaches nothing.
    Example: a reward function that looks for a text in a list of messages, and gives 0 to all of them.
    How to fix: look at the answers and their rewards with `recipec try`, or in `samples/` of the stage.
    """
    return Finding(f"the mean reward of stage `{stage}` has not changed for {steps} steps", path="reward")


@diagnostic("RC935", "kl-runs-away", "warning")
def kl_runaway(stage: str, steps: int) -> Finding:
    """The policy is more than 1 nat per token away from its reference, in several steps in a row.

    Why it matters: the policy no longer writes what the reference would; its text may have become unreadable.
    Example: a learning rate that is ten times too high.
    How to fix: lower `optimizer.learning_rate`, raise `loss.beta`, or set `optimizer.max_grad_norm`.
    """
    return Finding(
        f"the KL of stage `{stage}` to its reference has been above 1 nat per token for {steps} steps", path="loss.beta"
    )


@diagnostic("RC970", "stopped-learning")
def stopped_learning(stage: str, step: int, condition: str) -> Finding:
    """A stage was stopped because its last steps show a condition of `budget.stop_when`.

    What it checks: after each step, whether one of the warnings under `stop_when` holds for the last five steps.
    Why it matters: the steps that are left would cost time and teach nothing. The stage has a checkpoint of its last
    step, and later stages do not run.
    Example: `stop_when: [no_credit]`, and all rewards of every group were equal in five steps in a row.
    How to fix: see the page of the warning. The same command goes on from the checkpoint after the condition is deleted
    from `stop_when`; a recipe that trains otherwise needs another directory (`--out`) or `--replace`.
    """
    return Finding(
        f"stage `{stage}` was stopped after step {step}: `{condition}`", path=f"stages.{stage}.budget.stop_when"
    )


@diagnostic("RC971", "tracker-not-logged-in")
def tracker_login(tracker: str, remedy: str) -> Finding:
    """A tracker would send metrics to a service, and there is no API key for it on this machine.

    What it checks: whether the tracker's own package finds credentials. A recipe never has them.
    Why it matters: the run would train without the curves that the recipe asks for.
    Example: `trackers: {team: {type: wandb}}` on a machine without a `wandb login`.
    How to fix: log in with the tracker's own command, or write metrics to files with `mode: offline`.
    """
    return Finding(f"tracker `{tracker}` has no API key on this machine", help=remedy)


@diagnostic("RC972", "tracker-does-not-answer")
def tracker_unreachable(tracker: str, address: str, problem: str) -> Finding:
    """The server of a tracker does not answer.

    Why it matters: the run would train without the curves that the recipe asks for.
    Example: a wrong port in `trackers: {team: {type: mlflow, uri: "http://localhost:5000"}}`.
    How to fix: start the server, correct `uri`, or delete the tracker; `metrics.jsonl` and TensorBoard remain.
    """
    return Finding(f"the server of tracker `{tracker}` does not answer at {address}: {problem}")


@diagnostic("RC982", "credentials-to-another-server")
def tracker_credentials(tracker: str, address: str, variable: str) -> Finding:
    """A tracker's address is in the recipe, and the environment has credentials that may be for another server.

    What it checks: where `MLFLOW_TRACKING_TOKEN`, `_USERNAME` or `_PASSWORD` is set, whether `uri` is
    `MLFLOW_TRACKING_URI`.
    Why it matters: MLflow sends the credentials to any address that it is given, also to that of a stranger's recipe.
    Example: `trackers: {team: {type: mlflow, uri: "https://else.example.com"}}` with a token for another server.
    How to fix: if the address is right, set `MLFLOW_TRACKING_URI` to it too; or leave `uri` out of the recipe.
    """
    return Finding(
        f"tracker `{tracker}` would send the credentials of `{variable}` to {address}, which `MLFLOW_TRACKING_URI` "
        "does not name",
        help="if the address is right, set `MLFLOW_TRACKING_URI` to it, or leave `uri` out",
    )


@diagnostic("RC973", "tracker-failed", "warning")
def tracker_failed(name: str, tracker: str, problem: str) -> Finding:
    """A tracker raised an error; the run goes on without it.

    Why it matters: the tracker has no metrics from this step on. They are all in `metrics.jsonl`, and the next run
    that continues the stage sends what the tracker lacks.
    Example: the server of the tracker was stopped during the run.
    How to fix: correct what the message says before the stage is continued.
    """
    return Finding(f"tracker `{name}` ({tracker}) failed: {problem}", path=f"trackers.{name}")
