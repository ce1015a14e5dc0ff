"""The Slurm batch file that `recipec plan --slurm` writes: what it asks for, and how it ends."""

import os
import subprocess
from pathlib import Path

import pytest
from support.small_recipes import SFT

# Stand-ins at the level of the command line: a step runs its command here, torchrun what follows its options.
SRUN = 'echo "srun $1" >> log; shift; exec "$@"\n'
TORCHRUN = """\
echo "torchrun $*" >> log
while [ "$1" != "--no-python" ]; do shift; done
shift
for attempt in 0 1 2 3; do "$@" && exit 0; done
exit 1
"""
SCONTROL = 'if [ "$1" = show ]; then echo node1; echo node2; else echo "scontrol $*" >> log; fi\n'
PYTHON = 'echo "python $*" >> log\nexit $(head -n 1 codes; sed -i 1d codes)\n'


def commands(folder: Path, codes: list[int]) -> None:
    """Put the stand-ins into a folder; each start of the recipe ends with the next code."""
    for name, body in (("srun", SRUN), ("torchrun", TORCHRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{body}")
        (folder / "bin" / name).chmod(0o755)
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))


@pytest.fixture
def batch(folder) -> str:
    """The file of a recipe on two nodes, with an override and a directory that need quotes."""
    machine = "machine: {nodes: 2, devices: 4, max_restarts: 2, launcher: slurm}\n"
    folder.write(r__yaml=SFT.replace("recipec: 1\n", f"recipec: 1\n{machine}"))
    said = folder.call("plan", "r.yaml", "--slurm", "--set", "stages.learn.budget.steps=3", "--out", "runs/it's one")
    assert said.code == 0
    return said.out


def test_it_asks_for_the_machine_of_the_recipe(batch: str, tmp_path: Path) -> None:
    """Nodes, devices and restarts are the recipe's; the command is the user's own; bash can read the file."""
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1\n#SBATCH --gpus-per-node=4\n" in batch
    assert "--nproc-per-node=4 --max-restarts=2" in batch
    assert "#SBATCH --requeue\n" in batch
    (tmp_path / "job.sh").write_text(batch)
    read = subprocess.run(["/bin/bash", "-n", tmp_path / "job.sh"], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.parametrize(
    ("codes", "ends", "starts", "requeued"),
    [([0], 0, 1, False), ([75], 75, 1, True), ([4], 4, 1, False), ([1], 1, 1, False), ([137, 0], 0, 2, False)],
    ids=["finished", "stopped", "failed", "refused", "killed"],
)
def test_how_it_ends(batch: str, tmp_path: Path, codes: list[int], ends: int, starts: int, *, requeued: bool) -> None:
    """A run that stopped is queued again, one that ended is not started again, one that was killed is."""
    commands(tmp_path, codes)
    (tmp_path / "job.sh").write_text(batch)
    variables = {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "SLURM_JOB_ID": "1017",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
    }
    done = subprocess.run(["/bin/bash", "job.sh"], cwd=tmp_path, env=variables, check=False)
    log = (tmp_path / "log").read_text().splitlines()
    assert done.returncode == ends
    assert [line for line in log if line.startswith("python")] == [
        "python -m recipec run r.yaml --set stages.learn.budget.steps=3 --out runs/it's one"
    ] * starts
    assert ("scontrol requeue 1017" in log) is requeued
    assert "--rdzv-endpoint=node1:29517" in next(line for line in log if line.startswith("torchrun"))
    assert not list(tmp_path.glob(".recipec-*"))
