"""Values that follow from others: what an evaluation scores with, how much a device takes, how many there must be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from recipec.importing.translate import Fate, Setting, Translation, lost
from recipec.reading.foreign.advice import shown
from recipec.reading.foreign.values import part, reads_images
from recipec.spec.recipe import MICROBATCH

HELD_OUT = "evaluate.held_out."
_TRAINED_ONLY = ("reward.kl.", "reward.overlong.")
"""Levels of the reward that exist while a stage trains, and do not judge an answer."""


def completed(translation: Translation) -> Translation:
    """Return a translation with the values that follow from those it has."""
    settings = dict(translation.settings)
    fates = list(translation.fates)
    _parts_without_type(settings, fates)
    _images(settings, fates)
    _taught(settings, fates)
    _engines(settings)
    _critic_engine(settings, fates)
    _completion(settings, fates, translation.kind)
    _compared_rewards(settings, fates)
    _kl_penalty(settings, fates, of_tokens=translation.found.tool.token_kl)
    if any(path.startswith(HELD_OUT) for path in settings):
        _evaluation(settings, fates)
    for head in ("data", f"{HELD_OUT}data"):
        _held_out_rows(settings, fates, head)
        _sources(settings, head)
    _stale(settings, fates)
    _devices(settings)
    _tokens(settings, translation.kind)
    return replace(translation, settings=settings, fates=fates)


def _gone(settings: dict[str, Setting], fates: list[Fate], path: str, why: str, *, needed: bool = True) -> None:
    setting = settings.pop(path)
    if setting.origin == "file":
        fates[:] = lost(fates, setting, why, "missing" if needed else "unneeded")


def _assume(settings: dict[str, Setting], fates: list[Fate], path: str, value: Any, note: str) -> None:
    settings[path] = Setting(path, value, "assumed", note=note, origin="assumed")
    fates.append(Fate(shown(path), value, 0, "assumed", text=note))


def _parts_without_type(settings: dict[str, Setting], fates: list[Fate]) -> None:
    """Leave out parameters of an environment that nothing names."""
    if "environment.type" not in settings:
        for path in [path for path in settings if path.startswith("environment.")]:
            _gone(settings, fates, path, "the environment is not named")


def _images(settings: dict[str, Setting], fates: list[Fate]) -> None:
    """Read images with a model that does, and say if its family is not offered."""
    origin = settings.get("from")
    reads = reads_images(str(origin.value)) if origin is not None else False
    frozen = settings.get("optimizer.freeze")
    towers = frozen is not None and {"vision", "projector"} & set(frozen.value)
    has_bounds = any(path.startswith("policy.image.") for path in settings)
    if "policy.type" in settings or not (reads is not False or towers or has_bounds):
        return
    _assume(settings, fates, "policy.type", part("vision"), "the model reads images")
    if "machine.train.sequence_parallel" in settings:
        why = "the tokens of a row with images are on one device"
        _gone(settings, fates, "machine.train.sequence_parallel", why, needed=False)
    if origin is not None and reads is not True:
        offered = "Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Idefics3 and SmolVLM are"
        family = "its family of vision-language models is not offered" if reads is None else "it has to read images"
        text = f"{family}: {offered}"
        fates.append(Fate(origin.name, origin.value, origin.line, "missing", ("from",), text))


def _taught(settings: dict[str, Setting], fates: list[Fate]) -> None:
    """Leave out what learning from a teacher does not read: other credit, and the terms of other objectives."""
    loss, teacher = settings.get("loss.type"), settings.get("advantage.teacher.type")
    if loss is not None and loss.value == part("teacher_loss"):
        for path in [path for path in settings if path.startswith(("advantage.", "critic."))]:
            _gone(settings, fates, path, "the teacher gives each token its distribution", needed=False)
        for path in [path for path in settings if path.startswith("loss.")]:
            if path.removeprefix("loss.") not in _OF_TEACHER or settings[path].name in _OTHER_BETA:
                _gone(settings, fates, path, "it is of a loss with advantages", needed=False)
    elif teacher is not None and "advantage.teacher.weight" not in settings:
        of_rewards = ("advantage.", "critic.", "reward.kl.")
        others = (path for path in settings if path.startswith(of_rewards) and ".teacher." not in path)
        for path in list(others):
            _gone(settings, fates, path, "the teacher alone gives credit; rewards are metrics", needed=False)


_OF_TEACHER = {"type", "beta", "temperature", "top_k", "clamp", "aggregate", "normaliser"}
_OTHER_BETA = {"actor_rollout_ref.actor.kl_loss_coef"}


def _engines(settings: dict[str, Setting]) -> None:
    """Spread sequences over devices, and have what an engine of rollouts has, by the engines that do."""
    for engine, keys, path in (
        ("sharded", ("machine.train.sequence_parallel",), "machine.train.type"),
        ("engine", ("machine.rollout.memory", "machine.rollout.tensor_parallel"), "machine.rollout.type"),
    ):
        named = next((settings[key] for key in keys if key in settings), None)
        if named is not None and path not in settings:
            settings[path] = replace(named, path=path, value=part(engine))


def _critic_engine(settings: dict[str, Setting], fates: list[Fate]) -> None:
    """Train a critic with the engine that spreads two models."""
    spread = "machine.train.sequence_parallel"
    if spread in settings and any(path.startswith("critic.") for path in settings):
        _gone(settings, fates, spread, "a critic has the tokens of a row on one device", needed=False)
    engine = settings.get("machine.train.type")
    if engine is None or engine.value != part("zero") or not any(path.startswith("critic.") for path in settings):
        return
    note = "a critic is trained next to the policy by FSDP, not by DeepSpeed"
    settings["machine.train.type"] = replace(engine, value=part("sharded"), note=note)
    zero = settings.pop("machine.train.zero", engine)
    for index, fate in enumerate(fates):
        if (fate.name, fate.line) in {(zero.name, zero.line), (engine.name, engine.line)}:
            fates[index] = replace(fate, verdict="other", paths=("machine.train.type",), text=note)


def _completion(settings: dict[str, Setting], fates: list[Fate], kind: str) -> None:
    """Bound a completion by the context, where nothing else does; without turns a context has no bound of its own."""
    context = settings.get("sampler.max_context_length")
    if kind != "rl" or context is None:
        return
    if "sampler.max_completion_length" not in settings:
        note = "a completion alone has no bound there: prompt and completion together have"
        _assume(settings, fates, "sampler.max_completion_length", context.value, note)
    if "environment.type" not in settings:
        why = "without turns, the prompt is bounded by `data.max_length`, and the completion by `max_completion_length`"
        prompt = _number(settings, "data.max_length")
        both = prompt + _number(settings, "sampler.max_completion_length")
        _gone(settings, fates, context.path, why, needed=not prompt or both > context.value)


def _compared_rewards(settings: dict[str, Setting], fates: list[Fate]) -> None:
    """Leave the sum of rewards out where the advantage compares each on its own."""
    compared = {str(one.value) for path, one in settings.items() if path.startswith("advantage.")}
    if any(path.startswith("reward.") and path.rpartition(".")[0] in compared for path in settings):
        for path in [path for path in settings if path.startswith("reward.score.")]:
            _gone(settings, fates, path, "each reward has a function of its own, that returns a number")


def _kl_penalty(settings: dict[str, Setting], fates: list[Fate], *, of_tokens: bool) -> None:
    """Say where a KL penalty of rows has another meaning than one of tokens."""
    beta = settings.get("reward.kl.beta")
    levels = {one.value for path, one in settings.items() if path.startswith("advantage.") and path.endswith(".type")}
    if beta is not None and "sampler.greedy_first" in settings:
        note = "of the greedy completion, too, which is the baseline; there the baseline has no penalty"
    elif beta is not None and part("plain_credit") in levels:
        note = "of the whole row at each of its tokens; there a token has the penalty of the tokens from it on"
    elif beta is not None and of_tokens:
        note = (
            "of the row, and compared with others; there a token has that of the tokens from it on, next to its credit"
        )
    else:
        return
    settings[beta.path] = replace(beta, note=note)
    kept_fates = [fate for fate in fates if shown(beta.path) in fate.paths]
    fates[:] = [replace(fate, verdict="other", text=note) if fate in kept_fates else fate for fate in fates]


def _evaluation(settings: dict[str, Setting], fates: list[Fate]) -> None:
    """Leave an evaluation without data out; judge its answers by what judges answers in training."""
    places = {f"{HELD_OUT}data.path", f"{HELD_OUT}data.hub", f"{HELD_OUT}data.type"}
    part = bool(_HELD & settings.keys()) or f"{HELD_OUT}data.split" in settings
    if part and not places & settings.keys():
        _copied(settings)
    if not places & settings.keys():
        needed = any(path.startswith(f"{HELD_OUT}data.") for path in settings)
        for path in [path for path in settings if path.startswith(HELD_OUT)]:
            why = "the held-out data could not be named" if needed else "no data is held out"
            _gone(settings, fates, path, why, needed=needed)
        return
    rewards = {path: setting for path, setting in settings.items() if path.startswith("reward.")}
    if any(path.startswith(_TRAINED_ONLY) for path in rewards):
        for path, setting in rewards.items():
            if not path.startswith(_TRAINED_ONLY):
                settings[f"{HELD_OUT}{path}"] = replace(setting, path=f"{HELD_OUT}{path}")
    for path, setting in list(settings.items()):
        if path.startswith("data.columns."):
            settings.setdefault(f"{HELD_OUT}{path}", replace(setting, path=f"{HELD_OUT}{path}"))


_HELD = {"data.val_share", "data.val_rows"}


def _copied(settings: dict[str, Setting]) -> None:
    """Evaluate what is held out of the training data, or another split of it."""
    for path, setting in list(settings.items()):
        if path.startswith("data.") and path not in {"data.packing", "data.shuffle", "data.limit"}:
            settings.setdefault(f"{HELD_OUT}{path}", replace(setting, path=f"{HELD_OUT}{path}"))
    for held in _HELD & settings.keys():
        path = f"{HELD_OUT}data.part"
        settings[path] = replace(settings[held], path=path, value="val")


def _held_out_rows(settings: dict[str, Setting], fates: list[Fate], head: str) -> None:
    """Divide rows that are held out of a mixture among its sources, of which each holds out its own.

    With ``n / sum(weights)`` rows of each, both parts have as many rows as where ``n`` of the mixture are held out.
    """
    path, note = f"{head}.val_rows", "divided among the sources; there the rows are drawn from the whole mixture"
    start = f"{head}.sources."
    names = {known.removeprefix(start).split(".")[0] for known in settings if known.startswith(start)}
    if not names or path not in settings:
        return
    total = sum(_value(settings, f"{start}{name}.weight", 1) for name in names) or 1
    settings[path] = replace(settings[path], value=max(1, round(settings[path].value / total)), note=note)
    fates[:] = [replace(fate, verdict="other", text=note) if shown(path) in fate.paths else fate for fate in fates]


def _sources(settings: dict[str, Setting], head: str) -> None:
    """Give each source of a mixture the keys that hold for all of them."""
    start = f"{head}.sources."
    names = dict.fromkeys(path.removeprefix(start).split(".")[0] for path in settings if path.startswith(start))
    for path, setting in list(settings.items()) if names else ():
        key = path.removeprefix(f"{head}.")
        if path.startswith(f"{head}.") and key.split(".")[0] not in {"type", "sources", "shuffle", "packing"}:
            if key != "max_length" or f"{head}.packing" not in settings:
                del settings[path]  # a block has a size, and so has a row of a source
            for name in names:
                settings.setdefault(f"{start}{name}.{key}", replace(setting, path=f"{start}{name}.{key}"))


def _stale(settings: dict[str, Setting], fates: list[Fate]) -> None:
    """Correct for rollouts of older weights, which a recipe must say how to; they are not sampled again."""
    path = "loss.sampler_correction"
    if "sampler.max_staleness" not in settings:
        return
    for key in [key for key in settings if key.startswith("sampler.retire.")]:
        _gone(settings, fates, key, "prompts of rollouts that are sampled ahead are not left out by their rewards")
    filtered = [key for key in settings if key.startswith("sampler.group_filter.")]
    if filtered and _value(settings, "sampler.group_filter.action", "") != "drop":
        note = "groups of rollouts that are sampled ahead leave the step, and are not replaced"
        for key in ("sampler.group_filter.max_tries",):
            if key in settings:
                _gone(settings, fates, key, note)
        _assume(settings, fates, "sampler.group_filter.action", "drop", note)
    if {path, "loss.ratio_to"} & settings.keys():
        return
    cut = [key for key, all_ in (("sampler.top_p", 1), ("sampler.top_k", 0)) if _value(settings, key, all_) != all_]
    if not cut:
        _assume(settings, fates, path, "truncate", "rollouts are older than the weights that they train")
        return
    note = f"rollouts are older than the weights that they train, and with `{cut[0]}` nothing can correct that"
    _assume(settings, fates, path, "none", note)
    settings["allow.RC541"] = Setting("allow.RC541", "as in the file", "assumed", note=note, origin="assumed")


def _value(settings: dict[str, Setting], path: str, default: Any) -> Any:
    return settings[path].value if path in settings else default


def _number(settings: dict[str, Setting], path: str) -> int:
    value = settings[path].value if path in settings else 0
    return value if isinstance(value, int) else 0


def _devices(settings: dict[str, Setting]) -> None:
    """Have as many devices as one model is spread over."""
    needed = max(
        _number(settings, f"machine.{path}") for path in ("rollout.tensor_parallel", "train.sequence_parallel")
    )
    if needed > max(1, _number(settings, "machine.devices")):
        note = "at least as many as a model is spread over"
        settings["machine.devices"] = Setting("machine.devices", needed, "assumed", note=note, origin="assumed")


def _tokens(settings: dict[str, Setting], kind: str) -> None:
    """Let a forward pass take the longest row."""
    lengths = [path for path in settings if path.startswith("data.") and path.endswith(".max_length")]
    data = max((_number(settings, path) for path in lengths), default=0) * (2 if kind == "dpo" else 1)
    both = data + _number(settings, "sampler.max_completion_length")
    longest = max(both, _number(settings, "sampler.max_context_length"))
    path = "budget.microbatch_tokens"
    if longest > (_number(settings, path) or MICROBATCH):
        before = settings.get(path)
        note = f"the longest row; {before.value} in the file, line {before.line}" if before else "the longest row"
        settings[path] = Setting(path, longest, "assumed", note=note, origin="assumed")
