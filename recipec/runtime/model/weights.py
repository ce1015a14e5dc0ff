"""Models and tokenizers from directories and the hub: looked at first, loaded second, never executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from recipec.diagnostics.errors import model as errors, trust, vision as vision_errors
from recipec.diagnostics.model import RecipeError
from recipec.diagnostics.phrases import first_line
from recipec.host.small_files import MOST, read_small
from recipec.runtime.model import generation_config, model_checks
from recipec.runtime.model.dropout import set_rates
from recipec.runtime.model.positions import switches_after
from recipec.runtime.model.vision_families import KNOWN
from recipec.spec.policy import CausalLm, VisionLm

_ADAPTER = "adapter_config.json"
_DESCRIPTIONS = (
    "config.json", "generation_config.json", "tokenizer_config.json", _ADAPTER,
    "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.msgpack", "*.h5")
_GENERIC = {"TokenizersBackend", "PreTrainedTokenizerFast"}
_SINGLE = "model.safetensors"
BASE = "base"
"""Folder with the weights under an adapter: tools that do not know adapters find no weights in the folder above."""
_COMPUTED = (".inv_freq", ".masked_bias")
"""Ends of the names of tensors that older versions saved, and that a model computes itself."""
INDEX = "model.safetensors.index.json"
_READ = (".json", ".jinja", ".model", ".txt", ".safetensors")
_LARGEST = 256 << 20
_FETCHED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md")


def fetch(name: str) -> Path:
    """Return the local folder of ``org/name[@revision]``, fetched from the hub; descriptions are looked at first.

    Raises:
        RecipeError: RC726, the hub does not give it; RC6xx, what it describes is not loaded here.
    """
    repository, _, revision = name.partition("@")
    folder = Path()
    for patterns in (["*.json"], list(_FETCHED)):
        try:
            folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))
        except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
            raise RecipeError(errors.no_hub(name, str(error).partition("\n")[0])) from error
        inspect_folder(folder, weights=False, sees=None)
    return folder


def inspect_folder(folder: Path, *, weights: bool = True, sees: bool | None = False) -> None:
    """Look at the files of a model without loading any of it.

    Args:
        folder: Their directory.
        weights: Whether the weights must be there.
        sees: Whether it is to be an image-text model; None where either will do.

    Raises:
        RecipeError: RC721, RC722, RC734, RC735, something is missing or unreadable; RC600 to RC603, something would
            run;
            RC850, RC853, it is another kind of model.
    """
    if not folder.is_dir():
        raise RecipeError(errors.no_model(str(folder)))
    scan(folder)
    if not (folder / "config.json").is_file():
        adapter = folder / _ADAPTER
        base = str(read_json(adapter).get("base_model_name_or_path")) if adapter.is_file() else ""
        inner = sorted(folder.glob("*/config.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        gguf = next((path.name for path in folder.glob("*.gguf")), "")
        models = [path.parent.name for path in inner]
        raise RecipeError(errors.missing_file(str(folder), "config.json", base, models, gguf))
    config = read_json(folder / "config.json")
    model_checks.check_counts(folder / "config.json", config)
    if "quantization_config" in config:
        described = config["quantization_config"]
        method = str(described.get("quant_method") if isinstance(described, dict) else described)
        raise RecipeError(errors.quantized(str(folder / "config.json"), method))
    _kind(folder / "config.json", config, sees)
    if weights:
        weight_files(folder)


def scan(folder: Path) -> None:
    """Look for keys in a folder's descriptions by which a loader would run something.

    Raises:
        RecipeError: RC600 to RC603, there are some; RC735, a description cannot be read.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix in _READ and not path.is_file() and not path.is_dir():
            raise RecipeError(errors.unreadable(str(path), "it is not a regular file"))
        if path.suffix in _READ and path.stat().st_size > _LARGEST and path.suffix != ".safetensors":
            raise RecipeError(errors.unreadable(str(path), f"it has more than {_LARGEST >> 20} MiB"))
    for name in _DESCRIPTIONS:
        if (folder / name).exists():
            _scan(folder / name, read_json(folder / name))


def _kind(file: Path, config: Mapping[str, Any], sees: bool | None) -> None:
    """Refuse a model that is not of the kind that is wanted."""
    known = config.get("model_type")
    config_class = CONFIG_MAPPING[known] if isinstance(known, str) and known in CONFIG_MAPPING else None
    text, image = config_class in MODEL_FOR_CAUSAL_LM_MAPPING, config_class in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if sees is False and not text and known in KNOWN:
        raise RecipeError(vision_errors.other_kind(str(file.parent), str(known), VisionLm.type_name))
    if sees and text and not image:
        raise RecipeError(vision_errors.other_kind(str(file.parent), str(known), CausalLm.type_name))
    if sees and image and known not in KNOWN:
        raise RecipeError(vision_errors.unknown_family(str(file), str(known), KNOWN))
    if not text and known not in KNOWN:
        raise RecipeError(trust.unknown_architecture(str(file), str(known)))
    # BERT and its kind have a causal head, too: their configuration says whether the attention is causal
    masked = config_class in MODEL_FOR_MASKED_LM_MAPPING and config_class not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    if masked and not (config.get("is_decoder") or config.get("causal")):
        raise RecipeError(trust.unknown_architecture(str(file), str(known), encoder=True))


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model, which must be there, and be those of one model."""
    if (folder / INDEX).is_file():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict):
            raise RecipeError(errors.unreadable(str(folder / INDEX), "it has no weight_map"))
        for shard in sorted({str(name) for name in listed.values()}):
            # a name with another folder in it would reach outside
            if (
                Path(shard.removeprefix(f"{BASE}/")).name != shard.removeprefix(f"{BASE}/")
                or not (folder / shard).is_file()
            ):
                raise RecipeError(errors.missing_file(str(folder), shard))
        if (folder / _SINGLE).is_file() and _SINGLE not in listed.values():
            raise RecipeError(errors.damaged_weights(str(folder), f"it has both {_SINGLE} and {INDEX}"))
        return sorted({folder / str(name) for name in listed.values()})
    shards = sorted(path.name for path in folder.glob("model-*-of-*.safetensors"))
    if not (folder / _SINGLE).is_file():
        pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
        if pickles:
            raise RecipeError(trust.pickled_weights(str(folder), ", ".join(pickles[:3])))
        raise RecipeError(errors.missing_file(str(folder), INDEX if shards else _SINGLE))
    if shards:
        raise RecipeError(errors.damaged_weights(str(folder), f"it has both {_SINGLE} and {shards[0]}"))
    return [folder / _SINGLE]


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a model; none may be in two of its files."""
    every: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        try:
            tensors = load_file(file)
        except (SafetensorError, RuntimeError, ValueError, OSError, KeyError) as error:
            raise RecipeError(errors.damaged_weights(str(folder), _not_whole(file, error))) from error
        if twice := sorted(set(every) & set(tensors)):
            raise RecipeError(errors.damaged_weights(str(folder), f"{twice[0]} is in {file.name} and in another file"))
        every |= tensors
    return every


def _not_whole(file: Path, error: Exception) -> str:
    with file.open("rb") as stream:
        if stream.read(24).startswith(b"version https://git-lfs"):
            return f"{file.name} is a pointer of Git LFS: `git lfs pull` in the repository fetches what it points at"
    return f"{file.name} is damaged or was not written to its end ({first_line(error)})"


def _outlines(folder: Path) -> dict[str, torch.Tensor]:
    """Return tensors without data, of the names and sizes in the heads of a model's files, which must be whole."""
    outlines: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, "pt") as opened:
                sizes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError) as error:
            raise RecipeError(errors.damaged_weights(str(folder), _not_whole(file, error))) from error
        outlines |= {name: torch.empty(size, device="meta") for name, size in sizes.items()}
    return outlines


def read_json(file: Path, most: int = MOST) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RecipeError: RC735, it is not a JSON object.
    """
    try:
        data = json.loads(read_small(file, most))
    except (OSError, ValueError, RecursionError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise RecipeError(errors.unreadable(str(file), problem)) from error
    if not isinstance(data, dict):
        raise RecipeError(errors.unreadable(str(file), "it is not a JSON object"))
    return data


def _scan(file: Path, value: Any) -> None:
    """Refuse keys by which a description could make the loader run something, at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in {"auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"} and inner:
                raise RecipeError(trust.code_in_model(str(file), key))
            if ("attn_implementation" in key or "experts_implementation" in key) and isinstance(inner, (str, dict)):
                raise RecipeError(trust.code_in_model(str(file), key, str(inner)))
            if key == "use_kernels" and inner:
                raise RecipeError(trust.code_in_model(str(file), key, str(inner)))
            _scan(file, inner)
    elif isinstance(value, list):
        for inner in value:
            _scan(file, inner)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a directory.

    Raises:
        RecipeError: RC600, RC722, RC724, RC735.
    """
    if not folder.is_dir():
        raise RecipeError(errors.no_model(str(folder)))
    scan(folder)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise RecipeError(errors.missing_file(str(folder), "tokenizer.json"))
    if (folder / "tokenizer.json").is_file():
        model_checks.check_growth(folder / "tokenizer.json", read_json(folder / "tokenizer.json", _LARGEST))
    try:
        with quiet():
            tokenizer = _reader(folder).from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises bare Exceptions on files that it cannot parse
        raise RecipeError(errors.unreadable(f"the tokenizer in {folder}", first_line(error))) from error
    if not tokenizer.is_fast:
        raise RecipeError(errors.unreadable(f"the tokenizer in {folder}", "it has no fast form (tokenizer.json)"))
    if tokenizer.eos_token_id is None:
        raise RecipeError(errors.no_eos(str(folder)))
    return tokenizer


def _reader(folder: Path) -> Any:
    """Read a tokenizer that names no family from its own file: the library would replace it by the model's family."""
    named = folder / "tokenizer_config.json"
    generic = named.is_file() and read_json(named).get("tokenizer_class") in _GENERIC
    return PreTrainedTokenizerFast if generic and (folder / "tokenizer.json").is_file() else AutoTokenizer


def load_model(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    dropout: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
    *,
    scalar: bool = False,
    empty: bool = False,
) -> nn.Module:
    """Load the model of a directory, which ``inspect_folder`` has looked at, on the CPU.

    ``say`` takes a note on what is left out of the description of its sampling.  A ``scalar`` model is a classifier.
    An ``empty`` one is on the device ``meta``: of the weights, names and sizes are read, and checked alike.

    Raises:
        RecipeError: RC722, RC723, the weights are missing, damaged or incomplete; RC735, the description is; RC894, the
            model has noise of its own.
    """
    with quiet():
        config = _config(folder)
        set_rates(config, dropout)
        sampling = _sampling(folder, config)
        generation_config.prepare(config, folder / "config.json", read_json(folder / "config.json"), say)
        tensors, places = (_outlines(folder), {"device_map": "meta"}) if empty else (_tensors(folder), {})
        try:
            # given tensors and no folder, the library looks for no adapter, no code and no pickle
            family = scalar_class(config) if scalar else model_class(config)
            model, report = family.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
                attn_implementation=implementation(config),
                **places,
            )
        except Exception as error:  # sizes that a family does not check fail in the middle of it
            raise RecipeError(errors.damaged_weights(str(folder), first_line(error))) from error
    _check_complete(folder, report)
    if scalar:
        model.generation_config = GenerationConfig.from_model_config(config)
    if not (empty or dropout):
        model_checks.check_noise(model, str(folder))
    if switch := switches_after(config):
        say(f"rows have at most {switch} tokens: {config.model_type} rotates all tokens of longer ones otherwise")
    with quiet():
        generation_config.settle(model, folder / generation_config.NAME, sampling, say)
    loaded: nn.Module = model
    return loaded


def _config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each family validates its own keys with its own exceptions
        raise RecipeError(errors.unreadable(str(folder / "config.json"), first_line(error))) from error


def _check_complete(folder: Path, report: Mapping[str, Any]) -> None:
    """Refuse weights that are not exactly those that config.json describes."""
    missing = sorted(map(str, report["missing_keys"]))
    other = sorted(str(mismatch[0]) for mismatch in report["mismatched_keys"])
    unread = sorted(str(name) for name in report["unexpected_keys"] if not str(name).endswith(_COMPUTED))
    if missing:
        problem = f"{len(missing)} parameters have none, {missing[0]} first"
    elif other:
        problem = f"{len(other)} have other sizes than config.json says, {other[0]} first"
    elif unread:
        problem = f"{len(unread)} have no place in the model that config.json describes: {', '.join(unread[:3])}"
        problem += ", …" if len(unread) > 3 else ""
    else:
        return
    raise RecipeError(errors.damaged_weights(str(folder), problem))


def _sampling(folder: Path, config: Any) -> dict[str, Any] | None:
    """Read a folder's generation config, None where it has none; the stop ids, there or in config.json, are checked."""
    file, vocabulary = folder / generation_config.NAME, int(config.get_text_config().vocab_size)
    if file.is_file():
        settings = read_json(file)
        generation_config.check_stop_ids(file, settings, vocabulary)
        return settings
    described = read_json(folder / "config.json")
    for part in (described, described.get("text_config")):
        if isinstance(part, dict):
            generation_config.check_stop_ids(folder / "config.json", part, vocabulary)
    return None


def model_class(config: Any) -> Any:
    """Return the class of the model with a head: one that sees images for the families that do."""
    sees = config.model_type in KNOWN
    return (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING if sees else MODEL_FOR_CAUSAL_LM_MAPPING)[type(config)]


def scalar_class(config: Any) -> Any:
    """Return the class of the model with one score; None for a family without one."""
    return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)


def implementation(config: Any) -> str:
    """Return the stock attention that computes a family in full: sdpa leaves soft-caps and sinks out silently."""
    text = config.get_text_config()
    family = model_class(config)
    capped = any(getattr(text, name, None) for name in ("attn_logit_softcapping", "alibi"))  # Falcon's biases as well
    sdpa = getattr(family, "_supports_sdpa", False) and not capped
    return "sdpa" if sdpa else "eager"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's progress bars and advice off the terminal."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
