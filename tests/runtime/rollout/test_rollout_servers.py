"""Rollout servers that die, hang, or lack an adapter, by a stand-in that speaks the protocol of vLLM's servers.

`test_vllm_servers.py` does the same with vLLM.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.policies import dense_policy

from recipec.diagnostics.model import RecipeError
from recipec.host.http_client import post, read_address
from recipec.runtime.context import StageContext
from recipec.runtime.rollout import vllm_servers
from recipec.runtime.rollout.engine import Request, SamplingParams
from recipec.runtime.rollout.weight_transfer import WeightTransfer
from recipec.spec.policy import CausalLm, Lora, Scratch
from recipec.spec.rollout_engine import Vllm

STAND_IN = str(Path(__file__).parents[2] / "support" / "rollout_server.py")
PARAMS = SamplingParams(12, temperature=0.7)
REQUESTS = [Request(tuple(range(3 + i, 9 + i)), tuple((0, i, s) for s in range(4)), i) for i in range(8)]


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    """Start the stand-in instead of vLLM; an answer takes some milliseconds, so that a kill finds requests waiting."""
    monkeypatch.setattr(vllm_servers, "PROGRAM", (sys.executable, STAND_IN, "--pause", "0.02"))
    monkeypatch.setattr(vllm_servers, "_PAUSE", 0.02)


@pytest.fixture
def transfer_to(tmp_path):
    """Build a policy with an engine, and what hands weights over; engines are closed at the end."""
    engines = []

    def made(spec, **policy):
        context = StageContext(root=Path(), cache=Path(), seed=0, stage="explore", temperature=0.7, home=tmp_path)
        model = Scratch(hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate_size=32, max_positions=64)
        trained = dense_policy(CausalLm(scratch=model, **policy), context)
        engines.append(spec.load()(spec, context, policy=trained))
        trainer = SimpleNamespace(weights=lambda: iter(trained.model.state_dict().items()))
        return WeightTransfer(spec, engines[-1], trainer, trained, context)

    yield made
    for engine in engines:
        engine.close()


@torch.no_grad()
def move(policy, seed):
    """Change the trained weights, as an update does."""
    generator = torch.Generator().manual_seed(seed)
    for weight in policy.trainable_parameters().values():
        weight.add_(0.1 * torch.randn(weight.shape, generator=generator))


def ids(groups):
    """Tokens of every row."""
    return [[one.ids for one in group] for group in groups]


def rounds(transfer, count, kills=0):
    """Sample, update and so on; in each round servers are killed while requests wait. Return rows and kills."""
    engine, rng, found, killed = transfer.rollout_engine, np.random.default_rng(0), [], 0
    transfer.update()
    for number in range(count):
        aims = engine.servers[:kills]
        timers = [
            threading.Timer(rng.uniform(0.0, 0.08), os.kill, (server.process.pid, signal.SIGKILL)) for server in aims
        ]
        for timer in timers:
            timer.start()
        found.append(ids(engine.generate(REQUESTS, PARAMS)))
        for timer in timers:
            timer.join()
        killed += len(aims)
        move(transfer.policy, number)
        transfer.update()
        assert transfer.gap < 1e-5
    return found, killed


@pytest.mark.parametrize(("count", "kills"), [(3, 2), pytest.param(50, 2, marks=pytest.mark.slow)])
def test_servers_that_are_killed_lose_no_row(transfer_to, count, kills):
    """Both servers are killed in each round: every row is there, the one of a run without kills, in its place."""
    expected, _ = rounds(transfer_to(Vllm(servers=1)), count)
    transfer = transfer_to(Vllm(servers=2, max_restarts=4 * count))
    found, killed = rounds(transfer, count, kills)
    assert found == expected
    assert killed == 2 * count
    assert transfer.rollout_engine.restarts >= killed // 2


def test_a_server_that_hangs_is_given_up(transfer_to):
    """At the deadline its requests go to the other one, with the same rows."""
    transfer = transfer_to(Vllm(servers=2, deadline=1.0))
    transfer.update()
    expected = ids(transfer.rollout_engine.generate(REQUESTS, PARAMS))
    os.kill(transfer.rollout_engine.servers[1].process.pid, signal.SIGSTOP)
    assert ids(transfer.rollout_engine.generate(REQUESTS, PARAMS)) == expected
    assert [server.alive for server in transfer.rollout_engine.servers] == [True, False]


def test_after_the_last_restart_the_run_ends(transfer_to):
    """With no restart left, a lost server is RC847."""
    transfer = transfer_to(Vllm(servers=1, max_restarts=0))
    transfer.update()
    os.kill(transfer.rollout_engine.servers[0].process.pid, signal.SIGKILL)
    with pytest.raises(RecipeError, match=r"RC847 .* does not answer /inference/v1/generate"):
        transfer.rollout_engine.generate(REQUESTS, PARAMS)


def test_an_adapter_is_handed_over_as_a_file(transfer_to):
    """Each version of the adapter has the name of its digest; the weights under it are written once.

    A server that is started again gets both.
    """
    transfer = transfer_to(Vllm(servers=1), lora=Lora(r=4, alpha=8))
    engine = transfer.rollout_engine
    transfer.update()
    first = engine.adapter
    transfer.update()
    assert engine.adapter == first  # nothing has changed
    for number in range(2):
        move(transfer.policy, number)
        assert transfer.measured() > 1e-3
        if number:
            os.kill(engine.servers[0].process.pid, signal.SIGKILL)
        transfer.update()
        assert transfer.gap < 1e-5
        assert {path.name for path in engine.root.iterdir()} == {"server-0.log", "weights-1", engine.adapter}
    assert engine.restarts == 1


def started_at(port, *flags):
    """Start a server that the engine does not know of, and wait until it answers."""
    process = subprocess.Popen([sys.executable, STAND_IN, "--port", str(port), *flags])
    address = read_address("server", f"http://127.0.0.1:{port}/reset_prefix_cache")
    while True:
        try:
            post(address, b"{}", 1.0, {})
        except OSError:
            time.sleep(0.02)
        else:
            return process


@pytest.mark.parametrize("policy", [{}, {"lora": Lora(r=4, alpha=8)}], ids=["weights", "adapter"])
def test_a_server_that_others_start_again_is_noticed(transfer_to, policy):
    """It has the weights that it was started with: what it answers does not count, until it was given the newest."""
    port = vllm_servers._own_address().port
    process = started_at(port, "--enable-lora")
    spec = Vllm(servers=(f"http://127.0.0.1:{port}",), deadline=20.0)
    try:
        transfer = transfer_to(spec, **policy)
        engine = transfer.rollout_engine
        transfer.update()
        old = engine.weights
        move(transfer.policy, 0)
        copy = Path(shutil.copytree(old, engine.root / "copy"))
        transfer.update()
        expected = ids(engine.generate(REQUESTS, PARAMS))
        process.kill()
        process.wait()
        process = started_at(port, "--enable-lora", "--model", str(copy))
        assert ids(engine.generate(REQUESTS, PARAMS)) == expected
        assert engine.restarts == 1
    finally:
        process.kill()
        process.wait()


def test_a_server_without_adapters_is_refused(transfer_to):
    """A server at a URL that was started without `--enable-lora` is RC848 where an adapter is trained."""
    port = vllm_servers._own_address().port
    process = started_at(port)
    try:
        with pytest.raises(RecipeError) as refused:
            transfer_to(Vllm(servers=(f"http://127.0.0.1:{port}",), deadline=20.0), lora=Lora(r=4, alpha=8)).update()
    finally:
        process.kill()
        process.wait()
    assert refused.value.diagnostics[0].code == "RC848"
    assert "status 404" in refused.value.diagnostics[0].message


def test_both_threads_find_that_no_server_is_left(transfer_to):
    """An evaluation and rollouts that are sampled ahead start the servers once between them."""
    transfer = transfer_to(Vllm(servers=1, max_restarts=1))
    engine = transfer.rollout_engine
    transfer.update()
    expected = ids(engine.generate(REQUESTS, PARAMS))
    os.kill(engine.servers[0].process.pid, signal.SIGKILL)
    with ThreadPoolExecutor(2) as threads:  # a server ends with the thread that started it
        asked = [threads.submit(engine.generate, REQUESTS, PARAMS) for _ in range(2)]
        assert [ids(one.result()) for one in asked] == [expected, expected]
    assert engine.restarts == 1
