"""What a model directory says about sampling: the ids that stop it are checked, the rest is only saved again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import GenerationConfig

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError

NAME = "generation_config.json"
_SWITCHES = ("do_sample", "num_beams", "return_dict_in_generate", "use_cache")
"""Keys on which it depends whether others are accepted; they are tried first."""

Say = Callable[[str], None]


def check_stop_ids(file: Path, described: Mapping[str, Any], vocabulary: int) -> None:
    """Refuse stop ids that the model does not have.

    Raises:
        RecipeError: RC735, `eos_token_id` is neither null, an id of the vocabulary, nor a list of such ids.
    """
    stop_ids = described.get("eos_token_id")
    for token in stop_ids if isinstance(stop_ids, list) else [] if stop_ids is None else [stop_ids]:
        if type(token) is not int or not 0 <= token < vocabulary:
            problem = f"`eos_token_id` has {token!r}, and its ids must be integers from 0 to {vocabulary - 1}"
            other = type(token) is int and token >= vocabulary
            remedy = (
                "it is of a model with more tokens: take the file, and the tokenizer, of this model" if other else ""
            )
            raise RecipeError(errors.unreadable(str(file), problem, remedy))


def prepare(config: Any, file: Path, described: Mapping[str, Any], say: Say) -> None:
    """Remove settings of sampling from a model's configuration where no model can be built or saved with them.

    Args:
        config: The configuration.
        file: Its file.
        described: The content of the file.
        say: Takes a note on what is removed.
    """
    if not _refused(lambda folder: (GenerationConfig.from_model_config(config), config.save_pretrained(folder))):
        return
    settings = {name for name in vars(GenerationConfig()) if not name.endswith("_token_id")}
    dropped = sorted(settings & set(described) & set(vars(config)))
    for name in dropped:
        delattr(config, name)
    _note(file, dropped, say)


def settle(model: Any, file: Path, described: Mapping[str, Any] | None, say: Say) -> None:
    """Give a model the generation config that it is saved with: of what comes in, all that can be saved again.

    Args:
        model: The model.
        file: The file that describes its sampling.
        described: The content of ``generation_config.json``; None where the model's configuration is all there is.
        say: Takes a note on what is left out.
    """
    own = model.generation_config
    if described is None:
        # a family's default may be outside of a small vocabulary; what the file says was checked
        own.eos_token_id = within(own.eos_token_id, int(model.config.get_text_config().vocab_size))
    kept, dropped = savable(own.to_diff_dict() if described is None else described)
    if dropped or described is not None:
        model.generation_config = kept
    _note(file, dropped, say)


def set_stop_ids(config: GenerationConfig, ids: list[int]) -> None:
    """Let a generation config have the stop ids of a policy: later stages and other tools read them there."""
    before = config.eos_token_id
    if set(ids) != set(before if isinstance(before, list) else [before]):
        config.eos_token_id = ids


def within(ids: int | list[int] | None, vocabulary: int) -> int | list[int] | None:
    """Leave out ids that a vocabulary does not have.

    >>> within([2, 50256], 100), within(50256, 100), within(2, 100)
    ([2], None, 2)
    """
    if isinstance(ids, list):
        return [token for token in ids if 0 <= token < vocabulary]
    return ids if ids is None or 0 <= ids < vocabulary else None


def savable(described: Mapping[str, Any]) -> tuple[GenerationConfig, list[str]]:
    """Build a generation config of the keys with which transformers saves and loads it; name the keys left out.

    >>> savable({"eos_token_id": [2, 0], "do_sample": False, "temperature": 0.9})[1]
    ['temperature']
    """
    kept: dict[str, Any] = dict(described)
    if _unsavable(kept):
        kept = {}
        for name in sorted(described, key=lambda name: (name not in _SWITCHES, name)):
            if not _unsavable({**kept, name: described[name]}):
                kept[name] = described[name]
    return GenerationConfig.from_dict(kept), sorted(set(described) - set(kept))


def _unsavable(described: Mapping[str, Any]) -> bool:
    def save_and_load(folder: str) -> None:
        GenerationConfig.from_dict(dict(described)).save_pretrained(folder)
        GenerationConfig.from_pretrained(folder, local_files_only=True)

    return _refused(save_and_load)


def _refused(attempt: Callable[[str], object]) -> bool:
    """Whether the library refuses to write into a temporary folder."""
    with TemporaryDirectory() as folder:
        try:
            attempt(folder)
        except Exception:  # noqa: BLE001 - values of a wrong type fail wherever the library first uses them
            return True
    return False


def _note(file: Path, names: Iterable[str], say: Say) -> None:
    if listed := ", ".join(f"`{name}`" for name in names):
        say(f"{file}: {listed} left out, since transformers does not save a generation config with such values")
