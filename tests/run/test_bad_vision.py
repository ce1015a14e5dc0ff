"""Models that see under the wrong policy, and machines without four bits: each ends in a code before training."""

import json

import pytest
from support.small_recipes import ROWS, SFT

SEEING = """\
    from: scratch
    policy:
      type: vision_lm
      scratch: {hidden_size: 24, layers: 1, heads: 2, image_size: 16, vision_layers: 1, vision_heads: 2}
"""
SEES = SFT[: SFT.index("    from:")] + SEEING + SFT[SFT.index("    data:") :]


def other(policy):
    """Return the recipe over a directory, under a type of policy."""
    return SFT[: SFT.index("    from:")] + f"    from: ./model\n    policy: {policy}\n" + SFT[SFT.index("    data:") :]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a text model and of one that sees."""
    from recipec.runtime.model import scratch
    from recipec.runtime.vision import scratch as scratch_vision
    from recipec.spec.policy import Scratch, VisionScratch

    home = tmp_path_factory.mktemp("models")
    tokenizer = scratch.characters()
    scratch.build_model(Scratch(hidden_size=16, layers=1, heads=2), tokenizer).save_pretrained(home / "text")
    tokenizer.save_pretrained(home / "text")
    spec = VisionScratch(hidden_size=24, layers=1, heads=2, image_size=16, vision_layers=1)
    tokenizer = scratch_vision.with_marks(scratch.characters(), "qwen2_vl")
    scratch_vision.build_model(spec, tokenizer).save_pretrained(home / "image")
    tokenizer.save_pretrained(home / "image")
    return home


@pytest.mark.parametrize(
    ("kind", "policy", "code"),
    [
        ("image", "{type: causal_lm}", "RC850"),
        ("text", "{type: vision_lm}", "RC850"),
        ("image", "{type: vision_lm}", "RC854"),
    ],
)
def test_the_other_kind_of_model(folder, models, kind, policy, code):
    """A text model does not see, one that sees is no text model, and one without its image processor is not guessed."""
    (folder.path / "model").symlink_to(models / kind)
    ended = folder.run(other(policy), a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, code)
    assert "model" in ended.err


def test_an_unknown_family(folder, models):
    """A family whose images are unknown is refused with those that are known."""
    folder.path.joinpath("model").mkdir()
    config = json.loads((models / "image" / "config.json").read_text()) | {"model_type": "llava"}
    (folder.path / "model" / "config.json").write_text(json.dumps(config))
    ended = folder.run(other("{type: vision_lm}"), a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC853")
    assert "smolvlm" in ended.err


def test_sizes_that_do_not_fit(folder):
    """A new model whose encoder cannot be cut into heads is refused as a decoder is."""
    ended = folder.run(SEES.replace("vision_heads: 2", "vision_heads: 5"), a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC720")


def test_four_bits_need_a_gpu(folder, monkeypatch):
    """Four-bit weights are valid and planned anywhere; without a GPU a run refuses them before a model loads."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    four_bits = SEES.replace("type: vision_lm", "type: vision_lm\n      quantization: nf4\n      lora: {r: 2}")
    folder.write(r__yaml=four_bits, a__jsonl=ROWS)
    assert folder.call("validate", "r.yaml").code == 0
    ended = folder.call("run", "r.yaml")
    assert (ended.code, ended.first) == (1, "RC511")
    assert "r.yaml:9:" in ended.err


def test_narrow_weights_and_moments_of_text_need_a_gpu(folder, monkeypatch):
    """So do those of a text model, and an optimizer's moments of eight bits."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    eight = SFT.replace("type: causal_lm", "type: causal_lm\n      quantization: int8\n      lora: {r: 2}")
    folder.write(r__yaml=eight, a__jsonl=ROWS)
    assert folder.call("validate", "r.yaml").code == 0
    ended = folder.call("run", "r.yaml")
    assert (ended.code, ended.first) == (1, "RC511")
    ended = folder.run(SFT.replace("{learning_rate", "{moments: paged_int8, learning_rate"), a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC511")
    assert "optimizer.moments" in ended.err


def test_areas_in_order(folder):
    """A least area above the largest one is an error of reading."""
    ended = folder.run(
        SEES.replace("vision_lm", "vision_lm\n      image: {min_pixels: 9, max_pixels: 4}"), a__jsonl=ROWS
    )
    assert ended.code == 1
    assert "min_pixels 9 is more than max_pixels 4" in ended.err
