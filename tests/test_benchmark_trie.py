"""The benchmarks of shared prefixes at a tiny size: counts, comparisons, refusals and written pages."""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from recipec.runtime.attention.kernels import varlen
from recipec.runtime.model.given_model import GivenModel

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import trie as bench
import trie_auto
import trie_cases
import trie_cut
import trie_gpu
import trie_peer
import trie_update

TINY = argparse.Namespace(hidden=32, layers=2, repeats=1, small=True, cases=[], write=None)


def policy(folder: Path) -> GivenModel:
    """Build the benchmark's model, small."""
    torch.manual_seed(0)
    return GivenModel(LlamaForCausalLM(bench.config_of(TINY)).train(), folder)


def rows(name: str) -> list[trie_cases.Row]:
    """Draw the rows of a small case."""
    return trie_cases.SMALL[name](trie_cases.Text(np.random.default_rng(0), bench.VOCABULARY))


def test_cases_are_those_of_the_published_sizes(tmp_path):
    """Tokens of rows and of their prefix trees, without the last token of a row, which is not read."""
    text = trie_cases.Text(np.random.default_rng(0), bench.VOCABULARY)
    expected = {
        "GRPO 2048/128": (17408, 3072),
        "Tree-GRPO": (15360, 9984),
        "steps": (7440, 1640),
        "DPO": (5120, 3072),
        "binary tree, 32": (13312, 2240),
        "binary tree, 8": (9472, 752),
    }
    for name, (dense, shared) in expected.items():
        (make,) = (make for case, make in trie_cases.CASES.items() if case.startswith(name))
        made = make(text)
        merged = bench.prefix_tree.build(
            trie_cases.batch_of(made)["tokens_RT"].numpy(), np.array([len(row.ids) for row in made])
        )
        assert (merged.dense_tokens, merged.size) == (dense, shared), name


def test_operations_made_are_those_that_are_needed(tmp_path):
    """A pass over a prefix tree executes little more than it needs (masked pairs in squares); dense needs more."""
    found = bench.counted(policy(tmp_path), trie_cases.batch_of(rows("tree")))
    assert found["ideal"] > 1.3
    assert 1.0 <= found["executed"] < 1.1


@pytest.mark.parametrize("case", trie_cases.SMALL)
def test_all_sides_compute_the_same(case, tmp_path):
    """The prefix tree and, if installed, both variants of the peer give the dense log-probabilities and gradients."""
    trie_peer.register()
    made = rows(case)
    seconds, off = bench.measure(policy(tmp_path), made, trie_cases.batch_of(made), 1)
    assert {"dense", "trie"} <= seconds.keys()
    assert ("pg" in seconds) == trie_peer.HERE
    for name, (logprob, gradient) in off.items():
        assert logprob < 1e-5, name
        assert gradient < 1e-5, name


def test_the_compiled_update_is_the_naive_one(monkeypatch, tmp_path):
    """Whole updates are compared by their gradients, with a reference and without one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _, _, *lines = trie_update.lines(TINY)
    assert len(lines) == 2
    for line in lines:
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        ideal, error = float(cells[1]), float(cells[-1])
        assert ideal > 1.5
        assert error < 1e-5
        assert 1.0 <= float(cells[-2]) < 1.2


def test_the_table_is_written_between_its_markers(tmp_path, monkeypatch, capsys):
    """The text around the markers stays, and a page without markers is refused."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{bench.BEGIN}\nold\n{bench.END}\n\nafter\n", "utf-8")
    monkeypatch.setattr(bench, "report", lambda _: iter(["| new |"]))
    monkeypatch.setattr(sys, "argv", ["trie.py", "--write", str(page)])
    bench.main()
    assert page.read_text("utf-8") == f"before\n\n{bench.BEGIN}\n\n| new |\n\n{bench.END}\n\nafter\n"
    page.write_text("no marks", "utf-8")
    with pytest.raises(SystemExit):
        bench.main()
    assert page.read_text("utf-8") == "no marks"


def test_single_figures(tmp_path):
    """Bytes, building, bf16 and coverage; a micro-batch of one row is reported to keep less than all rows."""
    text = "\n".join(bench.single(policy(tmp_path), TINY))
    dense, shared, ratio = map(float, re.search(r"([\d.]+) MB / ([\d.]+) MB = ([\d.]+)", text).groups())
    assert ratio > 1.2
    assert dense >= shared
    assert "one dense row at a time" in text
    assert 0.5 < float(re.search(r"both against float32 \| ([\d.]+)", text)[1]) < 1.5
    assert re.search(r"certified equal \(`docs/attention.md`\) \| \d+ of \d+", text)


def test_without_a_gpu_nothing_is_measured(monkeypatch, capsys):
    """It prints a note and measures nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["trie_gpu.py"])
    trie_gpu.main()
    assert capsys.readouterr().out == "no GPU: not measured\n"
    assert all("not measured" in line for line in trie_gpu.table({}, "no GPU")[4:])


def test_the_gpu_rows_are_made(tmp_path):
    """The same code runs on a CPU at a tiny size, and every line has a figure."""
    found = dict(trie_gpu.figures(trie_gpu.Bench("cpu", trie_gpu.TINY, tmp_path)))
    assert found.keys() >= trie_gpu.GOALS.keys()
    assert "efficiency" in found["G1"]
    assert not any("not measured" in line for line in trie_gpu.table(found, "here"))


def test_a_prefix_tree_that_differs_is_not_timed(tmp_path, monkeypatch):
    """A wrong kernel ends the benchmark before anything is timed."""
    attend = varlen.attend
    monkeypatch.setattr(varlen, "attend", lambda *args: attend(*args) * 1.1)
    with pytest.raises(SystemExit, match="differs"):
        list(trie_gpu.figures(trie_gpu.Bench("cpu", trie_gpu.TINY, tmp_path)))


def test_cut_trees_compute_each_token_once(tmp_path):
    """In the same passes, only those that do not hand prefixes over compute more tokens than one pass."""
    model = policy(tmp_path)
    bench.bind(model, bench.attention(model, "trie"))
    batch = trie_cases.batch_of(rows("tree"))
    found = trie_cut.measure(model, batch, [1000, 40], 1)
    whole, again, handed = (found[key] for key in ((1000, False), (40, False), (40, True)))
    assert (whole["passes"], again["passes"]) == (1, handed["passes"])
    assert handed["tokens"] == whole["tokens"] < again["tokens"]
    assert handed["operations"] < again["operations"]
    assert handed["bytes"] < whole["bytes"]
    assert (handed["gradient"] - whole["gradient"]).norm() < 1e-5 * whole["gradient"].norm()


def test_the_choice_of_auto_is_compared_with_every_attention(monkeypatch):
    """Each line has the times of all three, the choice, and by how much it is slower than the fastest."""
    shared = {"GRPO 24/6, G 3": trie_cases.SMALL["GRPO 24/6, G 3"]}
    monkeypatch.setattr(trie_auto, "CASES", shared)
    _, _, line = trie_auto.lines(argparse.Namespace(only="0.1M", repeats=1))
    size, case, ideal, *times, fastest, chosen, slower = line.strip("| ").split(" | ")
    assert (size, case, chosen) == ("0.1M", "GRPO 24/6, G 3", "trie")
    assert float(ideal.removesuffix("x")) > 1.1
    least = dict(zip(trie_auto.NAMES, map(float, times), strict=True))
    assert least[fastest] == min(least.values())
    assert float(slower.removesuffix("%")) == pytest.approx(100 * least[chosen] / least[fastest] - 100, abs=8)
