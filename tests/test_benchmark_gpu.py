"""The GPU check at the size of a test, on a CPU: figures, skips, resumption, and what a wrong number stops."""

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gpu
import gpu_place
import gpu_proofs


def test_parts_that_measure_give_figures(tmp_path):
    """Steps run through a recipe; what only a GPU has is not a number, and is left out of the table."""
    steps = gpu.result_of("adapter steps", tmp_path, toy=True)
    assert steps["figures"]["step, s"] >= steps["figures"]["rollout, s"] > 0
    assert math.isnan(steps["figures"]["GiB"])
    assert "GiB" not in gpu.text(steps)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile:UserWarning")
def test_the_other_parts_run_here(tmp_path):
    """Kernels, models and shards are compared on a CPU too; what it cannot run is skipped with the reason."""
    found = {name: gpu.result_of(name, tmp_path, toy=True) for name, part in gpu.PARTS.items() if part.proves}
    assert all(found[name]["state"] == "done" for name in ("flash", "models", "shards"))
    assert found["shards"]["figures"]["fsdp: largest difference"] < 1e-6
    assert found["nf4"]["state"] == "skipped"
    updates = gpu.result_of("updates", tmp_path, toy=True)
    assert updates["figures"]["0.6B: tokens per second"] > 0
    assert gpu.result_of("prefixes", tmp_path, toy=True)["figures"]["ideal"] > 1


def main(monkeypatch, *arguments) -> int:
    """Run the command; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--toy", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    return ended.value.code


def test_results_are_kept_and_proofs_come_first(tmp_path, monkeypatch):
    """A part with a result is not run again; nothing is measured once a proof is wrong; the page has the table."""
    page, ran = tmp_path / "page.md", []
    page.write_text(f"before\n{gpu.BEGIN}\nold\n{gpu.END}\nafter\n")
    states = {"flash": {"state": "done", "figures": {"error": 1.0}}, "models": {"state": "wrong", "why": "2 is not 1"}}

    def apart(name, *_args, **_keys):
        ran.append(name)
        return states[name]

    monkeypatch.setattr(gpu, "run_apart", apart)
    given = ("--out", tmp_path / "out", "--write", page, "--parts", "updates", "models", "flash")
    assert main(monkeypatch, *given) == main(monkeypatch, *given) == 1
    assert ran == ["flash", "models", "models"]
    assert "| models | 1e-4 in float32; 1.15 in bfloat16 | wrong: 2 is not 1 |" in page.read_text()
    assert page.read_text().endswith(f"{gpu.END}\nafter\n")
    assert set(json.loads((tmp_path / "out" / "results.json").read_text())) == {"flash", "models"}


def test_a_wrong_number_is_a_result(tmp_path, monkeypatch):
    """A proof that fails says what is wrong; it is no crash."""
    monkeypatch.setattr(gpu_proofs, "EXACT", -1.0)
    found = gpu.result_of("models", tmp_path, toy=True)
    assert found["state"] == "wrong"
    assert "prefix tree and dense rows" in found["why"]


def test_rows_have_the_length_that_is_measured(tmp_path):
    """Prompt, answer and the end of the text make a row of the length that tokens per second are counted with."""
    place = gpu_place.Place("cpu", tmp_path, toy=True)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place.model("small"))
    gpu_place.write_rows(tmp_path / "rows.jsonl", 1, 1, 30, 96)
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    assert len(tokenizer(row["prompt"] + row["completion"]).input_ids) + 1 == 32


def test_without_a_gpu_nothing_is_run(monkeypatch, capsys):
    """It prints a note, and writes no page."""
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    gpu.main()
    assert capsys.readouterr().out.startswith("no GPU")
    assert all(line.endswith("| not run |") for line in gpu.table({})[4:])
