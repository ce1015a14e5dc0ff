"""Prove on one GPU that the numbers are right, then measure there.

    make gpu-check                                     # all parts, and the table of docs/benchmarks.md
    python benchmarks/gpu.py --parts flash updates     # some parts
    python benchmarks/gpu.py --toy                     # the same code at the size of a test, on a CPU too

Each part is a process of its own and ends after --minutes.  Its result is kept in --out, and the part is not run again
there; delete the file to do so.  Proofs come first: where one fails, nothing is measured, and the exit code is 1.
A part that this machine cannot run is skipped, and the table says why.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pages import write_between

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "gpu")]
BEGIN, END = "<!-- make gpu-check -->", "<!-- end of make gpu-check -->"


@dataclass(frozen=True)
class Part:
    """A function of one of the modules of ``gpu/``, and what is to be reached."""

    function: str
    goal: str

    @property
    def proves(self) -> bool:
        """Whether it compares numbers, and nothing is measured where they are wrong."""
        return self.function.startswith("gpu_proofs:")

    def load(self) -> Callable:
        """Import the function."""
        import importlib

        module, _, name = self.function.partition(":")
        found: Callable = getattr(importlib.import_module(module), name)
        return found


PARTS = {
    "flash": Part("gpu_proofs:kernels", "errors at most twice those of plain bfloat16 products"),
    "models": Part("gpu_proofs:models", "1e-4 in float32; 1.15 in bfloat16"),
    "nf4": Part("gpu_proofs:narrow", "0.02 nats"),
    "vllm": Part("gpu_proofs:sampler", "below the bounds of RC787"),
    "shards": Part("gpu_proofs:shards", "1e-4 after 3 updates"),
    "updates": Part(
        "gpu_measures:updates", "S1, H100: 11.9k tokens per second, 11.1 %, 12.5 GiB; 6.23k, 21.7 %, 23.3 GiB"
    ),
    "prefixes": Part("gpu_measures:prefixes", "S2, 8 H100, 8B: 1.63 to 2.09 times"),
    "steps": Part("gpu_measures:steps", "S3: 0.8 of TRL's step; S5: 0.2 s; S6: 8 % of a step; S8: 0.015 nats"),
    "adapter steps": Part("gpu_measures:adapter_steps", "S5: 0.1 s"),
}


def result_of(name: str, out: Path, *, toy: bool) -> dict:
    """Run a part in this process; return its figures, or why there are none."""
    import torch
    from gpu_place import Place, SkipError, WrongError

    place = Place("cuda" if torch.cuda.is_available() else "cpu", out.absolute(), toy)
    began = time.monotonic()
    try:
        found = {"state": "done", "figures": PARTS[name].load()(place)}
    except SkipError as why:
        found = {"state": "skipped", "why": str(why)}
    except WrongError as why:
        found = {"state": "wrong", "why": str(why)}
    device = torch.cuda.get_device_name() if place.gpu else "CPU"
    return {**found, "seconds": time.monotonic() - began, "device": device, "torch": torch.__version__, "toy": toy}


def run_apart(name: str, out: Path, minutes: float, *, toy: bool) -> dict:
    """Run a part in a process of its own, at most for some minutes."""
    answer = out / f"{name}.part.json".replace(" ", "-")
    command = [sys.executable, __file__, "--part", name, "--out", str(out), "--answer", str(answer)]
    try:
        done = subprocess.run(
            command + ["--toy"] * toy, timeout=60 * minutes, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return {"state": "failed", "why": f"not done after {minutes:g} minutes"}
    if done.returncode or not answer.exists():
        return {"state": "failed", "why": (done.stderr.strip().splitlines() or ["no answer"])[-1][:300]}
    found: dict = json.loads(answer.read_text())
    answer.unlink()
    return found


def table(found: dict[str, dict]) -> list[str]:
    """Return the results as lines of Markdown."""
    devices = sorted({f"{one['device']}, torch {one['torch']}" for one in found.values() if "device" in one})
    lines = [f"{'; '.join(devices) or 'Not run on a GPU yet'}.", "", "| part | goal | result |", "|---|---|---|"]
    return [*lines, *(f"| {name} | {part.goal} | {text(found.get(name))} |" for name, part in PARTS.items())]


def text(result: dict | None) -> str:
    """Return a result as the text of a cell.

    >>> text({"state": "done", "figures": {"step, s": 1.25, "GiB": math.nan}}), text(None)
    ('step, s: 1.25', 'not run')
    """
    if result is None:
        return "not run"
    if result["state"] != "done":
        return f"{result['state']}: {result['why']}"
    return "; ".join(f"{name}: {value:.3g}" for name, value in result["figures"].items() if not math.isnan(value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--write", type=Path, help="the page that has the table")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        options.answer.write_text(json.dumps(result_of(options.part, options.out, toy=options.toy)))
        return
    import torch

    if not (options.toy or torch.cuda.is_available()):
        print("no GPU: nothing was run; --toy runs the same code at the size of a test")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    found: dict[str, dict] = json.loads(path.read_text()) if path.exists() else {}
    for name in sorted(options.parts, key=list(PARTS).index):
        proofs = [one for other, one in found.items() if PARTS[other].proves]
        if not PARTS[name].proves and any(one["state"] in {"wrong", "failed"} for one in proofs):
            print(f"{name}: not measured, since a proof failed")
            continue
        if found.get(name, {}).get("state") not in {"done", "skipped"}:
            found[name] = run_apart(name, options.out, options.minutes, toy=options.toy)
            path.write_text(json.dumps(found, indent=1))
        print(f"{name}: {text(found[name])}", flush=True)
    lines = table(found)
    print("\n".join(lines))
    if options.write:
        write_between(options.write, BEGIN, END, lines)
    sys.exit(1 if any(one["state"] in {"wrong", "failed"} for one in found.values()) else 0)


if __name__ == "__main__":
    main()
