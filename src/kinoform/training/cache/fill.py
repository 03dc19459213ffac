"""Filling a cache: in one process or several, of one command or of several, stopped and continued at will.

The clips are dealt out in portions by their keys. Whoever works at a portion holds its lock, which the system ends with
the process; what a killed one had not written yet is done by another, or the next time.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol, runtime_checkable

import torch
from filelock import FileLock, Timeout
from jaxtyping import Float
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.training.cache.examples import EncodedClip, ExampleCache, prompt_key
from kinoform.training.distributed import ProcessGroup, SingleProcess, spawn

PORTION = 32
"""Clips, or captions, that are encoded under one lock and written together."""

LOCKS = ".locks"

LOOK = 1.0
"""Seconds between two looks at what other processes have done."""

WAIT = 0.2
"""Seconds between two looks at what another process works at."""

OnStage = Callable[[str, int, int], None]
"""Called with "clips" or "text", how many are there, and how many are to be."""


@runtime_checkable
class KeyedClip(Protocol):
    """A clip as the cache knows it: `key` is the hash of all that decides its pixels, `name` is for people."""

    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...


@runtime_checkable
class ClipEncoders(Protocol):
    """Encoders of a model: of a clip's video and inputs, and of prompts, which come after all clips.

    `clip` raises UsageError for a clip that cannot be read, which is passed over.
    """

    def clip(self, clip: Any) -> EncodedClip: ...
    def rows(self, prompts: list[str]) -> Float[Tensor, "b n d"]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FillPlan:
    """Contents that a cache is to have: `clips`, and then the features of `prompts`, which the cached clips decide.

    `encoders` opens the encoders, where something is missing. For more than one process all must be picklable. More
    than `most_bad` clips that cannot be read end the work.
    """

    cache: ExampleCache
    clips: Sequence[KeyedClip]
    prompts: Callable[[ExampleCache], list[str]]
    encoders: Callable[[], ClipEncoders]
    most_bad: int = 10

    @property
    def keys(self) -> list[str]:
        """The keys of the clips, each once."""
        return list(dict.fromkeys(item.key for item in self.clips))


def fill(plan: FillPlan, *, processes: int = 1, on_stage: OnStage | None = None) -> None:
    """Encode whatever is missing; clips that cannot be read are warned of and missing still.

    Raises UsageError when too many clips cannot be read, and KinoformError when the disk is full or a process ends:
    what was encoded is kept, and the next call goes on.
    """
    on_stage = on_stage or (lambda stage, done, total: None)
    if processes == 1:
        _work(SingleProcess(), plan, on_stage)
        return
    with _watched(plan, on_stage):
        spawn(processes, _work, (plan,))
    plan.cache.refresh()


@torch.no_grad()
def _work(group: ProcessGroup, plan: FillPlan, on_stage: OnStage = lambda stage, done, total: None) -> None:
    work, share = _Encoding(plan, on_stage), group.rank.index / group.rank.world_size
    with plan.cache as cache, closing(work):
        work.clips(share)
        work.text(share, plan.prompts(cache))


class _Encoding:
    """The work of one process at a plan; the encoders are opened when the first thing is missing."""

    def __init__(self, plan: FillPlan, on_stage: OnStage) -> None:
        self._plan, self._cache, self._on_stage = plan, plan.cache, on_stage
        self._encoders: ClipEncoders | None = None

    @property
    def encoders(self) -> ClipEncoders:
        if self._encoders is None:
            self._encoders = self._plan.encoders()
        return self._encoders

    def close(self) -> None:
        """Close the encoders, if anything was missing."""
        if self._encoders is not None:
            self._encoders.close()

    def clips(self, share: float) -> None:
        """Encode the clips that are missing."""
        clips, cache, bad = {item.key: item for item in self._plan.clips}, self._cache, set[str]()
        count = _Count("clips", len(clips), lambda: len(cache.missing(clips)), self._on_stage)

        def encode(keys: list[str]) -> None:
            for key in keys:
                try:
                    encoded = self.encoders.clip(clips[key])
                except UsageError as error:
                    bad.add(key)
                    if len(bad) > self._plan.most_bad:
                        raise UsageError(
                            f"{len(bad)} clips cannot be read, the last {clips[key].name}: {error}; repair them, or "
                            "take them out",
                            code="too_many_bad_clips",
                        ) from error
                    warnings.warn(f"{clips[key].name} is left out: {error}", stacklevel=2)
                    continue
                cache.write(key, encoded)
                count.add(1)

        _in_turn(cache, "clips", list(clips), share, lambda key: cache.has(key) or key in bad, encode)

    def text(self, share: float, prompts: list[str]) -> None:
        """Encode the prompts that are missing."""
        named, cache = {prompt_key(item): item for item in prompts}, self._cache
        count = _Count("text", len(named), lambda: len(cache.missing_rows(prompts)), self._on_stage)

        def encode(keys: list[str]) -> None:
            texts = [named[key] for key in keys]
            for text, rows in zip(texts, self.encoders.rows(texts), strict=True):
                cache.write_rows(text, rows)
            count.add(len(keys))

        _in_turn(cache, "text", list(named), share, lambda key: cache.has_rows(named[key]), encode)


class _Count:
    """Number of entries that are there; others' are counted now and then."""

    def __init__(self, stage: str, total: int, left: Callable[[], int], on_stage: OnStage) -> None:
        self._stage, self._total, self._left, self._on_stage = stage, total, left, on_stage
        self._done, self._counted = total - left(), time.monotonic()
        on_stage(stage, self._done, total)

    def add(self, more: int) -> None:
        if time.monotonic() - self._counted > 10 * LOOK:
            self._done, self._counted = self._total - self._left(), time.monotonic()
        else:
            self._done += more
        self._on_stage(self._stage, self._done, self._total)


@contextmanager
def _watched(plan: FillPlan, on_stage: OnStage) -> Iterator[None]:
    """Tell during the block how far other processes are, as their shards say."""
    ended, keys = Event(), plan.keys

    def watch() -> None:
        while True:
            plan.cache.refresh()
            left = len(plan.cache.missing(keys))
            on_stage("clips", len(keys) - left, len(keys))
            if ended.wait(LOOK):
                return

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _in_turn(
    cache: ExampleCache, kind: str, keys: list[str], share: float, done: Callable[[str], bool],
    encode: Callable[[list[str]], None],
) -> None:  # fmt: skip
    """Encode portion after portion, beginning at a share of them, until none is left that another works at."""
    portions = _portions(keys)
    first = int(share * len(portions))
    waiting = [*portions[first:], *portions[:first]]
    while waiting:
        held = list[list[str]]()
        for portion in waiting:
            if all(map(done, portion)):
                continue
            with _claimed(cache.folder, kind, portion) as mine:
                if not mine:
                    held.append(portion)
                    continue
                cache.refresh()
                if left := [key for key in portion if not done(key)]:
                    encode(left)
                    cache.flush()
        waiting = held
        if waiting:
            time.sleep(WAIT)
            cache.refresh()


def _portions(keys: list[str]) -> list[list[str]]:
    """Deal keys out by their hashes: the same key is in the same portion however many of the others are done."""
    count = -(-len(keys) // PORTION)
    portions: list[list[str]] = [[] for _ in range(count)]
    for key in sorted(keys):
        portions[int(key[:8], 16) % count].append(key)
    return [portion for portion in portions if portion]


@contextmanager
def _claimed(folder: Path, kind: str, portion: list[str]) -> Iterator[bool]:
    """Yield whether this process alone works at a portion during the block."""
    locks = folder / LOCKS
    locks.mkdir(exist_ok=True)
    path = locks / f"{kind}-{hashlib.sha256(''.join(portion).encode()).hexdigest()[:16]}"
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
        with suppress(OSError):
            path.unlink()
