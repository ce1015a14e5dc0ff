"""Run recipes in one process and over two, with every training engine, and compare what they leave behind.

    python benchmarks/equality.py                        # all engines that are installed, on a CPU
    python benchmarks/equality.py --engines fsdp --cases trees vision
    python benchmarks/equality.py --write docs/machines.md

Rows, rewards and evaluations must be identical; weights may differ by rounding, and the table has the largest
difference of a weight after each stage.  Runs are kept in --out and continue there, so that the command can be
stopped and started again.  DeepSpeed's columns need `.venv-engines/bin/python` (`make test-engines`).
Exits with 1 if a row or an evaluation differs, a weight by more than --most, or a stage moved no weight.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pages import write_between
from safetensors.torch import load_file

FEATURES = Path(__file__).parent / "ranks" / "features.yaml"
TINY = Path(__file__).parents[1] / "recipes" / "tiny"
BEGIN, END = "<!-- benchmarks/equality.py -->", "<!-- end -->"
MOST = 1e-4
"""Largest difference of a weight: Adam turns a rounding of a gradient near 0 into a part of a step of 1e-3."""
ENGINES: dict[str, tuple[str, ...]] = {
    "local": (),
    "local, exact": ("machine.exactness=exact",),
    "fsdp": ("machine.train.type=fsdp",),
    "zero: 1": ("machine.train.type=deepspeed", "machine.train.zero=1"),
    "zero: 2": ("machine.train.type=deepspeed", "machine.train.zero=2"),
    "zero: 3": ("machine.train.type=deepspeed", "machine.train.zero=3"),
    "zero: 3, offload": (
        "machine.train.type=deepspeed",
        "machine.train.zero=3",
        "machine.train.offload=true",
        "machine.train.offload_parameters=true",
    ),
}


@dataclass(frozen=True)
class Case:
    """A recipe that is run in one process and over two, and what each of its stages shows."""

    recipe: Path
    stages: dict[str, str]
    settings: tuple[str, ...] = ()
    spread: tuple[str, ...] = ()
    """Settings of the runs over two processes alone."""


CASES = {
    "features": Case(
        FEATURES,
        {
            "tied": "supervised, tied weights",
            "frozen_reference": "RL, KL to a frozen copy",
            "lagged_reference": "RL, KL to a copy that lags by 3 updates",
            "lora": "RL, adapter of rank 4, KL to the policy without it",
            "frozen_part": "RL, embeddings frozen",
            "packed": "RL, packed attention",
            "preferences": "DPO on its rollouts",
        },
    ),
    "checkpointing": Case(
        FEATURES,
        {
            "tied": "gradient checkpointing: supervised",
            "frozen_reference": "gradient checkpointing: RL, KL to a frozen copy",
            "preferences": "gradient checkpointing: DPO on its rollouts",
        },
        ("stages.lagged_reference=null", "stages.lora=null", "stages.frozen_part=null", "stages.packed=null"),
        ("machine.train.gradient_checkpointing=true",),
    ),
    "trees": Case(
        TINY / "tree_grpo.yaml",
        {"imitate": "tiny Tree-GRPO: supervised", "explore": "tiny Tree-GRPO: an agent with trees"},
        (
            "stages.imitate.data.limit=320",
            "stages.imitate.budget.epochs=1",
            "stages.imitate.optimizer.warmup_updates=0",
            # answers of so short a training are never right: its reward alone would move no weight
            "stages.explore.reward.shape={type: regex_format, pattern: '[a-m].*'}",
            "stages.explore.budget={steps: 2, prompts_per_step: 8}",
            "stages.explore.optimizer.warmup_updates=0",
            "evaluate.practised.data.limit=8",
        ),
    ),
    "turns": Case(
        TINY / "gigpo.yaml",
        {"imitate": "tiny GiGPO: supervised", "explore": "tiny GiGPO: an agent with chains of turns"},
        (
            "stages.imitate.data.limit=320",
            "stages.imitate.budget.epochs=1",
            "stages.imitate.optimizer.warmup_updates=0",
            "stages.explore.reward.shape={type: regex_format, pattern: '[lu].*'}",  # as above
            "stages.explore.budget={steps: 2, prompts_per_step: 2}",
            "evaluate.held_out.data.size=4",
        ),
    ),
    "vision": Case(
        TINY / "dermiq.yaml",
        {
            "warm": "tiny DermIQ, images: supervised",
            "recognise": "tiny DermIQ, images: RL by GRPO++",
            "converse": "tiny DermIQ, images: supervised again",
            "align": "tiny DermIQ, images: DPO on its answers, ranked by a knowledge graph",
        },
        (
            "stages.warm.data.limit=96",
            "stages.warm.budget.epochs=1",
            "stages.warm.optimizer.warmup_updates=0",
            "stages.recognise.budget={steps: 2, prompts_per_step: 8}",
            "stages.recognise.optimizer.warmup_updates=0",
            "stages.converse.data.limit=64",
            "stages.converse.budget.epochs=1",
            "stages.converse.optimizer.warmup_updates=0",
            "stages.align.data.limit=16",
            "stages.align.budget.epochs=1",
            "stages.align.optimizer.warmup_updates=0",
            "evaluate.diagnosis.data.limit=16",
            "evaluate.conversation.data.limit=16",
        ),
    ),
}


def ran(case: Case, out: Path, settings: tuple[str, ...] = ()) -> Path:
    """Run a recipe into a folder, or go on where it stopped there."""
    chosen = [part for one in ("machine.device=cpu", *case.settings, *settings) for part in ("--set", one)]
    command = [sys.executable, "-m", "recipec", "run", str(case.recipe), "--out", str(out), "--quiet", *chosen]
    # by its name: DeepSpeed looks for a GPU otherwise
    variables = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", **os.environ}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}\n{done.stderr}")
    return out


def weights(run: Path, stage: str) -> dict:
    """Return the weights that a stage leaves behind, those of an adapter too."""
    files = sorted((run / "stages" / stage / "policy").rglob("*.safetensors"))
    return {f"{file.name}:{name}": tensor for file in files for name, tensor in load_file(file).items()}


def difference(one: Path, other: Path, stage: str) -> float:
    """Return the largest difference between the weights that two runs leave behind."""
    mine, its = weights(one, stage), weights(other, stage)
    if mine.keys() != its.keys():
        return float("inf")
    return max(float((mine[name].double() - its[name].double()).abs().max()) for name in mine)


def rows(run: Path, stage: str) -> list:
    """Return token ids and rewards of every row that was sampled."""
    files = sorted((run / "stages" / stage / "samples").glob("step-*.jsonl"))
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [(row["ids"], row["rewards"]) for row in found]


def moved(run: Path, stage: str) -> bool:
    """Whether the gradient of some step was not zero."""
    lines = (run / "stages" / stage / "metrics.jsonl").read_text().splitlines()
    return any(json.loads(line).get("grad_norm", 0.0) > 0 for line in lines)


def evaluations(run: Path) -> list:
    """Return the held-out metrics after each stage."""
    path = run / "results.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def compared(case: Case, one: Path, other: Path) -> dict[str, dict]:
    """Return for each stage how far its weights are apart, and how many rows were sampled and differ."""
    same_evaluations = evaluations(one) == evaluations(other)
    found = {}
    for stage in case.stages:
        mine, its = rows(one, stage), rows(other, stage)
        differ = sum(a != b for a, b in zip(mine, its, strict=False)) + abs(len(mine) - len(its))
        found[stage] = {
            "weights": difference(one, other, stage),
            "moved": moved(one, stage),
            "rows": len(mine),
            "rows_that_differ": differ,
            "same_evaluations": same_evaluations,
        }
    return found


def table(found: dict[str, dict[str, dict]], engines: list[str]) -> str:
    """Return the results as Markdown: a row for each stage, a column for each engine."""
    heads = [f"`{name}`" if "," not in name else "`{}`, {}".format(*name.split(", ")) for name in engines]
    lines = [f"| stage | rows | {' | '.join(heads)} |", "|---|---:|" + "---|" * len(engines)]
    for name, case in CASES.items():
        for stage, title in case.stages.items():
            cells = [found.get(name, {}).get(engine, {}).get(stage) for engine in engines]
            if not any(cells):
                continue
            sampled = next(cell["rows"] for cell in cells if cell)
            lines.append(f"| {title} | {sampled or ''} | {' | '.join(map(cell_text, cells))} |")
    return "\n".join(lines)


def right(cell: dict, most: float) -> bool:
    """Whether a stage trained at all, and to the same rows, evaluations and weights."""
    same = not cell["rows_that_differ"] and cell["same_evaluations"]
    return same and cell["moved"] and cell["weights"] <= most


def cell_text(cell: dict | None) -> str:
    """Return one figure, with what else differs.

    >>> cell_text({"weights": 3.16e-6, "rows": 8, "rows_that_differ": 0, "same_evaluations": True})
    '3.2e-6'
    """
    if cell is None:
        return ""
    mantissa, _, exponent = f"{cell['weights']:.1e}".partition("e")
    text = "0" if not cell["weights"] else f"{mantissa}e{int(exponent)}"
    if cell["rows_that_differ"]:
        text += f", {cell['rows_that_differ']} rows differ"
    return text if cell["same_evaluations"] else f"{text}, evaluations differ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--engines", nargs="*", choices=list(ENGINES))
    parser.add_argument("--out", type=Path, default=Path("runs/ranks"))
    parser.add_argument("--most", type=float, default=MOST)
    parser.add_argument("--write", type=Path, help="the page that has the table")
    options = parser.parse_args()
    installed = importlib.util.find_spec("deepspeed") is not None
    engines = options.engines or [name for name in ENGINES if installed or not name.startswith("zero")]
    path = options.out / "results.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name in options.cases:
        case = CASES[name]
        left = [engine for engine in engines if engine not in found.get(name, {})]
        for engine in left:
            one = ran(case, options.out / name / "one")
            machine = ("machine.devices=2", *ENGINES[engine], *case.spread)
            other = ran(case, options.out / name / engine.replace(": ", "").replace(", ", "-"), machine)
            found.setdefault(name, {})[engine] = compared(case, one, other)
            path.write_text(json.dumps(found, indent=1))
            print(name, engine, json.dumps(found[name][engine]), flush=True)
    made = table(found, [name for name in ENGINES if any(name in cells for cells in found.values())])
    print(made)
    if options.write:
        write_between(options.write, BEGIN, END, made.splitlines())
    stages = [cell for cells in found.values() for engine in cells.values() for cell in engine.values()]
    sys.exit(0 if all(right(cell, options.most) for cell in stages) else 1)


if __name__ == "__main__":
    main()
