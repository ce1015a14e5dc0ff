"""Every broken model directory ends in a code that names the file; nothing that a model brings is run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_recipes import ROWS, SFT
from transformers import AutoConfig, AutoModelForCausalLM

from recipec.runtime.model import scratch
from recipec.spec.policy import Scratch

FROM = SFT[: SFT.index("    from:")] + "    from: ./model\n" + SFT[SFT.index("    data:") :]


def remove(*names):
    """Delete files."""

    def change(model):
        for name in names:
            (model / name).unlink()

    return change


def put(name, text):
    """Write one file."""
    return lambda model: (model / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def config(**changed):
    """Change keys of config.json."""

    def change(model):
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def pickled(model):
    """Leave only a pickle of weights."""
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def without_end(model):
    """Take the end token from the tokenizer."""
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if "eos" not in k}))


def climbing(model):
    """Let the index of the shards lead out of the folder."""
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "../../x"}}')


def unwritable(model):
    """Give the tokenizer a chat template that cannot be encoded."""
    (model / "chat_template.jinja").unlink(missing_ok=True)
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": "\ud800"}))


def weights_of(value):
    """Fill a tensor with a value."""

    def change(model):
        tensors = load_file(model / "model.safetensors")
        name = max(tensors, key=lambda key: tensors[key].numel())
        save_file({**tensors, name: torch.full_like(tensors[name], value)}, model / "model.safetensors")

    return change


BROKEN = [
    (weights_of(float("nan")), "RC723"),
    (weights_of(float("inf")), "RC723"),
    (config(head_dim=0), "RC723"),
    (config(pad_token_id=10**9), "RC723"),
    (config(num_labels=10**9), "RC735"),
    (config(num_hidden_layers=10**6), "RC735"),
    (remove("config.json"), "RC722"),
    (remove("model.safetensors"), "RC722"),
    (remove("tokenizer.json"), "RC722"),
    (climbing, "RC722"),
    (pickled, "RC603"),
    (config(auto_map={"AutoModelForCausalLM": "modeling.X"}), "RC600"),
    (put("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": ["a.b", null]}}'), "RC600"),
    (config(model_type="nope"), "RC602"),
    (put("config.json", "{}"), "RC602"),
    (put("config.json", "{"), "RC735"),
    (put("config.json", "[]"), "RC735"),
    (config(hidden_size="sixteen"), "RC735"),
    (config(hidden_size=32), "RC723"),
    (config(num_hidden_layers=2), "RC723"),
    (config(vocab_size=10), "RC723"),
    (put("model.safetensors", b""), "RC723"),
    (put("model.safetensors", b"\xff" * 64), "RC723"),
    (without_end, "RC724"),
    (put("tokenizer.json", "{}"), "RC735"),
    (put("tokenizer.json", b"\xff\x00"), "RC735"),
    (put("tokenizer_config.json", "nope"), "RC735"),
    (put("adapter_config.json", "{}"), "RC733"),
    (put("generation_config.json", '{"eos_token_id": "<|im_end|>"}'), "RC735"),
    (put("generation_config.json", "nope"), "RC735"),
    (unwritable, "RC738"),
    (config(quantization_config={"quant_method": "gptq", "bits": 4}), "RC734"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A whole model in a directory."""
    home = tmp_path_factory.mktemp("model")
    tokenizer = scratch.characters()
    sizes = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32, "max_positions": 64}
    scratch.build_model(Scratch(**sizes), tokenizer).save_pretrained(home)
    tokenizer.save_pretrained(home)
    return home


def test_a_whole_model_runs(folder, model):
    """What save_pretrained wrote is a model to start from."""
    shutil.copytree(model, folder.path / "model")
    assert folder.run(FROM, a__jsonl=ROWS).code == 0


def test_a_description_of_sampling_that_cannot_be_saved_again_does_not_end_the_run(folder, model):
    """It is only passed on: the sound part of it, with a note on the rest."""
    shutil.copytree(model, folder.path / "model")
    said = '{"eos_token_id": [2, 0], "do_sample": false, "temperature": 0.9}'
    put("generation_config.json", said)(folder.path / "model")
    ended = folder.run(FROM, a__jsonl=ROWS)
    assert ended.code == 0
    assert "`temperature` left out" in ended.err
    (made,) = folder.path.glob("runs/*/stages/learn/policy/generation_config.json")
    assert json.loads(made.read_text())["eos_token_id"] == [2, 0]


@pytest.mark.parametrize(("change", "code"), BROKEN)
def test_a_broken_directory_is_refused(folder, model, change, code):
    """A file that is missing, damaged, foreign or dangerous is refused with exit 1 before training."""
    shutil.copytree(model, folder.path / "model")
    change(folder.path / "model")
    ended = folder.run(FROM, a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, code)
    assert "model" in ended.err


def test_sizes_that_differ_are_named(folder, model):
    """A config.json that does not fit the weights is told by the first parameter, in no library's words."""
    shutil.copytree(model, folder.path / "model")
    config(vocab_size=10)(folder.path / "model")
    ended = folder.run(FROM, a__jsonl=ROWS)
    assert "1 have other sizes than config.json says, model.embed_tokens.weight first" in ended.err
    assert "ignore_mismatched_sizes" not in ended.err


@pytest.mark.parametrize(("family", "decoder", "code"), [("bert", False, 1), ("roberta", False, 1), ("bert", True, 0)])
def test_an_encoder_is_refused_by_check(folder, family, decoder, code):
    """A family that is an encoder unless its configuration says otherwise is refused before weights are loaded."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = scratch.characters()
    made = AutoConfig.for_model(family, vocab_size=len(tokenizer), is_decoder=decoder, **sizes)
    AutoModelForCausalLM.from_config(made).save_pretrained(folder.path / "model")
    tokenizer.save_pretrained(folder.path / "model")
    folder.write(r__yaml=FROM, a__jsonl=ROWS)
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (code, "RC602" if code else ""), found.err
    if code:
        assert "an encoder: its tokens see those after them" in found.err
        assert "r.yaml:6:11" in found.err


def test_a_folder_around_a_model_names_the_one_in_it(folder, model):
    """A folder of checkpoints, or the directory of a run, is refused with the folder that has the model."""
    for name in ("checkpoint-5", "logs"):
        (folder.path / "model" / name).mkdir(parents=True)
    shutil.copytree(model, folder.path / "model/checkpoint-5", dirs_exist_ok=True)
    folder.write(r__yaml=FROM, a__jsonl=ROWS)
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC722")
    assert "model/checkpoint-5`: write that folder" in found.err


def test_a_file_for_inference_is_no_model(folder):
    """A folder with GGUF alone is refused, and the message says what to use."""
    (folder.path / "model").mkdir()
    (folder.path / "model/small-q4.gguf").write_bytes(b"GGUF")
    folder.write(r__yaml=FROM, a__jsonl=ROWS)
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC722")
    assert "small-q4.gguf is for inference alone" in found.err


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (put("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"), "RC723", "`git lfs pull`"),
        (lambda model: (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors"), "RC722",
         "has no model.safetensors.index.json"),
    ],
)  # fmt: skip
def test_weights_that_were_fetched_in_part(folder, model, change, code, says):
    """A pointer of Git LFS, and shards without their index, are told as what they are."""
    shutil.copytree(model, folder.path / "model")
    change(folder.path / "model")
    folder.write(r__yaml=FROM, a__jsonl=ROWS)
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, code)
    assert says in found.err


@pytest.mark.parametrize("there", [None, "a file"])
def test_no_directory(folder, there):
    """A directory that is absent, or a file, is refused at its place in the recipe."""
    if there:
        folder.write(model=there)
    ended = folder.run(FROM, a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC721")
    assert "r.yaml:6:11" in ended.err


@pytest.mark.parametrize(
    ("origin", "code"), [("package:no-such-package", "RC716"), ("package:pip", "RC728"), ("org/nope", "RC726")]
)
def test_weights_from_elsewhere(folder, origin, code):
    """A package that is not installed or has no weights, and a hub that cannot be reached, are refused."""
    ended = folder.run(FROM.replace("./model", origin), a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, code)
    assert code != "RC726" or "run `hf download org/nope`" in ended.err, ended.err


@pytest.mark.parametrize(
    ("was", "now", "code"),
    [
        ("hidden_size: 16", "hidden_size: 15", "RC150"),
        ("heads: 2", "heads: 3", "RC150"),
        ("heads: 2", "heads: 16", "RC150"),
        ("layers: 1", "layers: 100000000", "RC720"),
    ],
)
def test_a_new_model_that_cannot_be_built(folder, was, now, code):
    """Sizes that do not divide, or that no memory here could hold, are refused before anything is allocated."""
    ended = folder.run(SFT.replace(was, now), a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, code)
