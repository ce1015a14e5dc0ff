"""Runs about pictures that were killed end with the bits of one that was not."""

import pytest
from support.small_recipes import SEEING
from test_image_runs import AFTER, COLOURS, EXPLORE, ROWS, painted
from test_resume import left, run, said

from recipec.runtime.vision.vision_lm import VisionLm

NEEDED = VisionLm  # children are forked: what they need is imported once, here


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with a recipe, its pictures, a run that nobody disturbed, and its events."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "pictures").mkdir()
    for name, colour in COLOURS.items():
        (folder / "pictures" / f"{name}.png").write_bytes(painted(colour))
    recipe = SEEING.replace("rows_per_step: 2", "rows_per_step: 2, save_every: 1") + EXPLORE + AFTER
    (folder / "r.yaml").write_text(recipe.replace("passes: 2", "passes: 2, save_every: 1"))
    (folder / "a.jsonl").write_text(ROWS)
    assert run(folder / "whole") == 0, said(folder / "whole")
    return folder, int((folder / "events").read_text())


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_killed_at_any_moment_it_continues_to_the_same_bits(home, share):
    """Rows, pictures beside them, metrics and weights are those of a run that was not killed."""
    folder, events = home
    out = folder / f"killed-{share}"
    assert run(out, int(share * events)) < 0
    assert run(out) == 0, said(out)
    assert left(out) == left(folder / "whole")
