"""Runs over several processes, and what two runs of one recipe have in common."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.small_recipes import MODEL, rows
from torch import Tensor
from torch.distributed.elastic.multiprocessing import start_processes

from recipec.host.progress import Progress
from recipec.host.ranks import place
from recipec.run.executor import Outcome
from recipec.run.launching import RunArguments, prepare, rank, run_prepared

PROBE = "sampling/probe_logp_difference"
"""Logged where the sampling engine has a copy of the weights, as under shards."""
TASKS = rows(*({"prompt": f"p{i}", "completion": f"c{i} and more", "answer": "e"} for i in range(8)))
TWO_STAGES = f"""\
recipec: 1
name: small
machine: {{device: cpu, timeout: 60}}
stages:
  learn:
    kind: sft
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 2, rows_per_step: 6, microbatch_tokens: 64}}
  explore:
    kind: rl
    from: learn
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 3, max_completion_length: 6}}
    reward:
      long: {{type: regex_format, pattern: "[a-m].*"}}
    advantage:
      group: {{type: group_relative}}
    loss: {{type: clipped, beta: 0.05}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 4, prompts_per_step: 4, updates_per_step: 2, microbatch_tokens: 48, save_every: 1}}
"""

# As above with an adapter, whose reference is the policy without it, and with a frozen part under tied weights.
FOUR_STAGES = (
    TWO_STAGES
    + """\
  adapt:
    kind: rl
    from: learn
    policy: {lora: {r: 4, targets: [q_proj, v_proj]}}
    data: {path: a.jsonl}
    sampler: {num_generations: 3, max_completion_length: 6}
    reward:
      long: {type: regex_format, pattern: "[a-m].*"}
    advantage:
      group: {type: group_relative}
    loss: {type: clipped, beta: 0.05}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 3, prompts_per_step: 4, microbatch_tokens: 48}
  part:
    kind: sft
    from: learn
    data: {path: a.jsonl}
    optimizer: {learning_rate: 1.0e-3, freeze: [embeddings]}
    budget: {steps: 3, rows_per_step: 6, microbatch_tokens: 64}
"""
)

# Updates with less to do than ranks, in bfloat16, and with one that one rank alone finds to be not a number.
ODD_STAGES = f"""\
recipec: 1
name: small
machine: {{device: cpu, timeout: 60}}
stages:
  poisoned:
    kind: sft
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-3, nonfinite: skip}}
    budget: {{steps: 3, rows_per_step: 6, microbatch_tokens: 64}}
  single:
    kind: sft
    from: poisoned
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 3, rows_per_step: 1}}
  narrow:
    kind: sft
{MODEL}\
      dtype: bfloat16
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 3, rows_per_step: 6, microbatch_tokens: 64}}
"""


def poisoned(arguments: RunArguments) -> dict[str, Any]:
    """Be a rank; the last one finds the loss of the second update of the stage `poisoned` to be not a number."""
    from recipec.runtime.training.local_engine import LocalEngine

    here, passes = place(), LocalEngine._passes

    def odd(engine: LocalEngine, *args: Any) -> list[dict[str, Any]]:
        backward = engine.backward
        bad = engine.context.stage == "poisoned" and engine.updates == 1 and here.rank == here.size - 1
        engine.backward = lambda loss: backward(loss * math.nan if bad else loss)  # type: ignore[method-assign]
        try:
            return passes(engine, *args)
        finally:
            del engine.backward

    LocalEngine._passes = odd  # type: ignore[method-assign]
    return rank(arguments)


def ran_poisoned(folder: Path, out: str, size: int, *settings: str) -> Path:
    """Run the recipe of a folder to its end on `size` poisoned ranks."""
    from recipec.runtime.distributed.torchrun_launch import ProcessGang

    arguments = RunArguments(folder / "r.yaml", settings, folder / out, quiet=True)
    ended = ProcessGang(size, 0, folder / out / "logs", print).run(poisoned, arguments)
    assert isinstance(ended, list), ended
    assert all(one["finished"] for one in ended), ended
    return folder / out


def started(folder: Path, out: str, *settings: str, text: str | None = None) -> subprocess.Popen[str]:
    """Start `recipec run` on the recipe of a folder, or on one that it reads from standard input."""
    chosen = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "recipec", "run", "r.yaml" if text is None else "-", "--out", out, "-q", *chosen]
    variables = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    given = None if text is None else subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, env=variables, stdin=given, stderr=subprocess.PIPE, text=True)
    if process.stdin is not None:
        with process.stdin as pipe:
            pipe.write(text or "")
        process.stdin = None
    return process


def ran(folder: Path, out: str, *settings: str) -> Path:
    """Run the recipe of a folder to its end."""
    process = started(folder, out, *settings)
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 0, err
    return folder / out


def ran_here(folder: Path, out: str, *settings: str) -> Path:
    """Run the recipe of a folder to its end by `recipec.run`: alone in this process, or over processes of their own."""
    import recipec

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        recipec.run(folder / "r.yaml", settings, out=folder / out)
    return folder / out


def forked(name: str, entry: Any, arguments: Any, variables: dict[int, dict[str, str]], logs: Any) -> Any:
    """Start ranks as forks of a process that has imported what each would need five seconds to import."""
    multiprocessing.set_forkserver_preload(["recipec.runtime.stage.build_stage"])
    inherited = {number: {**os.environ, **own} for number, own in variables.items()}
    return start_processes(name, entry, arguments, inherited, logs, start_method="forkserver")


def outcome_here(folder: Path, out: str, *settings: str) -> Outcome:
    """Run the recipe of a folder, alone in this process, or over ranks that are forked; return how that ended."""
    arguments = RunArguments(folder / "r.yaml", settings, folder / out, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr("recipec.runtime.distributed.torchrun_launch.start_processes", forked)
        return run_prepared(prepare(arguments), arguments, Progress(quiet=True))


def ran_forked(folder: Path, out: str, *settings: str) -> Path:
    """Run the recipe of a folder to its end, alone in this process, or over ranks that are forked."""
    ended = outcome_here(folder, out, *settings)
    assert ended.finished, ended.diagnostics
    return folder / out


def weights_of(run: Path, stage: str) -> dict[str, Tensor]:
    """Weights that a run leaves behind, of an adapter too."""
    files = sorted((run / "stages" / stage / "policy").rglob("*.safetensors"))
    return {f"{file.name}:{name}": tensor for file in files for name, tensor in load_file(file).items()}


def difference(one: Path, other: Path, stage: str) -> float:
    """Largest difference between the weights that two runs leave behind."""
    mine, its = (weights_of(run, stage) for run in (one, other))
    assert mine.keys() == its.keys()
    return max(float((mine[name].double() - its[name].double()).abs().max()) for name in mine)


def sampled(run: Path, stage: str = "explore") -> list[object]:
    """Token ids and rewards of every row of a run."""
    files = sorted((run / "stages" / stage / "samples").glob("step-*.jsonl"))
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [(row["ids"], row["rewards"]) for row in found]


def journal(run: Path, stage: str) -> list[dict[str, float]]:
    """Metrics of every step that do not depend on the clock."""
    lines = (run / "stages" / stage / "metrics.jsonl").read_text().splitlines()
    drop = ("seconds/", "rate/", "stage")
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(drop)} for line in lines]


def children(pid: int) -> list[int]:
    """Processes that a process started, in the order of their start."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
