"""How images are prepared, as a model's folder says it."""

import json

import pytest
from sights import build, noise

from recipec.runtime.policy import Origin
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


def test_a_knob_of_the_recipe_comes_before_the_folder(tmp_path):
    """An area that the recipe names holds for a model that was saved with another one."""
    build(tmp_path).save(tmp_path / "model")
    origin = Origin("directory", "model")
    counts = [
        len(build(tmp_path, origin=origin, image=image).picture(noise(0), "a").tokens)
        for image in (specs.Images(), specs.Images(max_pixels=128))
    ]
    assert counts == [6 + 2, 1 + 2]
