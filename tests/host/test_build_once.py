"""What is built once for a key: by one process at a time, whole or not at all, and again where it is damaged."""

import threading
import time
from pathlib import Path

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.host.build_once import build_once


def read(path: Path) -> str | None:
    """Read a file that ends in a full stop; others are damaged."""
    text = path.read_text() if path.is_file() else ""
    return text if text.endswith(".") else None


def test_built_for_the_first_and_read_from_then_on(tmp_path: Path) -> None:
    """The second caller does not build."""
    final = tmp_path / "kind" / "key"
    assert build_once(final, read, lambda path: path.write_text("whole.")) == "whole."
    assert build_once(final, read, lambda path: path.unlink()) == "whole."


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_damaged_is_replaced(tmp_path: Path, folder: bool) -> None:
    """Whatever has the name and cannot be read is built again."""
    final = tmp_path / "kind" / "key"
    final.parent.mkdir()
    if folder:
        (final / "deep").mkdir(parents=True)
    else:
        final.write_text("half")
    assert build_once(final, read, lambda path: path.write_text("whole.")) == "whole."
    assert [path.name for path in final.parent.iterdir()] == ["key"]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    """An exception of the builder passes through, and the next caller builds."""
    final = tmp_path / "kind" / "key"

    def fail(path: Path) -> None:
        path.mkdir()
        (path / "part").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        build_once(final, read, fail)
    assert list(final.parent.iterdir()) == []
    assert build_once(final, read, lambda path: path.write_text("whole.")) == "whole."


def test_callers_wait_for_the_first(tmp_path: Path) -> None:
    """Several callers at the same time build once."""
    built = []

    def build(path: Path) -> None:
        built.append(path)
        time.sleep(0.1)
        path.write_text("whole.")

    callers = [threading.Thread(target=build_once, args=(tmp_path / "kind" / "key", read, build)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(built) == 1


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """RC761 names the path."""
    (tmp_path / "kind").write_text("a file where the folder should be")
    with pytest.raises(RecipeError) as refused:
        build_once(tmp_path / "kind" / "key", read, lambda path: path.write_text("whole."))
    assert refused.value.diagnostics[0].code == "RC761"
