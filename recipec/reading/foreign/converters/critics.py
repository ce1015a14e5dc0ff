"""Critics of PPO, and reward models: names that have an effect with one estimator, or one switch, alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from recipec.reading.foreign.converters.places import origin
from recipec.reading.foreign.converters.plain import choice, same
from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Off,
    Refused,
    Values,
    condition,
    converter,
    number,
    number_or_zero,
    on,
)
from recipec.reading.foreign.tables import Row
from recipec.reading.foreign.values import part

_GAE = "gae"


def _estimator(file: File, names: str) -> str:
    """Return the estimator of the advantages, of the first name that is given; trainers of PPO alone name none."""
    found = (file.get(name) for name in names.split("|")) if names else (_GAE,)
    return str(next((value for value in found if value is not None), ""))


def _asks(file: File, estimator: str) -> bool:
    """Whether the estimator of the advantages has a critic."""
    return _estimator(file, estimator) == _GAE


@condition
def critic(file: File, estimator: str = "") -> str:
    """While the estimator of the advantages has a critic."""
    return "" if _asks(file, estimator) else f"`{_estimator(file, estimator)}` has no critic"


@converter
def critic_origin(value: Any, row: Row, file: File, policy: str) -> Values:
    """Weights of the critic, unless they are those of the policy."""
    if not value or value == file.get(policy):
        raise Needless("a critic starts from the weights that the policy starts from")
    return {row.to: origin(value)}


@converter
def as_policy(value: Any, row: Row, file: File, policy: str) -> Values:
    """A number that critic and policy share here."""
    if value is None or value == file.get(policy):
        raise Needless("it is that of the policy")
    raise Refused(f"critic and policy have the same {row.to}")


@converter
def as_policy_optimizer(value: Any, row: Row, file: File, rate: str) -> Values:
    """A whole optimizer that is the policy's."""
    return {row.to: number(file.get(rate))}


@converter
def token_discount(value: Any, row: Row, file: File, estimator: str = "") -> Values:
    """A discount factor of tokens, with a critic; of episodes otherwise."""
    if _asks(file, estimator):
        return {row.to: same(value)}
    if number(value) == 1:
        raise Needless("1 is the default")
    raise Refused("a discount factor is `gamma` of a reward `environment`, where episodes have several turns")


@converter
def token_kl(value: Any, row: Row, file: File, estimator: str = "") -> Values:
    """A KL coefficient in the reward: of each token, with a critic; of the row otherwise."""
    if not number_or_zero(value):
        raise Off("it is 0")
    if _asks(file, estimator):
        return {row.to: number(value)}
    return {"reward.kl.type": part("kl"), "reward.kl.beta": number(value)}


@converter
def token_kl_estimator(value: Any, row: Row, file: File, estimator: str = "") -> Values:
    """The estimator of that KL."""
    ours = choice(value, row, file)[row.to] if file.choices(row.name) else same(value)
    return {row.to if _asks(file, estimator) else "reward.kl.kl": ours}


@converter
def kl_places(value: Any, row: Row, file: File, in_loss: str, in_reward: str, estimator: str) -> Values:
    """A KL coefficient that two switches put into the loss, into the reward, or into both."""
    if not number_or_zero(value):
        raise Off("it is 0")
    found = {"loss.beta": number(value)} if on(file.get(in_loss)) else {}
    if on(file.get(in_reward)):
        found |= token_kl(value, replace(row, to="advantage.credit.beta"), file, estimator)
    if not found:
        raise Needless(f"`{in_loss}` and `{in_reward}` are off")
    return found


@converter
def kl_places_estimator(value: Any, row: Row, file: File, in_loss: str, in_reward: str, estimator: str) -> Values:
    """The estimator of that KL."""
    found = {"loss.kl": str(value)} if on(file.get(in_loss)) else {}
    if on(file.get(in_reward)):
        found |= token_kl_estimator(value, replace(row, to="advantage.credit.kl"), file, estimator)
    if not found:
        raise Needless(f"`{in_loss}` and `{in_reward}` are off")
    return found


@converter
def kl_term(value: Any, row: Row, file: File, switch: str, estimator: str = "") -> Values:
    """A KL coefficient: of the loss where a switch says so, else in the reward."""
    if not number_or_zero(value):
        raise Off("it is 0")
    return {"loss.beta": number(value)} if on(file.get(switch)) else token_kl(value, row, file, estimator)


@converter
def kl_term_estimator(value: Any, row: Row, file: File, switch: str, coefficient: str, estimator: str = "") -> Values:
    """The estimator of that KL."""
    if not number_or_zero(file.get(coefficient)):
        raise Needless(f"`{coefficient}` is 0")
    if not on(file.get(switch)):
        return token_kl_estimator(value, row, file, estimator)
    return choice(value, replace(row, to="loss.kl"), file) if file.choices(row.name) else {"loss.kl": str(value)}


@converter
def reward_model(value: Any, row: Row, file: File, function: str = "") -> Values:
    """A reward model in the place of a rule; a function that is given has its answers, and gives the score."""
    if function and any(on(file.get(name)) for name in function.split("|")):
        raise Refused("your function asks this model there: here `reward: {NAME: {type: judge}}` asks one by a rubric")
    text = str(value or "")
    if text.startswith("http"):
        raise Refused("a service does not score here: a function of yours may call it")
    return {row.to: origin(value), f"{row.to.rpartition('.')[0]}.type": part("reward_model")}


@converter
def reward_model_of_type(value: Any, row: Row, file: File, kind: str) -> Values:
    """A reward model with all of its weights; an adapter or a service is not one."""
    if str(file.get(kind)) == "api":
        raise Refused("a service does not score here: a function of yours may call it")
    if str(file.get(kind)) != "full":
        merged = "`reward: {quality: {type: model, from: ./DIR}}`"
        raise Refused(f"an adapter is merged into its reward model once: then it is {merged}")
    return reward_model(value, row, file)
