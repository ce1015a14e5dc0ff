"""Sampling, objectives, rewards and columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recipec.reading.foreign.converters.places import home_less, resolved
from recipec.reading.foreign.converters.plain import noted, positive, same
from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Noted,
    Off,
    Refused,
    Values,
    converter,
    items_of,
    number,
    number_or_zero,
    of_value,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row
from recipec.reading.foreign.values import part, value_names


@of_value
def greedy(value: Any) -> Any:
    """The switch of sampling: off is temperature 0."""
    if on(value):
        raise Needless("sampling is the default")
    return 0.0


@converter
def samples(value: Any, row: Row, file: File, estimator: str, greedy: str) -> Values:
    """Completions of a prompt; with one estimator, the greedy one is one more."""
    return {row.to: whole(value) + (str(file.get(estimator)) == greedy)}


@of_value
def sampled(value: Any) -> Any:
    """The switch of greedy decoding."""
    return greedy(not on(value))


@of_value
def top_k(value: Any) -> Any:
    """A number of tokens; a huge one means no bound."""
    if number_or_zero(value) >= 10**6:
        raise Needless("it bounds nothing")
    return positive(value)


@converter
def no_dropout(value: Any, row: Row, file: File) -> Values:
    """The switch of dropout, which is off here."""
    if on(value):
        raise Needless("dropout is off by default")
    raise Needless("dropout of the model's configuration is `policy.dropout`")


@converter
def clip_c(value: Any, row: Row, file: File) -> Values:
    """The bound of dual clipping, in losses that have it."""
    if str(file.get("actor_rollout_ref.actor.policy_loss.loss_mode") or "vanilla") != "vanilla":
        raise Needless("the loss has no dual clip")
    return {row.to: same(value)}


@converter
def low_high(value: Any, row: Row, file: File) -> Values:
    """Two clip ranges."""
    low, high = range_(value)
    return {row.to: low, f"{row.to}_high": high}


@converter
def scale(value: Any, row: Row, file: File, estimator: str) -> Values:
    """Division by the standard deviation, of advantages that have it."""
    divided = "std" if on(value) else "none"
    match str(file.get(estimator)):
        case "grpo" | "grpo_vectorized":
            return {row.to: divided}
        case "gdpo":
            return {f"advantage.{level}.scale": divided for level in _gdpo(file)}
        case other:
            raise Needless(f"`{other}` does not read it")


@converter
def gdpo_levels(value: Any, row: Row, file: File, estimator: str) -> Values:
    """Rewards that are standardised each on its own: levels of the reward and of the advantage."""
    if str(file.get(estimator)) != "gdpo":
        raise Needless(f"`{file.get(estimator)}` does not read it")
    found: Values = {}
    if not _gdpo(file):
        raise Refused(
            "the rewards that are compared are in the script: write a level of `reward` and one of `advantage` for each"
        )
    for level, key in _gdpo(file).items():
        found |= {f"reward.{level}.type": part("user"), f"reward.{level}.name": key}
        found |= {f"advantage.{level}.type": part("grouped"), f"advantage.{level}.value": f"reward.{level}"}
    own = any(file.get(f"{head}custom_reward_function.path") for head in ("", "reward."))
    return found if own else {**found, "use": ["./rewards.py"]}


@converter
def gdpo_weights(value: Any, row: Row, file: File, estimator: str) -> Values:
    """Weights of the levels of the advantage, in the order of the rewards."""
    if str(file.get(estimator)) != "gdpo":
        raise Needless(f"`{file.get(estimator)}` does not read it")
    levels, items = _gdpo(file), items_of(value)
    if len(levels) != len(items):
        raise Refused("there are not as many rewards as weights")
    return {f"advantage.{level}.weight": number(item) for level, item in zip(levels, items, strict=True)}


def _gdpo(file: File) -> dict[str, str]:
    """Return the names of levels, and the keys of rewards that they are made of."""
    keys = map(str, items_of(file.get("algorithm.gdpo_reward_keys")))
    return {re.sub(r"\W+", "_", key).strip("_").lower(): key for key in keys}


@converter
def kl_level(value: Any, row: Row, file: File) -> Values:
    """A KL coefficient in the reward."""
    if not number_or_zero(value):
        raise Off("it is 0")
    return {f"{row.to.rpartition('.')[0]}.type": part("kl"), row.to: number(value)}


@of_value
def tries(value: Any) -> Any:
    """Rounds of dynamic sampling; no bound there is 10 here."""
    return whole(value) if number_or_zero(value) > 0 else 10


@converter
def filter_metric(value: Any, row: Row, file: File, switch: str) -> Values:
    """What groups are compared by: the total reward, or a level of it."""
    if not on(file.get(switch)) or value in {None, "seq_reward", "seq_final_reward"}:
        raise Needless("the total reward is compared")
    return {row.to: "score"}


@of_value
def range_(value: Any) -> Any:
    """A range of mean rewards of a group."""
    items = value.split() if isinstance(value, str) else items_of(value)
    if len(items) != 2:
        raise Refused("two numbers are expected")
    return [number(item) for item in items]


@converter
def range_of_reward(value: Any, row: Row, file: File, model: str) -> Values:
    """The bounds of a reward: of the model that gives it, or else of a rule or a function."""
    del row
    return {f"reward.{'quality' if file.get(model) else 'score'}.clip": range_(value)}


@converter
def between(value: Any, row: Row, file: File, low: str, high: str) -> Values:
    """The bounds of the mean rewards of a group, each with a name of its own."""
    lowest, highest = file.get(low), file.get(high)
    return {row.to: [number(0.0 if lowest is None else lowest), number(1.0 if highest is None else highest)]}


@of_value
def both_sides(value: Any) -> Any:
    """A bound on both sides of 0."""
    found = positive(value)
    return [-found, found]


@converter
def and_held_out(value: Any, row: Row, file: File, data: str) -> Values:
    """A parameter of sampling that evaluations have, too, where there is data for them."""
    found = same(value)
    return {row.to: found, **({f"evaluate.held_out.{row.to}": found} if file.get(data) else {})}


@converter
def overlong(value: Any, row: Row, file: File, longest: str) -> Values:
    """The soft penalty of long completions."""
    level = row.to.rpartition(".")[0]
    return {
        f"{level}.type": part("overlong"),
        f"{level}.max_length": whole(file.get(longest) or 0),
        row.to: whole(value),
    }


@converter
def overlong_after(value: Any, row: Row, file: File, longest: str) -> Values:
    """As ``overlong``, switched on by its own number."""
    positive(value)
    if file.get(longest) is None:
        raise Refused("the longest completion is not given")
    return overlong(value, row, file, longest)


@converter
def own_reward(value: Any, row: Row, file: File) -> Values:
    """A file with a reward function."""
    if not value:
        raise Needless("it is not set")
    path = resolved(home_less(str(value)))
    path = path.rpartition("/")[2] if path.startswith("/") else path
    if not path.endswith(".py"):
        raise Refused("a file of yours is a Python file next to the recipe, such as `./rewards.py`")
    return {
        row.to: [path if path.startswith(".") else f"./{path}"],
        "reward.score.type": part("user"),
        "reward.score.name": "compute_score",
    }


@converter
def own_function(value: Any, row: Row, file: File) -> Values:
    """A file with the name of its reward function, ``rewards.py:score``."""
    path, _, name = str(value or "").partition(":")
    return {**own_reward(path, row, file), "reward.score.name": name or "main"}


@converter
def own_class(value: Any, row: Row, file: File) -> Values:
    """A file with the class of an environment."""
    files = own_reward(value, row, file)[row.to]
    own = {row.to: "Environment", "environment.type": part("own_class"), "environment.history": "append_only"}
    return {**own, "use": files, "reward.episode.type": value_names().levels["reward.episode"]}


@converter
def own_file(value: Any, row: Row, file: File) -> Values:
    """A service that scores, or a file with a reward function."""
    if str(value or "").endswith(".py"):
        return {**own_reward(value, replace(row, to="use"), file), row.to: "reward_func"}
    raise Refused("a service does not score here: a function of yours may call it")


@converter
def rewards(value: Any, row: Row, file: File) -> Values:
    """Names of reward functions as named levels."""
    known = file.choices(row.name)
    found: Values = {}
    notes = []
    for item in items_of(value):
        text = str(item)
        level = re.sub(r"\W+", "_", text.rpartition(".")[2]).strip("_").lower()
        if text in known:
            ours = noted(known[text])
            notes += [f"`{text}`: {ours.note}"] if isinstance(ours, Noted) else []
            found.update({f"reward.{level}.{key}": to for key, to in ours.items()})
        else:
            found.update({f"reward.{level}.type": part("user"), f"reward.{level}.name": text.rpartition(".")[2]})
            found["use"] = ["./rewards.py"]
    if not found:
        raise Needless("it is empty")
    return Noted(found, "; ".join(notes)) if notes else found


@converter
def own_rewards(value: Any, row: Row, file: File) -> Values:
    """Names of functions of the script itself."""
    return rewards(value, replace(row, name=""), file)


@converter
def reward_weights(value: Any, row: Row, file: File) -> Values:
    """Weights in the order of the reward functions."""
    items = items_of(value)
    names_ = items_of(file.get("trl.reward_funcs" if row.name.startswith("trl.") else "reward_funcs"))
    if not items:
        raise Needless("it is empty")
    if len(names_) != len(items):
        raise Refused("there are not as many rewards as weights")
    levels = [re.sub(r"\W+", "_", str(name_).rpartition(".")[2]).strip("_").lower() for name_ in names_]
    return {f"reward.{level}.weight": number(item) for level, item in zip(levels, items, strict=True)}


@converter
def input_key(value: Any, row: Row, file: File, *raw: str) -> Values:
    """The column of prompts; without one of answers it holds the conversation, or raw text where a switch is on."""
    if any(on(file.get(name)) for name in raw):
        return {"data.columns.text": value}
    return {row.to: same(value)} if file.get("data.output_key") else {"data.columns.messages": value}


@converter
def axolotl_type(value: Any, row: Row, file: File) -> Values:
    """A format of data of axolotl."""
    text = str(value or "")
    if text in {"chat_template", "chat_template.default"}:
        if file.kind == "dpo":
            raise Needless("pairs of conversations are read as they are")
        return {} if on(file.get("datasets.field_messages")) else {f"{row.to}.messages": "messages"}
    if text == "sharegpt" and file.kind == "sft":
        return {} if on(file.get("datasets.field_messages")) else {f"{row.to}.messages": "conversations"}
    if text == "bradley_terry.chat_template" and file.kind == "rm":
        return {f"{row.to}.prompt": "input", f"{row.to.partition('.')[0]}.chat": True}
    if text == "alpaca" and file.kind == "sft":
        return {f"{row.to}.completion": "output", f"{row.to.partition('.')[0]}.template": value_names().forms[text]}
    if text:
        forms = (
            "`prompt` and `completion`, or `messages`" if file.kind == "sft" else "`prompt`, `chosen` and `rejected`"
        )
        raise Refused(f"`{text}`: convert the file once to {forms}")
    raise Needless("it is not set")


@converter
def spelling(value: Any, row: Row, file: File, *known: str) -> Values:
    """A key of a message, of which two spellings are read."""
    if str(value) in known:
        raise Needless(f"messages are read with the key `{value}`")
    raise Refused(row.note)


@converter
def above_one_env(value: Any, row: Row, file: File, key: str = "", *known: str) -> Values:
    """Turns of an episode, where there are several and the environment is offered."""
    if number_or_zero(value) <= 1:
        raise Needless("an episode has one turn")
    if key and str(file.get(key)) in known:
        return {row.to: whole(value)}
    raise Refused(f"turns are bounded by `{row.to}`, of an environment")


@of_value
def grad_norm(value: Any) -> Any:
    """A bound of the gradient; off at -1."""
    if value is None or number_or_zero(value) < 0:
        return 0.0
    return number(value)


@converter
def levels(value: Any, row: Row, file: File, other: str, left_out: str) -> Values:
    """The levels at which a mean is subtracted and a standard deviation divides, which are one choice here."""
    deviation = file.get(other)
    key = f"{value or 'none'} {deviation or 'none'}{' leave1out' if on(file.get(left_out)) else ''}".lower()
    ours = file.choices(row.name).get(key)
    if ours is None:
        raise Refused(f"`{value}` with `{other}: {deviation}` is not offered")
    if not ours:
        raise Needless("it is off")
    return noted(ours) if isinstance(ours, Mapping) else {row.to: ours}
