"""The Slurm batch file of a recipe: one task a node, in which torchrun starts one process a device."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from recipec.graph import Graph

FILE = """\
#!/bin/bash
# Runs {recipe} on {nodes} node{s} under torchrun. Written by: recipec plan --slurm
# Submit it from {folder}:
#   sbatch --time=… --partition=… FILE
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
{devices}#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@{grace}

HEAD_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
PORT=$((29500 + SLURM_JOB_ID % 1000))
OUTCOME="$PWD/.recipec-$SLURM_JOB_ID"
rm -f "$OUTCOME"

# A process that ends by itself says how: torchrun would start it again. One that is killed is started again.
rank() {{
    {command}
    code=$?
    case $code in
        0) ;;
        {final}) echo "$code" > "$OUTCOME" ;;
        *) exit "$code" ;;
    esac
}}

# Before the time limit Slurm signals every process: ranks write a checkpoint, and torchrun waits for them.
node() {{
    trap "" TERM
    exec torchrun --nnodes="$SLURM_NNODES" --nproc-per-node={ranks} --max-restarts={restarts} \\
        --rdzv-backend=c10d --rdzv-endpoint="$HEAD_NODE:$PORT" --rdzv-id="$SLURM_JOB_ID" \\
        --signals-to-handle=SIGINT --no-python bash -c rank
}}

export HEAD_NODE PORT OUTCOME
export -f rank node
srun --kill-on-bad-exit=1 bash -c node
code=$?
if [ -e "$OUTCOME" ]; then
    code=$(cat "$OUTCOME")
    rm -f "$OUTCOME"
fi
if [ "$code" -eq {stopped} ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
STOPPED = 75
"""Exit code of a run that stopped after a checkpoint."""
FINAL = (1, 2, 4, STOPPED)
"""Exit codes that another attempt would not change, or that ask for a later one."""
GRACE = 300
"""Seconds before the time limit in which a run writes its checkpoint."""


def batch_file(graph: Graph, recipe: Path, overrides: Sequence[str], out: Path | None) -> str:
    """Write the batch file that runs a recipe on the nodes and devices of its machine.

    A run that stops before the time limit is put into the queue again and continues from its checkpoint.
    """
    machine = graph.machine
    devices, nodes = int(machine.get("devices") or 1), int(machine.get("nodes") or 1)
    words = ["python", *run_arguments(recipe, overrides, out)]
    return FILE.format(
        recipe=recipe,
        folder=Path.cwd(),
        name=graph.name,
        nodes=nodes,
        s="" if nodes == 1 else "s",
        devices="" if machine.get("device") == "cpu" else f"#SBATCH --gpus-per-node={devices}\n",
        ranks=devices,
        restarts=int(machine.get("max_restarts") or 0),
        grace=GRACE,
        command=shlex.join(words),
        final=" | ".join(str(code) for code in FINAL),
        stopped=STOPPED,
    )


def run_arguments(recipe: Path, overrides: Sequence[str], out: Path | None) -> list[str]:
    """Return the arguments of Python, or of torchrun, that run a recipe.

    >>> run_arguments(Path("r.yaml"), ["seed=1"], None)
    ['-m', 'recipec', 'run', 'r.yaml', '--set', 'seed=1']
    """
    words = ["-m", "recipec", "run", str(recipe)]
    words += [word for override in overrides for word in ("--set", override)]
    return words + (["--out", str(out)] if out is not None else [])
