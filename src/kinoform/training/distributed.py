"""Several processes that train as one: each computes its part of every batch, their gradients are averaged."""

import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from kinoform.errors import KinoformError, UsageError
from kinoform.stopping import stop_signals

PATIENCE = timedelta(hours=2)
"""The time for which a process waits for the others, which may be drawing samples."""


@dataclass(frozen=True, slots=True)
class Rank:
    """Process `index` of `world_size`, each of which computes an equal part of every batch."""

    index: int = 0
    world_size: int = 1

    def slice(self, count: int) -> slice:
        """Slice this process's part out of `count` samples. Raises UsageError when they cannot be dealt out evenly."""
        if count % self.world_size:
            raise UsageError(
                f"a batch of {count} cannot be shared by {self.world_size} processes; give a divisor of {count}",
                code="batch_not_divisible",
            )
        share = count // self.world_size
        return slice(self.index * share, (self.index + 1) * share)


@runtime_checkable
class ProcessGroup(Protocol):
    """The processes that share a training, and what one of them has to agree on with the others."""

    @property
    def rank(self) -> Rank: ...

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace each float32 tensor by its mean over the processes, in place."""
        ...

    def map_sharded(self, work: Callable[[Tensor], Tensor], stacks: Sequence[Tensor]) -> list[Tensor]:
        """Return `work(stack)` of each, in its shape; each process may do some of the k of [k, ...] and get the rest.

        Every process passes the same float32 stacks, and `work` treats each of the k by itself.
        """
        ...

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set in one of the processes."""
        ...


class SingleProcess:
    """A group of one."""

    rank = Rank()

    def mean(self, tensors: Iterable[Tensor]) -> None: ...

    def map_sharded(self, work: Callable[[Tensor], Tensor], stacks: Sequence[Tensor]) -> list[Tensor]:
        return [work(stack) for stack in stacks]

    def any(self, flag: bool) -> bool:
        return flag


class GlooGroup:
    """One of the processes that `spawn` started."""

    def __init__(self, rank: Rank) -> None:
        self.rank = rank
        self._parent = os.getppid()

    def mean(self, tensors: Iterable[Tensor]) -> None:
        parts = list(tensors)
        flat = torch.cat([part.flatten() for part in parts]).cpu()  # where gloo works on every machine
        distributed.all_reduce(flat)
        flat /= self.rank.world_size
        for part, mean in zip(parts, _split(flat, parts), strict=True):
            part.copy_(mean.view_as(part))

    def map_sharded(self, work: Callable[[Tensor], Tensor], stacks: Sequence[Tensor]) -> list[Tensor]:
        """Share the work on the CPU; on accelerators each process does it all, since sending it would take longer."""
        if any(stack.device.type != "cpu" for stack in stacks):
            return [work(stack) for stack in stacks]
        flat = torch.zeros(sum(stack.numel() for stack in stacks))
        results = [part.view_as(stack) for part, stack in zip(_split(flat, stacks), stacks, strict=True)]
        for result, stack in zip(results, stacks, strict=True):
            mine = slice(self.rank.index, None, self.rank.world_size)
            result[mine] = work(stack[mine])
        distributed.all_reduce(flat)
        return results

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is set, or the process that started the group is gone."""
        raised = torch.tensor(float(flag or os.getppid() != self._parent))
        distributed.all_reduce(raised)
        return bool(raised)


def _split(flat: Tensor, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return flat.split([item.numel() for item in like])


def spawn(count: int, work: Callable[..., object], arguments: Sequence[Any] = ()) -> None:
    """Run `work(group, *arguments)` in `count` processes with as many threads each as this one has.

    Function and arguments must be picklable. Ctrl-C, SIGTERM and SIGHUP are handed to the first process, once each,
    and are for `work` to obey. Raises the KinoformError that one of them raised, or one of its own when a
    process was killed; the others are ended then.
    """
    context = get_context("spawn")
    failures = cast("SimpleQueue[KinoformError]", context.SimpleQueue())
    with tempfile.TemporaryDirectory() as folder:
        meeting, threads = (Path(folder) / "meeting").as_uri(), torch.get_num_threads()
        started = start_processes(
            _member, (count, meeting, threads, failures, work, arguments), nprocs=count, join=False
        )
        assert started is not None
        with _handed_on(started.processes[0]):
            try:
                while not started.join():
                    pass
            except (ProcessRaisedException, ProcessExitedException):
                ends = [process.exitcode for process in started.processes if process is not None]
                killed = getattr(signal, "SIGKILL", None)  # which Windows has not
                if failures.empty() and killed is not None and -killed in ends:
                    raise KinoformError(
                        f"one of {count} processes was killed, perhaps for want of memory; run the same command to "
                        "continue from the newest checkpoint, or one with fewer processes",
                        code="process_killed",
                    ) from None
                if failures.empty():
                    raise
    if not failures.empty():
        raise failures.get()


def _member(
    index: int, count: int, meeting: str, threads: int, failures: "SimpleQueue[KinoformError]",
    work: Callable[..., object], arguments: Sequence[Any],
) -> None:  # fmt: skip
    _heed_the_first_alone(index)
    torch.set_num_threads(threads)
    if (interface := loopback()) is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    distributed.init_process_group("gloo", init_method=meeting, rank=index, world_size=count, timeout=PATIENCE)
    try:
        work(GlooGroup(Rank(index, count)), *arguments)
    except KinoformError as failure:
        failures.put(failure)
        raise
    finally:
        distributed.destroy_process_group()
    # Threads of PyTorch that are taken down with the interpreter abort a process now and then, when its work is done.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def loopback() -> str | None:
    """Return the name of the loopback interface: `lo` on Linux, `lo0` on macOS; else None."""
    names = (name for _, name in socket.if_nameindex())
    return next((name for name in sorted(names) if re.fullmatch(r"lo\d*", name)), None)


def _heed_the_first_alone(index: int) -> None:
    """Keep a terminal's Ctrl-C from every process but the first, which must not have it twice."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # the first has it from `spawn`
    elif index > 0:  # on Windows, where the first has it from the terminal
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class _handed_on:
    """Context that hands signals to this process on to another one."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        for number in stop_signals():
            self._former[number] = signal.signal(number, self._hand_on)

    def __exit__(self, *error: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        if hasattr(os, "setpgrp") and self._process.is_alive():
            os.kill(self._process.pid, number)
