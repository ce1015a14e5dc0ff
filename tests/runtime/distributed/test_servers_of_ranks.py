"""Rollout servers of several processes: the leader asks them, and all have the rows, also those sampled ahead."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.ranks import TASKS, TWO_STAGES, children, difference, ran, ran_here, sampled, started

from recipec.runtime.rollout.vllm_servers import _own_address

STAND_IN = str(Path(__file__).parents[2] / "support" / "rollout_server.py")
AHEAD = ("stages.explore.sampler.max_staleness=1", "stages.explore.loss.sampler_correction=truncate")
SHARDED = ("machine.devices=2", "machine.train.type=fsdp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the recipe, whose engine is a server that runs elsewhere, and its run ahead in one process."""
    path = tmp_path_factory.mktemp("servers")
    address = _own_address()
    (path / "r.yaml").write_text(
        TWO_STAGES.replace("timeout: 60", f"timeout: 60, rollout: {{type: vllm, servers: [{address.geturl()}]}}")
    )
    (path / "a.jsonl").write_text(TASKS)
    process = subprocess.Popen([sys.executable, STAND_IN, "--port", str(address.port)])
    ran_here(path, "one", *AHEAD)
    yield path
    process.kill()
    process.wait()


def test_two_processes_sample_ahead_as_one(folder):
    """Rows and the ages of their weights are those of one process, also after a kill, and weights equal to rounding."""
    process = started(folder, "two", *AHEAD, *SHARDED)
    checkpoint = folder / "two" / "stages" / "explore" / "checkpoints" / "step-000002"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 0, err
    assert sampled(folder / "two") == sampled(folder / "one")
    assert difference(folder / "one", folder / "two", "explore") < 5e-6


@pytest.mark.slow
def test_without_a_server_the_run_ends_and_goes_on_later(folder):
    """No server and no restart left is exit code 4; with one again, the same command ends with the rows of one go."""
    port = _own_address().port
    stand_in = [sys.executable, STAND_IN, "--pause", "0.02", "--port", str(port)]
    server = subprocess.Popen(stand_in)
    rollout = f"machine.rollout={{type: vllm, servers: ['http://127.0.0.1:{port}'], deadline: 20, max_restarts: 0}}"
    process = started(folder, "ended", *AHEAD, rollout)
    checkpoint = folder / "ended" / "stages" / "explore" / "checkpoints" / "step-000001"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    server.kill()
    server.wait()
    err = process.communicate(timeout=240)[1]
    assert (process.returncode, "RC847" in err) == (4, True), err
    server = subprocess.Popen(stand_in)
    try:
        ran(folder, "ended", *AHEAD, rollout)
    finally:
        server.kill()
        server.wait()
    assert sampled(folder / "ended") == sampled(folder / "one")
    assert difference(folder / "one", folder / "ended", "explore") == 0.0


@pytest.mark.slow
def test_two_processes_share_a_server(folder):
    """Without lookahead, too: the leader asks, and every process has the completions."""
    ran(folder, "alone")
    ran(folder, "shared", "machine.devices=2")
    assert sampled(folder / "shared") == sampled(folder / "alone")
    assert sampled(folder / "alone") != sampled(folder / "one")
    assert difference(folder / "alone", folder / "shared", "explore") < 5e-6
