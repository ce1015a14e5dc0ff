"""What `recipec run` says where it cannot start the processes of a recipe, before it begins anything."""

import importlib.util

import pytest
import torch
from support.small_recipes import SFT

from recipec.diagnostics.model import RecipeError
from recipec.runtime.distributed.torchrun_launch import check_devices


@pytest.mark.parametrize(
    ("machine", "code", "said"),
    [
        (
            "{device: cpu, nodes: 2, devices: 4}",
            "RC791",
            "--nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d --rdzv-endpoint=FIRST_NODE:29500 -m recipec run r.yaml",
        ),
        ("{device: cpu, devices: 2, launcher: slurm}", "RC791", "`recipec plan --slurm r.yaml --out 'o u t' > job.sh`"),
        ("{device: cpu, nodes: 2, launcher: ray}", "RC716", 'pip install "recipec[ray]"'),
    ],
    ids=["torchrun", "slurm", "ray"],
)
def test_a_launcher_that_is_not_here(folder, monkeypatch, machine, code, said) -> None:
    """The message has the command that starts the run, the place in the recipe, exit code 1; nothing is written."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    folder.write(r__yaml=SFT.replace("recipec: 1\n", f"recipec: 1\nmachine: {machine}\n"))
    ended = folder.call("run", "r.yaml", "--out", "o u t")
    assert ended.code == 1
    assert f"error[{code}]" in ended.err
    assert " --> r.yaml:2:" in ended.err
    assert said in ended.err
    assert not (folder.path / "o u t").exists()


def test_too_few_gpus(monkeypatch) -> None:
    """More devices than GPUs are refused, and not on a CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices("auto", 2)
    check_devices("cpu", 3)
    with pytest.raises(RecipeError, match="RC779 `devices` is 3, and this machine has 2 GPUs"):
        check_devices("auto", 3)
