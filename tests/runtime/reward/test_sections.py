"""The reward for the sections of a reasoned answer."""

import pytest
import torch

from recipec.runtime.reward.sections import present, sections
from recipec.spec.reward import Sections

ASKED = ("Color and Pigmentation", "Texture and Surface Characteristics", "Shape and Border")
WHOLE = """\
1. **Color and Pigmentation:** brown
2. **Texture and surface
characteristics:** rough
3. Shape and Border: even"""


def reward(text: str, **more: object) -> float:
    """Score one completion with the published values."""
    spec = Sections(sections=ASKED, **more)
    return float(sections([], torch.zeros(1), [text], **spec.params() | {"sections": spec.sections})["reward_R"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"<thinking>{WHOLE}</thinking><answer>melanoma</answer>", 1.0),
        (f"\n<thinking>{WHOLE}</thinking>\n\n<answer> melanoma </answer>\n", 1.0),
        (f"<thinking>{WHOLE}</thinking> so <answer>melanoma</answer>", 0.8),
        ("<thinking>Shape and Border: even</thinking><answer>melanoma</answer>", 0.8),
        ("<thinking>none of it</thinking>, <answer>melanoma</answer>", 0.5),
        (f"<thinking>{WHOLE}<answer>melanoma</thinking>rosacea</answer>", -0.5),
        (f"Well. <thinking>{WHOLE}</thinking><answer>melanoma</answer>", -0.5),
        (f"<thinking>{WHOLE}</thinking><answer>melanoma</answer> or so", -0.5),
        (f"<thinking>{WHOLE}</thinking><answer></answer>", -0.5),
        ("<thinking> </thinking><answer>melanoma</answer>", -0.5),
        (f"<answer>melanoma</answer><thinking>{WHOLE}</thinking>", -0.5),
        (f"<thinking>{WHOLE}</thinking><answer>a</answer><answer>b</answer>", -0.5),
        (f"<thinking>{WHOLE}</thinking><answer>melanoma", -0.5),
        ("melanoma", -0.5),
        ("", -0.5),
    ],
)
def test_published_values(text, value):
    """0.5 for the shape, 0.2 for nothing between, 0.3 for all sections or their share; -0.5 for any other shape."""
    assert reward(text) == pytest.approx(value)


def test_values_are_knobs():
    """Every value and both tags can be set; without sections none is missing."""
    text = "<t>why</t> <a>x</a>"
    spec = Sections(reasoning="t", answer="a", well_formed=1, nothing_between=10, complete=100, malformed=-1000)
    scored = sections([], torch.zeros(2), [text, "x"], **spec.params() | {"sections": ()})["reward_R"]
    assert scored.tolist() == [111.0, -1000.0]


def test_names_alone_are_not_content():
    """With `filled` a section counts by what stands under its name, so that naming them all earns nothing."""
    names = "\n".join(f"{i}. **{name}:**" for i, name in enumerate(ASKED, 1))
    assert reward(f"<thinking>{names}</thinking><answer>x</answer>") == pytest.approx(1.0)
    assert reward(f"<thinking>{names}</thinking><answer>x</answer>", filled=True) == pytest.approx(0.7)
    assert reward(f"<thinking>{WHOLE}</thinking><answer>x</answer>", filled=True) == pytest.approx(1.0)
    assert present("Shape and Border even, Color and Pigmentation", ASKED, filled=True) == ["Shape and Border"]
