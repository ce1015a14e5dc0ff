"""Start the ranks of a run over the nodes of a Ray cluster: one actor a device.

Each actor runs the program that torchrun would start.  Ray places and kills it, and tells when it has died; ranks
exchange nothing through Ray, and end with JSON values.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util import get_node_ip_address
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch._C._distributed_c10d import PrefixStore, TCPStore

from recipec.diagnostics.errors import ranks as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.ranks import place
from recipec.runtime.distributed.gang import Attempt, Ended, Gang, T, log_of, print_to

_PASSED_ON = ("HF_", "NCCL_", "GLOO_", "OMP_", "VLLM_", "XDG_CACHE_HOME", "TOKENIZERS_", "TORCH_", "PYTHONHASHSEED")
"""Beginnings of the variables that ranks on other nodes take from this process, as those of torchrun do."""
_STOP = "stop"  # the key of the store that asks ranks to stop
_START = 300.0  # seconds that an actor may need to answer for the first time
_ANSWER = 10.0  # seconds in which the address of a cluster has to accept a connection
_QUIET = 5.0  # seconds of waiting for resources before a message


class Where(NamedTuple):
    """Where Ray started an actor."""

    node: str
    address: str
    devices: tuple[str, ...]
    """The GPUs that Ray gave to it."""


class Rank:
    """The actor of one rank; ``run`` is on the main thread of its process, where Python handles signals."""

    def where(self) -> Where:
        """Return the node and the GPUs of this actor."""
        context = ray.get_runtime_context()
        devices = tuple(str(number) for number in ray.get_gpu_ids())
        return Where(context.get_node_id(), get_node_ip_address(), devices)

    def run(self, entry: Callable[[T], Ended], argument: T, folder: str, log: str, variables: dict[str, str]) -> str:
        """Be one rank: print to a log, and return how it ended as JSON."""
        try:
            os.chdir(folder)
            print_to(Path(log))
        except OSError as error:
            return json.dumps({"crash": f"has no {error.filename}, which all nodes must share"})
        os.environ.update(variables)
        here = place()
        store = PrefixStore(f"attempt-{here.attempt}", TCPStore(here.address, here.port, is_master=False))
        threading.Thread(target=stop_on_signal, args=(store,), daemon=True).start()
        try:
            return json.dumps(entry(argument))
        except Exception as error:  # noqa: BLE001 - the log has the traceback
            return json.dumps({"crash": f"ended by {type(error).__name__}"})


@dataclass(slots=True)
class RayGang(Gang):
    """The ranks of a run as actors of a Ray cluster, ``size / nodes`` on each node.

    Example: ``RayGang(16, 3, Path("runs/a/logs"), print, nodes=2, device="auto", wait=600.0).run(rank, arguments)``.
    """

    nodes: int
    device: str
    """The machine's device: ``auto`` is a GPU where the cluster has any."""
    wait: float
    """Seconds to wait for the resources, also for those of a node that is gone to come back."""
    per_node: dict[str, float] = field(default_factory=dict, init=False)
    group: Any = field(default=None, init=False)
    actors: list[Any] = field(default_factory=list, init=False)

    def run(self, entry: Callable[[T], Ended], argument: T) -> list[Ended] | Diagnostic:
        """Run ``entry(argument)`` in every rank, connected to the cluster for all attempts.

        Raises:
            RecipeError: RC792, there is no cluster; RC794, it has no room.
        """
        connect(self.nodes, self.size)
        each = float(self.size // self.nodes)
        gpu = self.device == "cuda" or (self.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0)
        self.per_node = {"CPU": each} | ({"GPU": each} if gpu else {})
        try:
            return Gang.run(self, entry, argument)
        finally:
            ray.shutdown()

    def attempt(self, entry: Callable[[T], Ended], argument: T) -> Attempt:
        """Run the ranks once.

        Raises:
            RecipeError: RC794, the cluster has no room for them.
        """
        with self.counting_signals(lambda: None):  # Ray must not be called from a handler
            try:
                places = self._placed()
                return self._run_once(entry, argument, places) if places else ({}, (0, "was not started"))
            finally:
                self._release()

    def _run_once(self, entry: Callable[[T], Ended], argument: T, places: list[Where]) -> Attempt:
        """Give each actor its rank, and wait for the end of all."""
        store, address = self.rendezvous(get_node_ip_address())
        logs, folder = self.logs.absolute(), str(Path.cwd())
        leader = Following(log_of(logs, 0))
        runs = {}
        for rank, actor in enumerate(self.actors):
            variables = address | variables_of(rank, places)
            runs[actor.run.remote(entry, argument, folder, str(log_of(logs, rank)), variables)] = rank
        try:
            return self._watched(runs, store, places, leader)
        finally:
            leader.show()

    def _watched(self, runs: dict[Any, int], store: PrefixStore, places: list[Where], leader: Following) -> Attempt:
        """Wait until all ranks have ended, one has died, or those that are left wait for one that failed."""
        ended: dict[int, Ended] = {}
        counted = 0
        while runs and not self.overdue(store, ended):
            done, _ = ray.wait(list(runs), timeout=0.5)
            leader.show()
            for run in done:
                rank = runs.pop(run)
                try:
                    found = json.loads(ray.get(run))
                except RayError:
                    return ended, (rank, f"on node {places[rank].address} died")
                if "crash" in found:
                    return ended, (rank, f"on node {places[rank].address} {found['crash']}")
                ended[rank] = found
            if self.stopped > counted:
                counted = self.stopped
                if counted > 1:
                    return ended, (min(runs.values()), "was ended")
                store.set(_STOP, "1")
        return ended, None

    def _placed(self) -> list[Where]:
        """Start the actors; return where they are, or nothing where a signal to stop came first.

        Raises:
            RecipeError: RC794, the cluster has no room for them for longer than ``wait``.
        """
        began = time.monotonic()
        warned = False
        while not self.stopped:
            self.group = self.group or placement_group([self.per_node] * self.nodes, strategy="SPREAD")
            if self.group.wait(1.0):
                with suppress(RayError):  # a node that was just chosen is gone: choose again
                    return self._started()
                self._release()
            waited = time.monotonic() - began
            if waited > self.wait:
                raise RecipeError(errors.cluster_too_small(self._wanted(), _has(), waited))
            if not warned and waited > _QUIET:
                warned = True
                self.say(f"waiting for {self._wanted()}; the Ray cluster has {_has()}")
        return []

    def _started(self) -> list[Where]:
        """Start an actor for each device of the placement group, and order them by node."""
        variables = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        for rank in range(self.size):
            bundle = rank * self.nodes // self.size
            options = {
                "num_cpus": 1,
                "num_gpus": 1 if "GPU" in self.per_node else 0,
                "max_restarts": 0,
                "max_task_retries": 0,
                "runtime_env": {"env_vars": variables},
                "scheduling_strategy": PlacementGroupSchedulingStrategy(self.group, bundle),
            }
            self.actors.append(ray.remote(Rank).options(**options).remote())
        return ray.get([actor.where.remote() for actor in self.actors], timeout=_START)  # type: ignore[no-any-return]

    def _release(self) -> None:
        """End the actors and give their resources back."""
        for actor in self.actors:
            ray.kill(actor, no_restart=True)
        self.actors.clear()
        if self.group is not None:
            remove_placement_group(self.group)
            self.group = None

    def _wanted(self) -> str:
        each = ", ".join(f"{amount:g} {name}" for name, amount in self.per_node.items())
        return f"{self.nodes} node{'s' if self.nodes != 1 else ''} with {each}"


class Following:
    """Prints what is added to a file: the leader's log, whichever node it is on."""

    def __init__(self, log: Path) -> None:
        """Begin after what an earlier attempt wrote."""
        self.log = log
        self.shown = log.stat().st_size if log.exists() else 0

    def show(self) -> None:
        """Print what is new."""
        if not self.log.exists():
            return
        with self.log.open("rb") as file:
            file.seek(self.shown)
            new = file.read()
        self.shown += len(new)
        sys.stderr.buffer.write(new)
        sys.stderr.buffer.flush()


def connect(nodes: int, size: int) -> None:
    """Connect to the cluster of `RAY_ADDRESS` or of this machine; one node may do without, and starts its own.

    Raises:
        RecipeError: RC792, there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    answers(os.environ.get("RAY_ADDRESS", ""))
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        ray.init(address="auto", **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if nodes > 1 or "RAY_ADDRESS" in os.environ:
            raise RecipeError(errors.no_cluster(str(error).partition("\n")[0])) from error
        ray.init(num_cpus=max(size, os.cpu_count() or 1), include_dashboard=False, **quiet)


def answers(address: str) -> None:
    """Connect to ``HOST:PORT`` and hang up: Ray itself would try again for minutes. Other forms are left to Ray.

    Raises:
        RecipeError: RC792, nothing answers there.
    """
    host, _, port = address.rpartition(":")
    if "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()
    except OSError as error:
        raise RecipeError(errors.no_cluster(f"{address}: {error.strerror or error}")) from error


def variables_of(rank: int, places: list[Where]) -> dict[str, str]:
    """Return the variables that tell a rank its place, and the GPUs of all ranks of its node.

    Example: ``{"RANK": "2", "LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "2,3"}``.
    """
    mine = [number for number, where in enumerate(places) if where.node == places[rank].node]
    devices = [device for number in mine for device in places[number].devices]
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
    return {"RANK": str(rank), "LOCAL_RANK": str(mine.index(rank)), **visible}


def stop_on_signal(store: PrefixStore) -> None:
    """Stop this process after its step once the store says so; it ends with the launcher, which serves the store."""
    with suppress(RuntimeError):
        while not store.check([_STOP]):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)


def _has() -> str:
    resources: Mapping[str, float] = ray.cluster_resources()
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return (
        f"{nodes} node{'s' if nodes != 1 else ''}, {resources.get('CPU', 0):g} CPU and {resources.get('GPU', 0):g} GPU"
    )
