"""vLLM servers that are killed, hang or stay away: nothing that was asked is lost."""

import importlib.util
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.policies import dense_policy

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.rollout.engine import Request, SamplingParams
from recipec.runtime.rollout.weight_transfer import WeightTransfer
from recipec.spec.policy import CausalLm, Lora, Scratch
from recipec.spec.rollout_engine import Vllm

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test-engines"),
    pytest.mark.filterwarnings("ignore"),  # libraries of vLLM warn of each other
]
PARAMS = SamplingParams(40, temperature=0.7)
REQUESTS = [Request(tuple(range(3 + i, 9 + i)), tuple((0, i, s) for s in range(16)), i) for i in range(8)]


def transfer_to(spec, folder, **policy):
    """Build a policy, the engine of a spec, and what hands weights over."""
    context = StageContext(root=Path(), cache=Path(), seed=0, stage="explore", temperature=0.7, home=folder)
    model = Scratch(hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=64, max_positions=64)
    made = dense_policy(CausalLm(scratch=model, **policy), context)
    engine = spec.load()(spec, context, policy=made)
    trainer = SimpleNamespace(weights=lambda: iter(made.model.state_dict().items()))
    return WeightTransfer(spec, engine, trainer, made, context)


def test_a_killed_server_loses_nothing(tmp_path):
    """Two servers, one killed in mid-round: every row is the one that vLLM draws in this process.

    A server that is gone comes back with the next weights. One that hangs is given up at the deadline, with the same
    rows. Once no further start is allowed, the run ends with RC847.
    """
    spec = Vllm(servers=2, cpu_cache=0.05, max_rows=16, max_restarts=2, deadline=20.0)
    transfer = transfer_to(spec, tmp_path)
    engine = transfer.rollout_engine
    here = transfer_to(spec.model_copy(update={"servers": ()}), tmp_path / "here")
    try:
        here.update()
        expected = here.rollout_engine.generate(REQUESTS, PARAMS)
        transfer.update()
        assert transfer.gap < 1e-5
        killed = threading.Timer(0.5, lambda: os.kill(engine.servers[0].process.pid, signal.SIGKILL))
        killed.start()
        found = engine.generate(REQUESTS, PARAMS)
        killed.join()
        assert [[one.ids for one in group] for group in found] == [[one.ids for one in group] for group in expected]
        while engine.servers[0].process.poll() is None:
            time.sleep(0.1)
        engine.generate(REQUESTS[:2], PARAMS)  # if the round was over before, the next one sees that it is gone
        assert [server.alive for server in engine.servers] == [False, True]

        with torch.no_grad():
            for weight in transfer.policy.trainable_parameters().values():
                weight.mul_(1.3)
        transfer.update()
        assert transfer.gap < 1e-5
        assert ([server.alive for server in engine.servers], engine.restarts) == ([True, True], 1)

        expected = engine.generate(REQUESTS, PARAMS)
        os.kill(engine.servers[1].process.pid, signal.SIGSTOP)
        assert engine.generate(REQUESTS, PARAMS) == expected
        assert [server.alive for server in engine.servers] == [True, False]

        os.kill(engine.servers[0].process.pid, signal.SIGKILL)
        with pytest.raises(RecipeError) as refused:
            engine.generate(REQUESTS, PARAMS)
        assert refused.value.diagnostics[0].code == "RC847"
    finally:
        engine.close()
        here.rollout_engine.close()
    assert all(server.process.poll() is not None for server in engine.servers)


def test_an_adapter_is_handed_over_as_a_file(tmp_path):
    """A server samples with each version of the adapter, named by its digest, and with it after it was started again.

    The weights under the adapter are written once. What was asked before an update is of other weights.
    """
    spec = Vllm(servers=1, cpu_cache=0.05, max_rows=16)
    transfer = transfer_to(spec, tmp_path, lora=Lora(r=4, alpha=8))
    engine, random = transfer.rollout_engine, torch.Generator().manual_seed(0)
    try:
        transfer.update()
        named = {engine.adapter}
        for killed in (False, True):
            with torch.no_grad():
                for weight in transfer.policy.trainable_parameters().values():
                    weight.add_(0.1 * torch.randn(weight.shape, generator=random))
            assert transfer.measured() > 1e-2
            if killed:
                os.kill(engine.servers[0].process.pid, signal.SIGKILL)
            transfer.update()
            assert transfer.gap < 1e-5
            named.add(engine.adapter)
            assert {path.name for path in engine.root.iterdir()} == {"server-0.log", "weights-1", engine.adapter}
        assert len(named) == 3
        assert engine.restarts == 1
    finally:
        engine.close()
