"""The one vocabulary: every column, feature and artifact that components exchange.

A name carries its axes (``advantage_RT`` has a row and a token axis), so a broadcast is visible.
The table is at once the checker's type system, the parameter names of the functions in ``runtime/``,
the documentation, and what ``Batch`` asserts while a recipe runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AXES = {
    "P": "prompts",
    "R": "rows: one training example, a whole trajectory or one step of it; the sampler decides",
    "T": "tokens",
    "I": "images",
    "V": "vocabulary",
}

Kind = Literal["column", "feature", "artifact", "scalar"]


@dataclass(frozen=True, slots=True)
class Signal:
    """A name with axes, dtype and unit.

    Example: ``Signal("reward_R", "column", "float32", "reward units", "The row's own reward.")``.
    """

    name: str
    kind: Kind
    dtype: str
    unit: str
    doc: str

    @property
    def axes(self) -> str:
        """The axes in the name, ``""`` where it has none."""
        return split_axes(self.name)[1]


def split_axes(name: str) -> tuple[str, str]:
    """Split a name into stem and axes.

    >>> split_axes("advantage_RT"), split_axes("branchable")
    (('advantage', 'RT'), ('branchable', ''))
    """
    stem, _, axes = name.rpartition("_")
    return (stem, axes) if stem and axes and set(axes) <= set(AXES) else (name, "")


def broadcasts(have: str, need: str) -> bool:
    """Whether ``need`` is ``have`` repeated along further axes.

    >>> broadcasts("advantage_R", "advantage_RT"), broadcasts("reward_R", "advantage_RT")
    (True, False)
    """
    (stem, axes), (other, more) = split_axes(have), split_axes(need)
    return stem == other and set(axes) < set(more)


_NATS = "nats; logits divided by the sampling temperature in rl, by 1 elsewhere"
_TABLE = (
    # tasks
    Signal("prompt_P", "column", "object", "tasks", "The task: rendered prompt and the row's other columns."),
    Signal("completion_P", "column", "object", "tasks", "What the policy should have written, for each task."),
    Signal("chosen_P", "column", "object", "tasks", "The preferred answer of a pair, for each task."),
    Signal("rejected_P", "column", "object", "tasks", "The other answer of a pair, for each task."),
    # rows
    Signal("prompt_id_R", "column", "int64", "ids", "Which task a row belongs to: its index in the data."),
    Signal("episode_id_R", "column", "int64", "ids", "Which episode a row belongs to."),
    Signal("step_R", "column", "int64", "steps", "Which step of its episode a row is; 0 for trajectory rows."),
    Signal("state_R", "column", "object", "keys", "The environment's state key before the step."),
    Signal("error_R", "column", "bool", "flags", "The row's episode ended in an error of ours, not the policy's."),
    Signal("error_text_R", "column", "object", "text", "Why the row's episode failed; empty where it did not."),
    Signal("failed_R", "column", "bool", "flags", "No reward could be given: out of every baseline, no credit."),
    Signal("tokens_RT", "column", "int64", "ids", "Token ids exactly as sampled, prompt first, right-padded."),
    Signal("attend_RT", "column", "bool", "flags", "Valid tokens; padding is false."),
    Signal("trained_RT", "column", "bool", "flags", "Tokens that the policy wrote: the loss mask."),
    Signal("text_R", "column", "object", "text", "What the policy wrote, decoded, special tokens left out."),
    Signal("transcript_R", "column", "object", "text", "The episode's text after the task's prompt, answers included."),
    Signal("turn_RT", "column", "int64", "turns", "Turn number of the tokens the policy wrote, from 1; else 0."),
    Signal("pixels_I", "column", "float32", "normalised", "Images as the processor gives them."),
    Signal("image_row_I", "column", "int64", "rows", "The row each image belongs to."),
    Signal("by_pair_R", "column", "int64", "ids", "The chosen and the rejected row of a pair share a value."),
    Signal("chosen_R", "column", "bool", "flags", "The row is the preferred one of its pair."),
    # log-probabilities; position t holds that of token t given the tokens before it, 0 where not trained
    Signal("sampler_logprob_RT", "column", "float32", _NATS, "Log-probability as the sampling engine drew it."),
    Signal("old_logprob_RT", "column", "float32", _NATS, "Log-probability under the policy before this batch."),
    Signal("logprob_RT", "column", "float32", _NATS, "Log-probability under the policy being trained."),
    Signal("ref_logprob_RT", "column", "float32", _NATS, "Log-probability under the reference."),
    Signal("entropy_RT", "column", "float32", _NATS, "Entropy of the policy's next-token distribution."),
    # reward
    Signal("env_reward_R", "column", "float64", "reward units", "The environment's own reward for what the row did."),
    Signal("action_valid_R", "column", "bool", "flags", "The environment understood every action of the row."),
    Signal("reward_R", "column", "float64", "reward units", "The row's own reward; NaN: it could not be scored."),
    Signal("score_R", "column", "float64", "reward units", "Total of the row's episode; equals it for trajectories."),
    Signal("return_R", "column", "float64", "reward units", "Discounted sum of rewards from this step on."),
    # grouping levels: rows of one group share a value
    Signal("by_prompt_R", "column", "int64", "ids", "Index of the row's task in this batch's prompt_P."),
    Signal("by_tree_R", "column", "int64", "ids", "Rows of one search tree share a value."),
    Signal("by_episode_R", "column", "int64", "ids", "Rows of one episode share a value."),
    Signal("by_anchor_R", "column", "int64", "ids", "Rows of one prompt that saw the same state share a value."),
    # credit and objective
    Signal("advantage_R", "column", "float64", "dimensionless", "Credit of a row."),
    Signal("advantage_RT", "column", "float32", "dimensionless", "Credit of each token."),
    Signal("weight_RT", "column", "float32", "dimensionless", "Share of a token in the minibatch's objective."),
    Signal("weight_R", "column", "float32", "dimensionless", "Share of a row's pair in the minibatch's objective."),
    Signal("loss", "scalar", "float32", "dimensionless", "What the optimizer minimises."),
    # features of an environment
    Signal("branchable", "feature", "", "", "Episodes can be continued from any earlier step."),
    Signal("state_key", "feature", "", "", "The environment names its states."),
    Signal("admissible_actions", "feature", "", "", "The environment lists the actions it would accept."),
    Signal("rewards", "feature", "", "", "The environment gives rewards of its own."),
    Signal("tasks", "feature", "", "", "The environment brings its own tasks."),
    Signal("images", "feature", "", "", "Tasks or observations carry images."),
    # a feature of a sampler
    Signal("sampling", "feature", "", "", "The policy answers whatever prompt it is asked, as often as wanted."),
    # what a stage leaves behind; in a recipe they are named STAGE.policy and so on
    Signal("policy", "artifact", "", "", "Trained weights, configuration and tokenizer."),
    Signal("rollouts", "artifact", "", "", "Scored rows as sampled."),
    Signal("pairs", "artifact", "", "", "Preference pairs with their evidence."),
    Signal("knowledge", "artifact", "", "", "A graph of facts."),
)

SIGNALS: dict[str, Signal] = {signal.name: signal for signal in _TABLE}


def find_signal(name: str) -> Signal | None:
    """Return the signal called ``name``; ``STAGE.artifact`` finds the artifact."""
    stage, dot, artifact = name.rpartition(".")
    found = SIGNALS.get(artifact if dot else name)
    if dot and (not stage or found is None or found.kind != "artifact"):
        return None
    return found
