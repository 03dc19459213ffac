"""Filling a cache: in one process or several, of one command or of several, stopped and continued at will.

The clips are dealt out in portions by their keys. Whoever works at a portion holds its lock, which the system ends with
the process; what a killed one had not written yet is done by another, or the next time.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from filelock import FileLock, Timeout
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.errors import UsageError
from kinoform.training.cache.examples import ExampleCache, prompt_key
from kinoform.training.distributed import ProcessGroup, SingleProcess, spawn

PORTION = 32
"""Clips, or captions, that are encoded under one lock and written together."""

LOCKS = ".locks"
RECOUNT = 10.0
"""Seconds between two counts of what is there."""

WAIT = 0.2
"""Seconds between two looks at what another process works at."""


@runtime_checkable
class CachedClip(Protocol):
    """A clip as the cache knows it: `key` is the hash of all that decides its pixels, `name` is for people."""

    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...


@runtime_checkable
class Encodes(Protocol):
    """Encoders of a model: of a clip's video and inputs, and of prompts.

    `clip` raises UsageError for a clip that cannot be read, which is passed over.
    """

    def clip(self, clip: Any) -> tuple[Float[Tensor, "c f h w"], ConditionerOutput]: ...
    def rows(self, prompts: list[str]) -> Float[Tensor, "b n d"]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FillPlan:
    """Contents that a cache is to have: `clips`, and the features of `prompts`, by what `encoders` opens.

    `cache` opens the cache; both are called in each process, so they must be picklable for more than one. More than
    `most_bad` clips that cannot be read end the work.
    """

    clips: Sequence[CachedClip]
    prompts: Sequence[str]
    cache: Callable[[], ExampleCache]
    encoders: Callable[[], Encodes]
    most_bad: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FillProgress:
    """State of the work: entries that are there, of all that are to be; `began` were there at first."""

    done: int
    total: int
    began: int
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """Time that the rest takes at the pace so far; None before there is one."""
        made = self.done - self.began
        return self.seconds / made * (self.total - self.done) if made else None


Said = Callable[[FillProgress], None]


def fill(plan: FillPlan, *, processes: int = 1, said: Said | None = None) -> ExampleCache:
    """Encode whatever is missing, and return the cache; clips that cannot be read are warned of and still missing.

    `said` is called after each entry, in the first process; it must be picklable for more than one. Raises UsageError
    when too many clips cannot be read, and KinoformError when the disk is full or a process ends: what was encoded is
    kept, and the next call goes on.
    """
    if processes == 1 or not _missing(plan):
        _work(SingleProcess(), plan, said)
    else:
        spawn(processes, _work, (plan, said))
    return plan.cache()


def _missing(plan: FillPlan) -> int:
    cache = plan.cache()
    return len(cache.missing(item.key for item in plan.clips)) + len(cache.missing_rows(plan.prompts))


@torch.no_grad()
def _work(group: ProcessGroup, plan: FillPlan, said: Said | None) -> None:
    clips = {item.key: item for item in plan.clips}
    prompts = {prompt_key(item): item for item in plan.prompts}
    bad = list[str]()
    with plan.cache() as cache:
        told = _Told(cache, list(clips), list(prompts.values()), said if group.rank.index == 0 else None)
        if told.left() == 0:
            return
        encoders = plan.encoders()

        def encode_clips(keys: list[str]) -> None:
            for key in keys:
                try:
                    latents, condition = encoders.clip(clips[key])
                except UsageError as error:
                    bad.append(key)
                    warnings.warn(f"{clips[key].name} is passed over: {error}", stacklevel=2)
                    if len(bad) > plan.most_bad:
                        raise UsageError(
                            f"{len(bad)} clips cannot be read, the last {clips[key].name}: {error}; repair them, or "
                            "take them out",
                            code="too_many_bad_clips",
                        ) from error
                    continue
                cache.write(key, latents, condition)
                told.say(1)

        def encode_prompts(keys: list[str]) -> None:
            texts = [prompts[key] for key in keys]
            for text, rows in zip(texts, encoders.rows(texts), strict=True):
                cache.write_rows(text, rows)
            told.say(len(keys))

        share = group.rank.index / group.rank.world_size
        _in_turn(cache, "clips", list(clips), share, lambda key: cache.has(key) or key in bad, encode_clips)
        _in_turn(cache, "text", list(prompts), share, lambda key: cache.has_rows(prompts[key]), encode_prompts)


class _Told:
    """Listener that is told how far the work is; others' work is counted now and then."""

    def __init__(self, cache: ExampleCache, keys: list[str], prompts: list[str], said: Said | None) -> None:
        self._cache, self._keys, self._prompts, self._said = cache, keys, prompts, said
        self._total, self._since = len(keys) + len(prompts), time.monotonic()
        self._counted, self._done = self._since, self._total - self.left()
        self._began = self._done

    def left(self) -> int:
        return len(self._cache.missing(self._keys)) + len(self._cache.missing_rows(self._prompts))

    def say(self, more: int) -> None:
        """Say that so many more entries are there."""
        now = time.monotonic()
        if now - self._counted > RECOUNT:
            self._counted, self._done = now, self._total - self.left()
        else:
            self._done += more
        if self._said is not None:
            seconds = now - self._since
            self._said(FillProgress(done=self._done, total=self._total, began=self._began, seconds=seconds))


def _in_turn(
    cache: ExampleCache, kind: str, keys: list[str], share: float, done: Callable[[str], bool],
    encode: Callable[[list[str]], None],
) -> None:  # fmt: skip
    """Encode portion after portion, beginning at a share of them, until none is left that nobody works at."""
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
                encode([key for key in portion if not done(key)])
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
    name = hashlib.sha256("".join(portion).encode()).hexdigest()[:16]
    lock = FileLock(locks / f"{kind}-{name}", timeout=0)
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
            (locks / f"{kind}-{name}").unlink()
