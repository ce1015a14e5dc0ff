"""Compare every figure of a plan with a run: tokens, operations, time, peak memory, disk.

    python benchmarks/planned.py [--only NAME ...] [--json FILE]

New models are trained on rows of full length, on one thread of a CPU, for ten steps.  The first step warms up; of the
others the median is timed, by the CPU time of this process; in the last one operations are counted.
Times are planned with the rates that `recipec check` measures, once for all cases.
Memory is what the process has allocated at its peak, sampled every few milliseconds, and compared where a plan has at
least 200 MB: the first run in a process also loads libraries.  The resident set is printed next to it: it also has
freed memory that the allocator keeps.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STEPS = 10
FIGURES = {
    "tokens update": 0.03, "flops rollout": 0.03, "flops update": 0.03, "seconds rollout": 0.3, "seconds update": 0.3,
    "memory": 0.15, "resident": 0.15, "disk": 0.05,
}  # fmt: skip
"""What is compared, and by what share a plan may be off."""
LEAST = {"memory": 200e6, "resident": 200e6}
REWARD = "def spread(completions, **_):\n    return [float(i % 7) for i in range(len(completions))]\n"
HEAD = """\
recipec: 1
name: planned
{use}stages:
  learn:
    kind: {kind}
    from: scratch
    policy:
      dtype: {dtype}{lora}
      scratch: {{hidden_size: {hidden}, layers: {layers}, heads: {heads}, kv_heads: {heads}, architecture: {family},
                intermediate_size: {inner}, tokenizer: bytes, max_positions: {positions}, tie_embeddings: false}}
    attention: {{type: {attention}}}
    optimizer: {{learning_rate: 1.0e-5}}
"""
SFT = """\
    data: {{path: ./rows.jsonl, max_length: {positions}}}
    budget: {{steps: {steps}, rows_per_step: {rows}, microbatch_tokens: {tokens}}}
"""
DPO = """\
    preference: {{type: pair_files, path: ./rows.jsonl}}
    data: {{max_length: {positions}}}
    budget: {{steps: {steps}, pairs_per_step: {rows}, microbatch_tokens: {tokens}}}
"""
RL = """\
    data: {{path: ./rows.jsonl, max_length: {prompt}}}
    sampler: {{num_generations: {group}, max_completion_length: {completion}, min_completion_length: {least}}}
    reward: {{spread: {{type: function, name: spread}}}}
    advantage: {{group: {{type: group_relative}}}}
    loss: {{type: clipped, beta: {beta}}}
    budget: {{steps: {steps}, prompts_per_step: {rows}, microbatch_tokens: {tokens}}}
"""
BASE = {
    "kind": "sft", "dtype": "float32", "lora": "", "hidden": 256, "layers": 4, "heads": 4, "family": "llama",
    "positions": 256, "rows": 8, "tokens": 2048, "attention": "packed", "group": 4, "completion": 64, "beta": 0.0,
    "engine": "",
}  # fmt: skip
SIZES = {"0.1M": (64, 2), "0.8M": (128, 4), "3M": (256, 4), "18M": (512, 6)}
ADAPTER = "\n      lora: {r: 16}"


def cases() -> dict[str, dict[str, Any]]:
    """Return the table: name to values of the recipe."""
    found: dict[str, dict[str, Any]] = {}
    for size, (hidden, layers) in SIZES.items():
        model = {"hidden": hidden, "layers": layers, "heads": hidden // 32}
        few = {"rows": 4, "tokens": 1024} if size == "18M" else {}
        found[f"sft {size}"] = {**model, **few}
        found[f"sft {size}, dense"] = {**model, **few, "attention": "dense"}
        found[f"sft {size}, adapter"] = {**model, **few, "lora": ADAPTER}
        found[f"grpo {size}"] = {**model, "kind": "rl", "rows": 2 if few else 4, "attention": "auto"}
        found[f"grpo {size}, KL"] = {**model, "kind": "rl", "rows": 2 if few else 4, "beta": 0.04, "attention": "auto"}
        found[f"grpo {size}, long prompts"] = {
            **model, "kind": "rl", "rows": 2, "group": 8, "positions": 512, "completion": 32, "attention": "trie",
        }  # fmt: skip
    found["sft 3M, bfloat16"] = {"dtype": "bfloat16"}
    found["sft 3M, small micro-batches"] = {"tokens": 256}
    found["sft 3M, checkpointing"] = {"engine": "machine: {train: {type: local, gradient_checkpointing: true}}\n"}
    found["sft 3M, gpt2"] = {"family": "gpt2"}
    return found


def recipe(values: dict[str, Any]) -> str:
    """Return the text of a case's recipe."""
    full = {**BASE, "steps": STEPS, **values}
    full["inner"] = int(full["hidden"]) * (4 if full["family"] == "gpt2" else 3)
    full["prompt"] = int(full["positions"]) - int(full["completion"])
    full["least"] = int(full["completion"]) - 1
    full["use"] = "use: [./spread.py]\n" if full["kind"] == "rl" else ""
    body = {"sft": SFT, "rl": RL, "dpo": DPO}[str(full["kind"])]
    text = (HEAD + body).format(**full) + str(full["engine"])
    return text.replace(", kv_heads: " + str(full["heads"]), "") if full["family"] == "gpt2" else text


def write(folder: Path, values: dict[str, Any]) -> None:
    """Write a case's recipe and rows: every row is as long as the recipe allows."""
    full = {**BASE, **values}
    length, completion = int(full["positions"]), int(full["completion"])
    if full["kind"] == "rl":
        rows = [{"prompt": "abcdefgh"[i % 8] + "q" * (length - completion - 1)} for i in range(64)]
    else:
        rows = [{"prompt": "q", "completion": "a" * (length - 2)} for _ in range(64)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "spread.py").write_text(REWARD)
    (folder / "r.yaml").write_text(recipe(values))


def resident(key: str) -> float:
    """Return the resident set of this process, or its peak, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024.0 * int(lines[key].split()[0])


class _Allocator(ctypes.Structure):
    """What ``mallinfo2`` of glibc returns."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names.split())


class Allocated(threading.Thread):
    """The most bytes that this process has allocated, from ``start`` to ``stop``, more than at the start."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.allocator = ctypes.CDLL(None)
        self.allocator.mallinfo2.restype = _Allocator
        self.begin = self.most = self.now()

    def now(self) -> float:
        """Return the bytes that are allocated."""
        found = self.allocator.mallinfo2()
        return float(found.uordblks + found.hblkhd)

    def run(self) -> None:
        """Look every three milliseconds."""
        while not self.done.wait(0.003):
            self.most = max(self.most, self.now())

    def stop(self) -> float:
        """Return the growth at the peak."""
        self.done.set()
        self.join()
        return self.most - self.begin


def counted(name: str, call: Callable[..., Any], steps: list[Any], found: dict[str, float]) -> Callable[..., Any]:
    """Count the operations of a call in the last step."""
    from recipec.runtime.attention.flops import counting

    def wrapped(*given: Any, **named: Any) -> Any:
        if len(steps) != STEPS - 1:
            return call(*given, **named)
        with counting() as counter:
            made = call(*given, **named)
        found[f"flops {name}"] = float(counter.get_total_flops())
        return made

    return wrapped


def measured(folder: Path, values: dict[str, Any]) -> dict[str, float]:
    """Run a case in this process; return what was there."""
    import recipec
    from recipec.runtime.stage import loop

    found: dict[str, float] = {}
    steps: list[dict[str, float]] = []
    kept = loop.one_step, loop.group_filter.run, loop.run_updates, loop.time

    def one_step(*given: Any) -> dict[str, float]:
        steps.append(kept[0](*given))
        return steps[-1]

    loop.one_step, loop.time = one_step, SimpleNamespace(monotonic=time.process_time)
    loop.group_filter.run = counted("rollout", kept[1], steps, found)
    loop.run_updates = counted("update", kept[2], steps, found)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier cases freed goes back to the system
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    allocated = Allocated()
    allocated.start()
    try:
        use = [folder / "spread.py"] if values["kind"] == "rl" else []
        recipec.run(folder / "r.yaml", out=folder / "out", use=use)
    finally:
        loop.one_step, loop.group_filter.run, loop.run_updates, loop.time = kept
    for phase in ("rollout", "update"):
        found[f"seconds {phase}"] = statistics.median(step[f"seconds/{phase}"] for step in steps[1:-1])
    found["tokens update"] = (steps[-1]["num_tokens"] - steps[-2]["num_tokens"]) / steps[-1].get("token_ratio", 1.0)
    found["memory"], found["resident"] = allocated.stop(), resident("VmHWM") - before
    stage = folder / "out" / "stages" / "learn"
    found["disk"] = float(sum(f.stat().st_size for f in stage.rglob("*") if f.is_file()))
    return found


def planned(folder: Path) -> dict[str, float]:
    """Plan a case with rates measured by the CPU time of this process."""
    import recipec
    from recipec.run.machine_time import add_times

    graph, made = recipec.compile(folder / "r.yaml"), recipec.plan(folder / "r.yaml")
    (stage,) = add_times(made, graph, folder, time.process_time).stages
    phases = {phase.name: phase for phase in stage.phases}
    update = phases.pop("update")
    return {
        "tokens update": float(update.tokens or 0),
        "flops rollout": sum(phase.flops or 0.0 for phase in phases.values()),
        "flops update": update.flops or 0.0,
        "seconds rollout": sum(phase.seconds or 0.0 for phase in phases.values()),
        "seconds update": update.seconds or 0.0,
        "memory": stage.peak or 0.0,
        "resident": stage.peak or 0.0,
        "disk": sum(part.bytes or 0.0 for part in stage.disk),
    }


def compared(key: str, foreseen: dict[str, float], found: dict[str, float]) -> bool:
    """Whether a figure is large enough to be compared."""
    return found.get(key, 0.0) > 0 and foreseen[key] > LEAST.get(key, 0.0)


def main() -> None:
    """Print a table of planned over measured, a line for each case."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="these cases only")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    every: dict[str, Any] = {}
    print(f"| case | {' | '.join(FIGURES)} |\n|---|{'---|' * len(FIGURES)}", flush=True)
    for name, values in cases().items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as place:
            write(Path(place), {**BASE, **values})
            foreseen, found = planned(Path(place)), measured(Path(place), {**BASE, **values})
        every[name] = {"planned": foreseen, "measured": found}
        cells = [f"{foreseen[key] / found[key]:.2f}" if compared(key, foreseen, found) else "" for key in FIGURES]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        if options.json:
            options.json.write_text(json.dumps(every, indent=1))
    print("\n| planned / measured | cases | median | least | largest | within |\n|---|---|---|---|---|---|")
    for key, bound in FIGURES.items():
        pairs = [(one["planned"], one["measured"]) for one in every.values()]
        ratios = sorted(plan[key] / found[key] for plan, found in pairs if compared(key, plan, found))
        if ratios:
            inside = sum(abs(ratio - 1) <= bound for ratio in ratios)
            middle = ratios[len(ratios) // 2]
            line = f"{len(ratios)} | {middle:.2f} | {ratios[0]:.2f} | {ratios[-1]:.2f}"
            print(f"| {key} | {line} | {inside} of {len(ratios)} within {bound:.0%} |")


if __name__ == "__main__":
    main()
