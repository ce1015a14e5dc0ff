"""Runs over two Ray nodes on one machine: `make test-engines`."""

import importlib.util
import os
import signal
import time
from pathlib import Path

import pytest
from support.ranks import TASKS, TWO_STAGES, difference, ran, sampled, started

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-engines"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
RAY = ("machine.nodes=2", "machine.launcher=ray", "machine.timeout=240")
SMALL = {"num_cpus": 2, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the recipe, and its run in two processes of this machine."""
    path = tmp_path_factory.mktemp("ray")
    (path / "r.yaml").write_text(TWO_STAGES)
    (path / "a.jsonl").write_text(TASKS)
    ran(path, "whole", "machine.devices=2")
    return path


@pytest.fixture
def cluster(monkeypatch):
    """Two Ray nodes; the second one has room for both ranks, too."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    made.second = made.add_node(**SMALL)
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


def begun(folder, out, *settings):
    """Start a run, and wait for the first checkpoint of its second stage."""
    process = started(folder, out, *RAY, *settings)
    checkpoint = folder / out / "stages" / "explore" / "checkpoints" / "step-000001"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    return process


def same(folder, out):
    """Whether a run has the samples and the weights of the one that nothing disturbed."""
    whole = folder / "whole"
    return sampled(folder / out) == sampled(whole) and difference(whole, folder / out, "explore") == 0.0


def actors() -> list[int]:
    """Processes of ranks."""
    lines = {int(path.parent.name): path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")}
    return sorted(pid for pid, line in lines.items() if line.startswith(b"ray::Rank"))


def test_a_node_that_is_gone_changes_nothing(folder, cluster):
    """The ranks begin again on the node that is left, and end with the same bits."""
    process = begun(folder, "node")
    cluster.remove_node(cluster.second, allow_graceful=False)
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 0, err
    assert same(folder, "node")


def test_a_killed_actor_and_a_signal_change_nothing(folder, cluster):
    """A killed actor restarts all; a signal to stop ends all after their step, and the run continues from there."""
    process = begun(folder, "killed")
    os.kill(actors()[-1], signal.SIGKILL)
    time.sleep(1.0)
    process.terminate()
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 75, err
    ran(folder, "killed", *RAY)
    assert same(folder, "killed")


def test_a_cluster_without_room_is_refused(folder, cluster):
    """More nodes than there are, and no cluster at all, are said with what is there."""
    process = started(folder, "large", "machine.nodes=3", "machine.devices=2", RAY[1], "machine.timeout=1")
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 1
    assert "error[RC794]" in err
    assert "the Ray cluster has 2 nodes, 4 CPU and 0 GPU" in err, err
    os.environ["RAY_ADDRESS"] = "127.0.0.1:1"
    process = started(folder, "nowhere", *RAY)
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 1
    assert "error[RC792]" in err
