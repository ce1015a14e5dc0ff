"""vLLM in processes of its own, reached by HTTP: token ids in, ids and log-probabilities out, never text.

Servers are started here or given as URLs.  Weights are handed over as a directory of safetensors, which each server
reads; those of an adapter as a directory named by its digest, under which completions are requested: a server
without this version of the adapter refuses.  Each answer names the version of the weights that sampled it, and counts
only if that is the newest: a server that someone else has started again has other weights.  Requests to a dead or hung
server are sent again, to another one or to itself once it is back.  A completion depends on its key alone, so that it
is the same one.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

from safetensors.torch import save_file
from torch import Tensor

from recipec.diagnostics.errors import rollout as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import disk_errors, hash_file
from recipec.host.http_client import post, read_address
from recipec.runtime.model import lora
from recipec.runtime.protocols import Policy
from recipec.runtime.rollout.engine import Completion
from recipec.runtime.rollout.vllm_engine import ENVIRONMENT, VllmEngine, VllmRequest, adapter_rank, parted
from recipec.spec.rollout_engine import Vllm as Spec

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

NAME = "policy"
"""The model's name in requests."""
PROGRAM = (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
"""What a server is started by."""
_OUTER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # not theirs
_ALLOWED = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
}  # weights and adapters may be replaced
_OK = http.HTTPStatus.OK
_START = 900.0  # seconds: a large model is read from a slow disk
_LOOK = 5.0  # seconds: whether a server of others is back
_PAUSE = 0.5  # seconds between looks at a server that starts
_WITH_PARENT = 1  # Linux: a signal for the child when its parent is gone, however that ended


@dataclass(slots=True, eq=False)
class Server:
    """One server; it has a ``process`` where it was started here.

    Example: ``Server(read_address("rollout server", "http://10.0.0.2:8000"))``.
    """

    address: SplitResult
    process: subprocess.Popen[bytes] | None = None
    alive: bool = False
    weights: Path | None = None
    """The weights that it has taken over; None where that is not known."""
    adapter: str = ""
    """The adapter that it has loaded."""
    starts: int = 0
    """How often it was started, or waited for."""
    problem: str = ""
    """What went wrong with it last."""

    def post(self, path: str, body: Any, seconds: float) -> tuple[int, bytes]:
        """Send one request and wait for the whole answer; (0, b"") if none came within ``seconds``."""
        sent = json.dumps(body).encode()
        try:
            status, answer = post(self.address._replace(path=path), sent, seconds, {"Content-Type": "application/json"})
        except (OSError, http.client.HTTPException) as error:  # a deadline that passed is an OSError
            self.problem = f"{self.address.netloc} does not answer {path}: {str(error) or type(error).__name__}"
            return 0, b""
        if status != _OK:
            self.problem = f"{self.address.netloc} answers {path} with status {status}, {_text(answer)}"
        return status, answer

    def lost(self) -> None:
        """Send it nothing more, until it has taken over everything again."""
        self.alive, self.weights, self.adapter = False, None, ""


class VllmServers(VllmEngine):
    """Sample with vLLM servers; see :class:`recipec.spec.rollout_engine.Vllm`."""

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy) -> None:
        """Sample from copies of ``policy``; servers start with the first weights."""
        super().__init__(spec, context, policy=policy)
        root = Path(self.folder.name) if context.home is None else context.home / "rollout_weights"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        self.root = root.resolve()
        self.weights = self.root
        """The newest weights; under an adapter, the first ones."""
        self.adapter = ""
        """The newest adapter; empty where none is trained."""
        self._run = secrets.token_hex(4)  # a server may still have weights of another run
        self.restarts = 0
        self._starting = Lock()  # an evaluation and rollouts that are sampled ahead may both find that none is left
        self.closed = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._end = weakref.finalize(self, _kill, self._processes)
        addresses = () if isinstance(spec.servers, int) else spec.servers
        self.servers = [Server(read_address("rollout server", url), alive=True) for url in addresses]
        if isinstance(spec.servers, int):
            self.servers = [Server(_own_address()) for _ in range(spec.servers)]

    # weights

    def update_weights(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        """Write the weights, and let every server read them; start those that are not running.

        Raises:
            RecipeError: RC841, a server does not start; RC847, none is left.
        """
        self.versions += 1
        former, adapted = (self.weights, self.root / self.adapter), list[tuple[str, Tensor]]()
        own = parted(weights, adapted)
        with disk_errors(self.root):
            if self.versions == 1 or adapter_rank(self.policy) is None:
                self._write_weights(own)
            else:
                for _ in own:  # under an adapter they do not change
                    pass
            if adapted:
                self._write_adapter(adapted)
        with ThreadPoolExecutor(max(1, len(self.servers))) as pool:
            list(pool.map(self._reload, [server for server in self.servers if server.alive]))
        self._start_all([server for server in self.servers if not server.alive], first=self.versions == 1)
        for folder in former:
            if folder not in {self.root, self.weights, self.root / self.adapter}:
                shutil.rmtree(folder, ignore_errors=True)

    def sleep(self) -> None:
        """Do nothing: servers have memory of their own."""

    def close(self) -> None:
        """End the servers that were started here; requests of another thread come to nothing."""
        self.closed = True
        for server in self.servers:
            server.alive = False
        self._end()
        shutil.rmtree(self.root, ignore_errors=True)
        self.folder.cleanup()

    def _write_weights(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        self.weights = self.root / f"weights-{self.versions}"
        shutil.copytree(self._described(), self.weights)
        # tied weights are one tensor under several names, which the format does not take
        save_file({name: tensor.cpu().clone() for name, tensor in weights}, self.weights / "model.safetensors")

    def _write_adapter(self, weights: Sequence[tuple[str, Tensor]]) -> None:
        """Write the adapter, and name it by its digest: a server never takes an old version for a new one."""
        written = self.root / "adapter"
        written.mkdir()
        lora.save(self.policy.peft_model, written, NAME, dict(weights))
        self.adapter = f"adapter-{hash_file(written / lora.WEIGHTS)[:32]}"
        if (self.root / self.adapter).exists():  # an update that changed nothing
            shutil.rmtree(written)
        else:
            written.rename(self.root / self.adapter)

    def _version(self) -> str:
        """Name of the newest weights in answers."""
        return f"{self.weights.name}-{self._run}"

    def _reload(self, server: Server) -> None:
        """Let a server take over what it does not have yet.

        Raises:
            RecipeError: RC848, it takes no adapters.
        """
        weights = {"method": "reload_weights", "kwargs": {"weights_path": str(self.weights)}}
        former, deadline = server.adapter, self.spec.deadline
        is_current = server.weights == self.weights or server.post("/collective_rpc", weights, deadline)[0] == _OK
        is_current = (
            is_current and server.post("/update_weight_version", {"new_version": self._version()}, deadline)[0] == _OK
        )
        if is_current and self.adapter != former:
            adapter_request = {
                "lora_name": self.adapter,
                "lora_path": str(self.root / self.adapter),
                "load_inplace": True,
            }
            status, answer = server.post("/v1/load_lora_adapter", adapter_request, deadline)
            if 400 <= status < 500:
                raise RecipeError(errors.no_adapters(server.address.netloc, status, _text(answer)))
            is_current = status == _OK
            if former:
                server.post("/v1/unload_lora_adapter", {"lora_name": former}, deadline)
        if is_current and server.post("/reset_prefix_cache", {}, deadline)[0] == _OK:
            server.weights, server.adapter = self.weights, self.adapter
            server.alive = True  # from now on other threads may ask it
        else:
            server.lost()

    # processes

    def _start_all(self, servers: Sequence[Server], *, first: bool = False) -> None:
        """Start servers, or wait for those of others; all at the first time, and later as long as none is left.

        One of others that is back by itself takes part again with the next weights.
        """
        elsewhere = self.spec.elsewhere()
        if elsewhere and not first and any(server.alive for server in self.servers):
            for server in servers:
                if server.post("/reset_prefix_cache", {}, _LOOK)[0] == _OK:
                    self._reload(server)
            return
        if servers and not first:
            self.restarts += len(servers)
            if self.restarts > self.spec.max_restarts:
                raise self._lost()
        for server in servers:
            server.starts += 1
            if not elsewhere:
                self._launch(server)
        self._wait_for(servers, 1 if elsewhere and not first else len(servers))
        if not any(server.alive for server in self.servers):
            raise self._lost()

    def _lost(self) -> RecipeError:
        problems = [server.problem for server in self.servers if server.problem]
        return RecipeError(errors.servers_lost(self.restarts, self.spec.max_restarts, problems[:1]))

    def _wait_for(self, servers: Sequence[Server], count: int) -> None:
        """Wait until a number of servers have taken over the weights, or for as long as it may take them."""
        limit = time.monotonic() + (self.spec.deadline if self.spec.elsewhere() else _START)
        while sum(server.alive for server in servers) < count and time.monotonic() < limit and not self.closed:
            time.sleep(_PAUSE)
            for server in [server for server in servers if not server.alive]:
                if server.process is not None and server.process.poll() is not None:
                    raise RecipeError(errors.engine_does_not_start(self.spec.type, self._last_words(server)))
                self._reload(server)

    def _launch(self, server: Server) -> None:
        if server.process is not None:
            self._processes.remove(server.process)
            _kill([server.process])
        server.address = _own_address()
        server.weights = self.weights
        options = {**self._options(self.weights), "max_model_len": self._positions(), "served_model_name": NAME}
        options |= {"host": server.address.hostname, "port": server.address.port, "enable_scale_out": True}
        options["disable_uvicorn_access_log"] = True
        flags = [word for name, value in options.items() for word in _flag(name, value)]
        kept = {name: value for name, value in os.environ.items() if name not in _OUTER}
        with self._log(server).open("wb") as log:
            server.process = subprocess.Popen(  # noqa: S603 - vLLM's own program; flags have no text of the user
                [*PROGRAM, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**ENVIRONMENT, **kept, **_ALLOWED},
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - it takes no lock
            )
        self._processes.append(server.process)

    def _log(self, server: Server) -> Path:
        return self.root / f"server-{self.servers.index(server)}.log"

    def _last_words(self, server: Server) -> str:
        lines = [line.strip() for line in self._log(server).read_text("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it ended without a message"

    # completions

    def _positions(self) -> int:
        return min(self.spec.max_context_length or self.policy.max_positions, self.policy.max_positions)

    def _drawn(self, requests: Sequence[VllmRequest]) -> list[Completion]:
        """Deal requests to the servers; those that came to nothing are dealt again."""
        assert not any(one.images for one in requests), "servers take no images, and requests show some"
        completions: list[Completion | None] = [None] * len(requests)
        while waiting := [i for i, one in enumerate(completions) if one is None]:
            live = [server for server in self.servers if server.alive]
            if self.closed:
                raise self._lost()
            if not live:
                with self._starting:
                    if not any(server.alive for server in self.servers):
                        self._start_all(self.servers)
                continue
            dealt = [(live[turn % len(live)], requests[i]) for turn, i in enumerate(waiting)]
            with ThreadPoolExecutor(min(len(waiting), self.spec.max_rows * len(live))) as pool:
                for i, completion in zip(waiting, pool.map(lambda pair: self._ask(*pair), dealt), strict=True):
                    completions[i] = completion
        return [one for one in completions if one is not None]

    def _ask(self, server: Server, one: VllmRequest) -> Completion | None:
        """Request one completion; None where the server is gone."""
        starts = server.starts  # before anything that may be of an earlier start
        if not server.alive:
            return None
        body = {"model": self.adapter or NAME, "token_ids": list(one.ids), "sampling_params": one.params}
        status, answer = server.post("/inference/v1/generate", body, self.spec.deadline)
        if 400 <= status < 500 and status != http.HTTPStatus.NOT_FOUND:
            raise RecipeError(errors.engine_fails(self.spec.type, _text(answer)))
        if status != _OK:  # not found: it was started again since, and has no such adapter
            if server.starts == starts:  # else it was lost, and is back
                server.lost()
            return None
        try:
            choice = json.loads(answer)["choices"][0]
            if {span["version"] for span in choice["weight_versions"]} != {self._version()}:
                server.lost()  # it was started again since
                return None
            logprob = tuple(float(token["logprob"]) for token in choice["logprobs"]["content"])
            return Completion(tuple(choice["token_ids"]), logprob, choice["finish_reason"] == "stop")
        except (ValueError, LookupError, TypeError) as error:
            raise RecipeError(errors.engine_fails(self.spec.type, f"its answer is {_text(answer)!r}")) from error


def _text(answer: bytes) -> str:
    """Return the beginning of what a server answers."""
    return answer.decode("utf-8", "replace")[:200]


def _flag(name: str, value: object) -> list[str]:
    """Write an argument of vLLM as its command line has it.

    >>> _flag("enable_chunked_prefill", False), _flag("max_num_seqs", 8)
    (['--no-enable-chunked-prefill'], ['--max-num-seqs', '8'])
    """
    word = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{word}" if value else f"--no-{word}"]
    return [f"--{word}", str(value)]


def _own_address() -> SplitResult:
    """Find a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return read_address("rollout server", f"http://127.0.0.1:{probe.getsockname()[1]}")


def _end_with_parent() -> None:
    """Let a server end with the thread that starts it: that of the run, or that of its lookahead."""
    with suppress(OSError, AttributeError):  # not on every system
        ctypes.CDLL(None).prctl(_WITH_PARENT, signal.SIGKILL)


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    processes.clear()
