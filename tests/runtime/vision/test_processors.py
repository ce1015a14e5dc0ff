"""How images are prepared, as a model's folder says it."""

import json

import pytest
from support.images import build, noise

from recipec.runtime.model.origin import Origin
from recipec.spec import policy as specs


@pytest.mark.parametrize("family", ["qwen2_vl", "idefics3"])
def test_a_description_inside_the_joint_one_is_read(tmp_path, family):
    """A folder that describes its image processor only within that of text and images prepares images alike."""
    policy = build(tmp_path, family)
    policy.save(tmp_path / "model")
    own, joint = (tmp_path / "model" / name for name in ("preprocessor_config.json", "processor_config.json"))
    joint.write_text(json.dumps({**json.loads(joint.read_text()), "image_processor": json.loads(own.read_text())}))
    own.unlink()
    again = build(tmp_path, origin=Origin("directory", "model"))
    assert again.picture(noise(0), "a").digest == policy.picture(noise(0), "a").digest


@pytest.mark.parametrize("split", [False, True])
def test_a_knob_of_the_recipe_comes_before_the_folder(tmp_path, split):
    """Tiles that the recipe wants, or does not, are read whatever the model was saved with."""
    build(tmp_path, "idefics3", image=specs.Images(split=not split)).save(tmp_path / "model")
    again = build(tmp_path, origin=Origin("directory", "model"), image=specs.Images(split=split))
    assert again.processor.do_image_splitting is split
