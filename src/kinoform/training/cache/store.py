"""Entries of one kind in a folder of shards, by key; several processes may write and read the folder at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from kinoform.errors import KinoformError, UsageError, WeightsError
from kinoform.training.cache.shards import NAME, CacheShard, open_shard, write_shard
from kinoform.training.cache.tree import Damaged, pack
from kinoform.training.checkpoint import difference

T = TypeVar("T")

SHARD_BYTES = 256_000_000
"""Bytes of tensors from which on a shard is written."""

SHARD_SECONDS = 120.0
"""Seconds from which on a shard is written with what there is: so much work a kill may cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadShard:
    """A file that is not read, and why: the end of a sentence about it."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryKind(Generic[T]):
    """Kind of entry: the `name` that its shards begin with, and what makes a value of one, or raises Damaged."""

    name: str
    parse: Callable[[Any], T]


class EntryStore(Generic[T]):
    """Entries of a `kind`, made by encoders with these properties; shards made by others are `stale` and not read.

    Entries that are written are held until a shard of them is full, or `flush` is called. Warns of damaged shards,
    whose entries count as not there. Raises UsageError for a folder that cannot be made.
    """

    def __init__(self, folder: Path, kind: EntryKind[T], made_by: Mapping[str, str]) -> None:
        self.folder, self.kind, self.made_by = folder, kind, dict(made_by)
        self.shards: dict[str, CacheShard] = {}
        self.stale: dict[str, CacheShard] = {}
        self.bad: dict[str, BadShard] = {}
        self._index: dict[str, CacheShard] = {}
        self._nodes: dict[str, Any] = {}
        self._tensors: dict[str, Tensor] = {}
        self._since = time.monotonic()
        made_folder(folder)
        self.refresh()

    def refresh(self) -> None:
        """Find the shards that others have written or removed meanwhile."""
        there = {path.name: path for path in sorted(self.folder.glob(f"{self.kind.name}-*.safetensors"))}
        known = self.shards.keys() | self.stale.keys() | self.bad.keys()
        for gone in known - there.keys():
            self._forget(gone)
        for name in there.keys() - known:
            try:
                self._take(open_shard(there[name]))
            except Damaged as damage:
                self.bad[name] = BadShard(path=there[name], reason=str(damage))
                warnings.warn(f"{there[name]} {damage}; what it held is encoded again", stacklevel=2)

    def keys(self) -> Collection[str]:
        """Return the keys of all entries, those included that are not on disk yet."""
        return self._index.keys() | self._nodes.keys()

    def __contains__(self, key: str) -> bool:
        return key in self._index or key in self._nodes

    def read(self, key: str) -> T:
        """Read an entry from disk.

        Raises UsageError for a key that is not there, and KinoformError for an entry that is damaged.
        """
        if key in self._nodes:
            self.flush()
        shard = self._index.get(key)
        if shard is None:
            raise UsageError(f"the cache {self.folder} has no entry {key}; fill it again", code="cache_entry_missing")
        try:
            return self.kind.parse(shard.read(key))
        except (Damaged, WeightsError) as damage:
            says = f"{shard.path} {damage}" if isinstance(damage, Damaged) else str(damage)
            raise KinoformError(
                f"{says}; run kinoform cache {self.folder} --prune, and fill it again", code="cache_damaged"
            ) from damage

    def peek(self, key: str, name: str) -> Any:
        """Return a plain value of an entry that is a mapping, of which nothing else is read; None where it has none."""
        node = self._nodes.get(key) or self._index[key].nodes[key]
        value = node.get("map", {}).get(name) if isinstance(node, dict) else None
        return value.get("value") if isinstance(value, dict) else None

    def write(self, key: str, value: object, dtype: torch.dtype) -> None:
        """Add an entry, unless it is there. Raises as `pack`, and KinoformError when the disk is full."""
        if key in self:
            return
        tensors: dict[str, Tensor] = {}
        node = pack(value, dtype, tensors, key)
        if not self._nodes:
            self._since = time.monotonic()
        self._nodes[key] = node
        self._tensors |= tensors
        full = sum(item.nbytes for item in self._tensors.values()) >= SHARD_BYTES
        if full or time.monotonic() - self._since > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet as a shard."""
        if not self._nodes:
            return
        path = write_shard(self.folder, self.kind.name, self.made_by, self._nodes, self._tensors)
        self._nodes, self._tensors = {}, {}
        self._take(open_shard(path))

    def differences(self) -> list[str]:
        """Return how the encoders of stale shards differ from these, each difference once."""
        return sorted({difference(item.made_by, self.made_by) for item in self.stale.values()})

    def prune(self, used: Collection[str] | None) -> int:
        """Remove what is damaged, stale or, given the keys that are `used`, of no use; return the bytes removed.

        What is left of a shard is written anew before the shard is removed.
        """
        self.flush()
        before = self.bytes
        doomed = [self.folder / name for name in (*self.stale, *self.bad)]
        for shard in list(self.shards.values()):
            try:
                shard.check(self.kind.parse)
                kept = [key for key in shard.nodes if used is None or key in used]
                if len(kept) < len(shard.nodes):
                    self._rewrite(shard, kept)
                    doomed.append(shard.path)
            except (Damaged, WeightsError):
                doomed.append(shard.path)
        for path in doomed:
            path.unlink(missing_ok=True)
        self.refresh()
        return before - self.bytes

    def heal(self) -> None:
        """Hash every shard that is read, and remove the damaged, which are warned of, so that they are made again."""
        for shard in list(self.shards.values()):
            try:
                shard.check_bytes()
            except (Damaged, OSError) as damage:
                warnings.warn(f"{shard.path} {damage}; what it held is encoded again", stacklevel=2)
                shard.path.unlink(missing_ok=True)
        for item in self.bad.values():
            item.path.unlink(missing_ok=True)
        self.refresh()

    def check(self) -> list[BadShard]:
        """Read every shard, stale ones included, and return those that are damaged."""
        bad = list(self.bad.values())
        for shard in (*self.shards.values(), *self.stale.values()):
            try:
                shard.check(self.kind.parse)
            except Damaged as damage:
                bad.append(BadShard(path=shard.path, reason=str(damage)))
            except WeightsError as error:
                bad.append(BadShard(path=shard.path, reason=f"cannot be read ({error})"))
        return bad

    @property
    def bytes(self) -> int:
        """Size of all files of this kind, whether they are of use or not."""
        return sum(path.stat().st_size for path in self.folder.glob(f"{self.kind.name}-*.safetensors"))

    def _take(self, shard: CacheShard) -> None:
        if difference(shard.made_by, self.made_by):
            self.stale[shard.path.name] = shard
            return
        self.shards[shard.path.name] = shard
        for key in shard.nodes:
            self._index.setdefault(key, shard)

    def _forget(self, name: str) -> None:
        self.stale.pop(name, None)
        self.bad.pop(name, None)
        if self.shards.pop(name, None) is not None:
            self._index = {key: shard for shard in self.shards.values() for key in shard.nodes}

    def _rewrite(self, shard: CacheShard, kept: Iterable[str]) -> None:
        nodes = {key: shard.nodes[key] for key in kept}
        prefixes = tuple(f"{key}." for key in nodes)
        tensors = {name: item.read() for name, item in shard.tensors.items() if name.startswith(prefixes)}
        if nodes:
            write_shard(self.folder, self.kind.name, shard.made_by, nodes, tensors)


def made_folder(folder: Path) -> None:
    """Make the folder of a cache if need be. Raises UsageError when it is a file or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{folder} is a file; choose a folder for the cache", code="not_a_folder") from None
    except OSError as failure:
        raise UsageError(
            f"the folder {folder} cannot be written ({failure.strerror or failure}); choose another for the cache",
            code="folder_not_writable",
        ) from failure


def shards_in(folder: Path) -> list[Path]:
    """Return the files in a folder that are named as shards of any kind."""
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
