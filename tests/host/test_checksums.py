"""Hashes of the files that a run writes into a folder one by one."""

import hashlib
import shutil
import subprocess

import pytest

from recipec.host import checksums
from recipec.host.checksums import SUMS, check, damaged, write_with_sum


def test_what_was_written_is_as_sha256sum_reads_it(tmp_path):
    """One line a file, once where a step writes the same bits again; ``sha256sum`` finds every file right."""
    for name, content in [("a.jsonl", "ü\n"), ("b.json", b"\xff"), ("a.jsonl", "ü\n")]:
        write_with_sum(tmp_path / name, content)
    lines = (tmp_path / SUMS).read_text().splitlines()
    assert lines[0] == f"{hashlib.sha256('ü'.encode() + bytes([10])).hexdigest()}  a.jsonl"
    assert len(lines) == 2
    command = [str(shutil.which("sha256sum")), "-c", SUMS]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert damaged(tmp_path) == []


def test_files_that_are_altered_or_missing_are_named(tmp_path):
    """Those of folders below too; files without a hash are not looked at."""
    for name in ("a", "b", "images/c", "d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_with_sum(tmp_path / name, name)
    (tmp_path / "a").write_text("A")
    (tmp_path / "images/c").unlink()
    (tmp_path / "d").unlink()
    (tmp_path / "d").mkdir()
    (tmp_path / "e").write_text("of a version without hashes")
    assert damaged(tmp_path) == ["a", "d", "images/c"]
    check(tmp_path / "b")
    check(tmp_path / "e")
    with pytest.raises(ValueError, match="differs from its hash"):
        check(tmp_path / "a")


def test_a_write_that_ends_between_hash_and_file_alters_nothing(tmp_path, monkeypatch):
    """The file before is still as it was written, and so is the next one."""
    write_with_sum(tmp_path / "a", "before")
    whole = checksums.write_atomic

    def killed(path, content):
        if path.name == "a":
            raise KeyboardInterrupt
        whole(path, content)

    monkeypatch.setattr(checksums, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        write_with_sum(tmp_path / "a", "after")
    check(tmp_path / "a")
    monkeypatch.undo()
    write_with_sum(tmp_path / "a", "after")
    check(tmp_path / "a")


@pytest.mark.parametrize("text", ["", "no hash\n", "0  ../../outside\n", "\x00\n", "a" * 64])
def test_other_things_in_the_file_of_hashes(tmp_path, text):
    """Lines that are no hashes are of no file, never of one outside; what is written afterwards has its line."""
    (tmp_path / SUMS).write_text(text)
    write_with_sum(tmp_path / "a", "a")
    assert damaged(tmp_path) == []
    (tmp_path / "a").write_text("b")
    assert damaged(tmp_path) == ["a"]
