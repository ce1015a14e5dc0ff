"""vLLM in processes of its own, reached by HTTP: token ids in, ids and log-probabilities out, never text.

Servers are started here or given as URLs.  Weights are handed over as a directory of safetensors, which each server
reads.  Requests to a dead or hung server are sent again, to another one or to itself once it is back.  A completion
depends on its key alone, so that it is the same one.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
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
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

from safetensors.torch import save_file
from torch import Tensor

from recipec.diagnostics.errors import rollout as errors
from recipec.diagnostics.model import RecipeError
from recipec.run.http_client import post, read_address
from recipec.runtime.protocols import Policy
from recipec.runtime.rollout.engine import Completion
from recipec.runtime.rollout.vllm_engine import ENVIRONMENT, VllmEngine, VllmRequest
from recipec.spec.rollout_engine import Vllm as Spec

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

NAME = "policy"
"""The model's name in requests."""
_MODULE = "vllm.entrypoints.openai.api_server"
_OUTER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # not theirs
_START = 900.0  # seconds: a large model is read from a slow disk
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

    def post(self, path: str, body: Any, seconds: float) -> tuple[int, bytes]:
        """Send one request and wait for the whole answer; (0, b"") if none came within ``seconds``."""
        sent = json.dumps(body).encode()
        try:
            return post(self.address._replace(path=path), sent, seconds, {"Content-Type": "application/json"})
        except (OSError, http.client.HTTPException):  # a deadline that passed is an OSError
            return 0, b""


class VllmServers(VllmEngine):
    """Sample with vLLM servers; see :class:`recipec.spec.rollout_engine.Vllm`."""

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy) -> None:
        """Sample from copies of ``policy``; servers start with the first weights."""
        super().__init__(spec, context, policy=policy)
        root = Path(self.folder.name) if context.home is None else context.home / "rollout_weights"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        self.root = root.resolve()
        self.restarts = 0
        self.closed = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._end = weakref.finalize(self, _kill, self._processes)
        given = () if isinstance(spec.servers, int) else spec.servers
        self.servers = [Server(read_address("rollout server", url), alive=True) for url in given]
        if isinstance(spec.servers, int):
            self.servers = [Server(_own_address()) for _ in range(spec.servers)]

    # weights

    def update_weights(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        """Write the weights, and let every server read them; start those that are not running.

        Raises:
            RecipeError: RC841, a server does not start; RC847, none is left.
        """
        former, self.versions = self._newest(), self.versions + 1
        shutil.copytree(self._described(), self._newest())
        # tied weights are one tensor under several names, which the format does not take
        save_file(
            {name: tensor.detach().cpu().clone() for name, tensor in weights}, self._newest() / "model.safetensors"
        )
        with ThreadPoolExecutor(max(1, len(self.servers))) as pool:
            list(pool.map(self._reload, [server for server in self.servers if server.alive]))
        self._start_all([server for server in self.servers if not server.alive], first=self.versions == 1)
        shutil.rmtree(former, ignore_errors=True)

    def rest(self) -> None:
        """Do nothing: servers have memory of their own."""

    def close(self) -> None:
        """End the servers that were started here; requests of another thread come to nothing."""
        self.closed = True
        for server in self.servers:
            server.alive = False
        self._end()
        shutil.rmtree(self.root, ignore_errors=True)
        self.folder.cleanup()

    def _newest(self) -> Path:
        return self.root / f"weights-{self.versions}"

    def _reload(self, server: Server) -> None:
        asked = {"method": "reload_weights", "kwargs": {"weights_path": str(self._newest())}}
        done = server.post("/collective_rpc", asked, self.spec.deadline)[0] == http.HTTPStatus.OK
        server.alive = done and server.post("/reset_prefix_cache", {}, self.spec.deadline)[0] == http.HTTPStatus.OK

    # processes

    def _start_all(self, servers: Sequence[Server], *, first: bool = False) -> None:
        """Start servers, or wait for those of others, until one at least is ready; all of them at the first time."""
        if not servers:
            return
        if not first:
            self.restarts += len(servers)
            if self.restarts > self.spec.max_restarts:
                raise RecipeError(errors.servers_lost(self.restarts, self.spec.max_restarts))
        own = isinstance(self.spec.servers, int)
        for server in servers if own else ():
            self._launch(server)
        limit = time.monotonic() + (_START if own else self.spec.deadline)
        while any(not server.alive for server in servers) and time.monotonic() < limit:
            time.sleep(_PAUSE)
            for server in [server for server in servers if not server.alive]:
                if server.process is not None and server.process.poll() is not None:
                    raise RecipeError(errors.engine_does_not_start(self.spec.type, self._last_words(server)))
                if own:
                    server.alive = server.post("/reset_prefix_cache", {}, 5.0)[0] == http.HTTPStatus.OK
                else:
                    self._reload(server)
        if not any(server.alive for server in self.servers):
            raise RecipeError(errors.servers_lost(self.restarts, self.spec.max_restarts))

    def _launch(self, server: Server) -> None:
        if server.process is not None:
            self._processes.remove(server.process)
            _kill([server.process])
        server.address = _own_address()
        options = {**self._options(self._newest()), "max_model_len": self._positions(), "served_model_name": NAME}
        options |= {"host": server.address.hostname, "port": server.address.port, "enable_scale_out": True}
        options["disable_uvicorn_access_log"] = True
        flags = [word for name, value in options.items() for word in _flag(name, value)]
        kept = {name: value for name, value in os.environ.items() if name not in _OUTER}
        with self._log(server).open("wb") as log:
            server.process = subprocess.Popen(  # noqa: S603 - vLLM's own program; flags have no text of the user
                [sys.executable, "-m", _MODULE, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**ENVIRONMENT, **kept, "VLLM_SERVER_DEV_MODE": "1"},
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

    def _drawn(self, asked: Sequence[VllmRequest]) -> list[Completion]:
        """Deal requests to the servers; those that came to nothing are dealt again."""
        found: list[Completion | None] = [None] * len(asked)
        while waiting := [i for i, one in enumerate(found) if one is None]:
            live = [server for server in self.servers if server.alive]
            if self.closed:
                raise RecipeError(errors.servers_lost(self.restarts, self.spec.max_restarts))
            if not live:
                self._start_all(self.servers)
                continue
            dealt = [(live[turn % len(live)], asked[i]) for turn, i in enumerate(waiting)]
            with ThreadPoolExecutor(min(len(waiting), self.spec.max_rows * len(live))) as pool:
                for i, made in zip(waiting, pool.map(lambda pair: self._ask(*pair), dealt), strict=True):
                    found[i] = made
        return [one for one in found if one is not None]

    def _ask(self, server: Server, one: VllmRequest) -> Completion | None:
        """Request one completion; None where the server is gone."""
        if not server.alive:
            return None
        body = {"model": NAME, "token_ids": list(one.ids), "sampling_params": one.params}
        status, answer = server.post("/inference/v1/generate", body, self.spec.deadline)
        if 400 <= status < 500:
            raise RecipeError(errors.engine_fails(self.spec.type, answer.decode("utf-8", "replace")[:200]))
        if status != http.HTTPStatus.OK:
            server.alive = False
            return None
        made = json.loads(answer)["choices"][0]
        logprob = tuple(float(token["logprob"]) for token in made["logprobs"]["content"])
        return Completion(tuple(made["token_ids"]), logprob, made["finish_reason"] == "stop")


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
    with suppress(OSError, AttributeError):  # not on every system
        ctypes.CDLL(None).prctl(_WITH_PARENT, signal.SIGKILL)


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    processes.clear()
