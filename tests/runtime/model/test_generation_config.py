"""Wrong settings of sampling in a directory: stop ids are refused at loading, nothing else fails at the end."""

import json
from pathlib import Path

import pytest
from support.policies import dense_policy
from transformers import AutoModelForCausalLM, GenerationConfig

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.spec import policy as specs

SCRATCH = specs.Scratch(hidden_size=16, layers=1, heads=2, intermediate_size=32, max_positions=64)


def make(root: Path, origin: Origin, notes: list[str] | None = None) -> CausalLm:
    """Build or load a policy; notes to the user are collected."""
    context = StageContext(
        root=root, cache=root / "cache", seed=0, stage="s", say=([] if notes is None else notes).append
    )
    return dense_policy(specs.CausalLm(scratch=SCRATCH if origin.kind == "scratch" else None), context, origin)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """The files of a model of 100 tokens whose tokenizer ends texts with 2."""
    root = tmp_path_factory.mktemp("parent")
    make(root, Origin("scratch")).save(root / "model")
    return {file.name: file.read_bytes() for file in (root / "model").iterdir()}


def given(root: Path, parent: dict[str, bytes], file: str, **changes) -> Path:
    """Write the model with other keys in one of its files."""
    folder = root / "model"
    folder.mkdir()
    for name, content in parent.items():
        (folder / name).write_bytes(content)
    described = json.loads(parent[file]) if file == "config.json" else {}
    (folder / file).write_text(json.dumps({**described, **changes}))
    return folder


SAMPLING = {"do_sample": True, "temperature": 0.9, "top_p": 0.6, "top_k": 5}
CASES = [
    # as published with Vicuna, LLaVA and Qwen-ASR: greedy, with settings of sampling
    ({"do_sample": False, "temperature": 0.9}, {"temperature"}),
    ({"temperature": 0.9, "top_p": 0.6}, {"temperature", "top_p"}),
    ({**SAMPLING, "do_sample": None}, {"temperature", "top_p", "top_k"}),
    (SAMPLING, set()),
    ({"top_k": 1, "min_p": 0.1, "typical_p": 0.9, "repetition_penalty": 1.1}, {"top_k", "min_p", "typical_p"}),
    ({"max_new_tokens": -1}, {"max_new_tokens"}),
    ({"max_new_tokens": "many"}, {"max_new_tokens"}),
    ({"max_new_tokens": 7}, set()),
    ({"pad_token_id": -1}, {"pad_token_id"}),
    ({"pad_token_id": "<pad>"}, {"pad_token_id"}),
    ({"early_stopping": "sometimes"}, {"early_stopping"}),
    ({"early_stopping": []}, {"early_stopping"}),
    ({"length_penalty": 0.5}, {"length_penalty"}),
    ({"num_beams": 4, "length_penalty": 0.5, "early_stopping": True}, set()),
    ({"num_return_sequences": 3}, {"num_return_sequences"}),
    ({"num_beams": 2, "num_return_sequences": 3}, {"num_return_sequences"}),
    ({"output_scores": True}, {"output_scores"}),
    ({"return_dict_in_generate": True, "output_scores": True}, set()),
    ({"use_cache": False, "cache_implementation": "static"}, {"cache_implementation"}),
    ({"cache_implementation": "none"}, {"cache_implementation"}),
    ({"compile_config": 5}, {"compile_config"}),
    ({"watermarking_config": 5}, {"watermarking_config"}),
    ({"streamer": 5}, {"streamer"}),
    ({"validate": 5, "to_dict": 6}, {"validate", "to_dict"}),
    ({"suppress_tokens": [5], "forced_eos_token_id": 5}, {"suppress_tokens"}),
    ({"assistant_ensemble_weight": 2.0}, {"assistant_ensemble_weight"}),
    ({"own": {"key": [1, None]}}, set()),
]


@pytest.mark.parametrize(("said", "left_out"), CASES)
def test_what_cannot_be_saved_again_is_left_out_with_a_note(tmp_path, parent, said, left_out):
    """Everything else stays, the stop ids first of all; a library loads what is saved."""
    given(tmp_path, parent, "generation_config.json", eos_token_id=[2, 9], **said)
    notes: list[str] = []
    policy = make(tmp_path, Origin("directory", "./model"), notes)
    policy.check_saveable()
    policy.save(tmp_path / "out")
    assert policy.stop_ids == (2, 9)
    saved = GenerationConfig.from_pretrained(tmp_path / "out")
    assert saved.eos_token_id == [2, 9]
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert {k: v for k, v in said.items() if v is not None and k not in left_out}.items() <= written.items()
    assert not left_out & set(written)
    assert bool(notes) == bool(left_out)
    assert all(f"`{name}`" in notes[0] for name in left_out)
    assert not notes or str(tmp_path / "model" / "generation_config.json") in notes[0]


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("ids", ["<|im_end|>", "2", -1, 100, 2.0, True, [2, -1], [2, 100], [2, None], [[2]], {"id": 2}])
def test_stop_ids_that_are_none_are_refused_by_their_file(tmp_path, parent, file, ids):
    """Of another type, or outside of the vocabulary: RC735, wherever they are read from."""
    folder = given(tmp_path, parent, file, eos_token_id=ids)
    if file == "config.json":
        (folder / "generation_config.json").unlink()
    with pytest.raises(RecipeError) as refused:
        make(tmp_path, Origin("directory", "./model"))
    assert refused.value.diagnostics[0].code == "RC735"
    assert str(folder / file) in refused.value.diagnostics[0].message
    assert "eos_token_id" in refused.value.diagnostics[0].message


@pytest.mark.parametrize(("ids", "expected"), [(9, (2, 9)), ([99, 0], (2, 99, 0)), ([], (2,)), (None, (2,))])
def test_stop_ids_of_the_vocabulary_are_taken(tmp_path, parent, ids, expected):
    """One id, several, and none; the tokenizer's own is one in any case."""
    given(tmp_path, parent, "generation_config.json", eos_token_id=ids)
    policy = make(tmp_path, Origin("directory", "./model"))
    assert policy.stop_ids == expected
    policy.save(tmp_path / "out")
    assert make(tmp_path, Origin("directory", "./out")).stop_ids == expected


@pytest.mark.parametrize(
    "said", [{"max_new_tokens": -1}, {"temperature": 0.7}, {"early_stopping": 3}, {"pad_token_id": -1}]
)
@pytest.mark.parametrize("described", [True, False])
def test_settings_in_the_configuration_of_the_model_never_fail_at_the_end(tmp_path, parent, said, described):
    """Older models have theirs in config.json, with or without the other file."""
    folder = given(tmp_path, parent, "config.json", **said)
    if not described:
        (folder / "generation_config.json").unlink()
    policy = make(tmp_path, Origin("directory", "./model"))
    policy.check_saveable()
    policy.save(tmp_path / "out")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").generation_config.eos_token_id == 2


def test_a_default_beyond_a_small_vocabulary_is_no_stop_id(tmp_path):
    """GPT-2's own 50256 stands in no file: it is left out, not refused."""
    context = StageContext(root=tmp_path, cache=tmp_path / "cache", seed=0, stage="s")
    spec = specs.CausalLm(scratch=SCRATCH.model_copy(update={"architecture": "gpt2"}))
    dense_policy(spec, context, Origin("scratch")).save(tmp_path / "model")
    described = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(
        json.dumps({k: v for k, v in described.items() if k not in {"eos_token_id", "bos_token_id"}})
    )
    (tmp_path / "model" / "generation_config.json").unlink()
    policy = make(tmp_path, Origin("directory", "./model"))
    assert policy.stop_ids == (2,)
    policy.save(tmp_path / "out")
    make(tmp_path, Origin("directory", "./out"))


def test_a_model_that_cannot_be_saved_is_refused_before_training(tmp_path, parent):
    """Half a surrogate pair in a chat template can be read from JSON and not be written: RC738."""
    folder = given(tmp_path, parent, "generation_config.json", eos_token_id=2)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    described = json.loads(parent["tokenizer_config.json"])
    (folder / "tokenizer_config.json").write_text(json.dumps({**described, "chat_template": "\ud800"}))
    policy = make(tmp_path, Origin("directory", "./model"))
    with pytest.raises(RecipeError) as refused:
        policy.check_saveable()
    assert refused.value.diagnostics[0].code == "RC738"
