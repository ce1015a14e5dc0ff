"""The ranks of a run, connected by torch.distributed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, PrefixStore, TCPStore

from recipec.diagnostics.errors import ranks as errors
from recipec.diagnostics.exchange import from_values, to_values
from recipec.diagnostics.model import RecipeError
from recipec.host.ranks import Place, Ranks
from recipec.runtime.distributed.wire import pack, unpack

T = TypeVar("T")
_CONNECTION = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")


class RankLostError(RecipeError):
    """Another rank is gone or hangs: the run can only begin again from its last checkpoint."""

    codes = ("RC775", "RC776")


class ProcessGroup(Ranks):
    """The ranks of a run; exchanges go over the CPU, gradients and weights over the device's own links."""

    def __init__(self, here: Place, timeout: float) -> None:
        """Connect to the other ranks; an exchange that takes longer than ``timeout`` seconds has failed.

        Raises:
            RecipeError: RC778, the leader cannot be reached.
        """
        self.rank, self.size, self.local = here.rank, here.size, here.local
        self.timeout = timeout
        wait = timedelta(seconds=timeout)
        try:
            server = here.leads and not here.hosted
            store = TCPStore(here.address, here.port, here.size, is_master=server, timeout=wait)
            self.store = PrefixStore(f"attempt-{here.attempt}", store)
            group = PrefixStore("group", self.store)
            dist.init_process_group(_backend(), store=group, timeout=wait, rank=here.rank, world_size=here.size)
        except (RuntimeError, ValueError, OSError) as error:
            problem = str(error).partition("\n")[0]
            where = f"{here.address}:{here.port}"
            raise RecipeError(errors.no_process_group(here.rank, here.size, where, problem)) from error

    def on_leader(self, make: Callable[[], T]) -> T:
        """Let the leader compute a value; all have it, or all raise what it raised."""
        value: Any = None
        failure: Exception | None = None
        payload = b""
        if self.leads:
            try:
                value = make()
                payload = pack({"value": value})
            except Exception as error:  # noqa: BLE001 - sent to the others, then raised again
                failure, payload = error, pack(_failure(self.rank, error))
        data = self._sent(payload)
        if failure is not None:
            raise failure
        if self.leads:
            return value  # type: ignore[no-any-return]
        message = unpack(data)
        self._raised([message])
        return message["value"]  # type: ignore[no-any-return]

    def all_gather(self, act: str, make: Callable[[], T]) -> list[T]:
        """Let every rank compute a value; return those of all ranks, or raise on all what one raised."""
        self.store.set(f"act/{self.rank}", act)
        failure: Exception | None = None
        try:
            payload = pack({"value": make()})
        except RankLostError:
            raise
        except Exception as error:  # noqa: BLE001 - sent to the others, then raised again
            failure, payload = error, pack(_failure(self.rank, error))
            self.store.set(f"failed/{self.rank}", act)  # whoever waits in a collective never comes here
        messages = [unpack(data) for data in self._gathered(payload)]
        if failure is not None and not isinstance(failure, RecipeError):
            raise failure
        self._raised(messages)
        return [one["value"] for one in messages]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some rank."""
        payload = torch.tensor([int(flag)])
        with self._exchange():
            dist.all_reduce(payload, op=dist.ReduceOp.MAX)
        return bool(payload)

    def all_reduce_sum(self, tensor: T) -> T:
        """Add up a tensor of every rank, in place."""
        with self._exchange():
            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, tensor: T, rank: int) -> T:
        """Send a tensor of one rank to all, in place."""
        with self._exchange():
            dist.broadcast(tensor, rank)  # type: ignore[arg-type]
        return tensor

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.any(flag=False)

    def broken(self, error: RuntimeError) -> Exception:
        """Return a lost rank where the error is of a connection to another one, also inside an engine; else itself."""
        connection = isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _CONNECTION)
        return self.lost(error, 0.0) if connection else error

    def close(self) -> None:
        """Leave the group, once everybody is done."""
        dist.destroy_process_group()

    def _gathered(self, data: bytes) -> list[bytes]:
        """Exchange bytes; return those of all ranks."""
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self._exchange():
            dist.all_gather(lengths, torch.tensor([len(data)]))
            width = max(int(length) for length in lengths)
            padded = torch.frombuffer(bytearray(data.ljust(width, b"\0")), dtype=torch.uint8)
            buffers = [torch.empty(width, dtype=torch.uint8) for _ in lengths]
            dist.all_gather(buffers, padded)
        return [one[: int(length)].numpy().tobytes() for one, length in zip(buffers, lengths, strict=True)]

    def _sent(self, data: bytes) -> bytes:
        """Send the leader's bytes to all."""
        size = torch.tensor([len(data)])
        with self._exchange():
            dist.broadcast(size, 0)
            body = torch.empty(int(size), dtype=torch.uint8)
            if self.leads:
                body = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            dist.broadcast(body, 0)
        return body.numpy().tobytes()

    @staticmethod
    def _raised(failures: list[dict[str, Any]]) -> None:
        """Raise what some rank was refused, or that it crashed."""
        diagnostics = [value for one in failures for value in one.get("diagnostics", ())]
        if diagnostics:
            raise RecipeError(*dict.fromkeys(from_values(diagnostics)))
        for one in failures:
            if "crash" in one:
                raise RankLostError(errors.rank_lost(one["rank"], one["crash"], 0, "its standard error"))

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        """Turn a broken connection or a timeout into a lost rank, with what the others were doing."""
        began = time.monotonic()
        try:
            yield
        except (RuntimeError, ValueError) as error:
            raise self.lost(error, time.monotonic() - began) from error

    def lost(self, error: Exception, seconds: float) -> RankLostError:
        """Say what the other ranks did last, where the store still answers."""
        acts: dict[int, str] = {}
        for rank in range(self.size):
            try:
                if self.store.check([f"act/{rank}"]):
                    acts[rank] = self.store.get(f"act/{rank}").decode()
            except (RuntimeError, ValueError):
                break
        mine = acts.pop(self.rank, "an exchange between ranks")
        return RankLostError(errors.rank_hangs(mine, seconds, acts, str(error).partition("\n")[0]))


def alone() -> None:
    """Form a group of this process, for a library that works in groups alone."""
    if not dist.is_initialized():
        dist.init_process_group(_backend(), store=HashStore(), rank=0, world_size=1)


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"


def _failure(rank: int, error: BaseException) -> dict[str, Any]:
    if isinstance(error, RecipeError):
        return {"rank": rank, "diagnostics": to_values(error.diagnostics)}
    return {"rank": rank, "crash": f"crashed: {type(error).__name__}: {error}"}
