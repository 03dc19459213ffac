"""Several processes that share the scenes of an evaluation, each with models of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeAlias

import torch

from kinoform.errors import KinoformError
from kinoform.evaluation.benchmark import MakeSideScenes, ModelUnderTest
from kinoform.evaluation.case import Task
from kinoform.evaluation.evaluate import SceneVideos, make_scene

Prepare: TypeAlias = Callable[[], tuple[Sequence[ModelUnderTest], Sequence[Task]]]
"""Picklable function that loads the sides of an evaluation and draws up its tasks, the same in every process."""


@contextmanager
def several(count: int, prepare: Prepare) -> Iterator[MakeSideScenes | None]:
    """Yield a function that makes scenes in `count` processes, or None for one process, which needs none.

    The processes share the threads of this one. They are started for the first scene, and ended in any case.
    """
    if count == 1:
        yield None
        return
    context, processes = get_context("spawn"), list[SpawnProcess]()
    threads = max(1, torch.get_num_threads() // count)

    @cache
    def start() -> list[Connection]:
        pipes = []
        for _ in range(count):
            mine, theirs = context.Pipe()
            processes.append(context.Process(target=_work, args=(theirs, threads, prepare), daemon=True))
            processes[-1].start()
            theirs.close()  # so that the end of the process is the end of the pipe
            pipes.append(mine)
        return pipes

    try:
        yield lambda side, task, scenes: shared_scenes(start(), side, task, scenes)
    finally:
        started = [process for process in processes if process.pid is not None]
        for process in started:
            process.terminate()
        for process in started:
            process.join()


def shared_scenes(pipes: Sequence[Connection], side: int, task: Task, count: int) -> Iterator[SceneVideos]:
    """Make the first `count` scenes of a task and yield them in order; whichever process is free makes the next.

    Raises the KinoformError of a process, and one of its own where a process has ended.
    """
    waiting, busy, done = iter(range(count)), dict[Connection, int](), dict[int, SceneVideos]()
    free, following = list(pipes), 0
    try:
        while following < count:
            for pipe, number in zip(free, waiting, strict=False):
                pipe.send((side, task.name, number))
                busy[pipe] = number
            ready = wait(list(busy))
            free = [pipe for pipe in busy if pipe in ready]
            done |= {busy.pop(pipe): _received(pipe) for pipe in free}
            while following in done:
                yield done.pop(following)
                following += 1
    except (EOFError, ConnectionError):
        raise KinoformError(
            f"one of {len(pipes)} processes ended, perhaps for want of memory; use fewer --processes",
            code="process_killed",
        ) from None


def _received(pipe: Connection) -> SceneVideos:
    received = pipe.recv()
    if isinstance(received, KinoformError):
        raise received
    return received


def _work(pipe: Connection, threads: int, prepare: Prepare) -> None:
    """Make scenes until the process at the other end is gone, or ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the other process too
    torch.set_num_threads(threads)
    sides, tasks = prepare()
    by_name = {task.name: task for task in tasks}
    try:
        while True:
            index, name, number = pipe.recv()
            side = sides[index]
            try:
                pipe.send(make_scene(side.pipeline, by_name[name], number, side.changes))
            except KinoformError as error:
                pipe.send(error)
    except (EOFError, ConnectionError):
        return
