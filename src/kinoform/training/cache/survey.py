"""Survey of a cache: what its shards hold and who encoded it, as their headers say, without a model at hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinoform.errors import UsageError, WeightsError
from kinoform.files import missing
from kinoform.training.cache.examples import CLIPS, TEXT
from kinoform.training.cache.shards import CacheShard, open_shard
from kinoform.training.cache.store import BadShard, shards_in
from kinoform.training.cache.tree import Damaged
from kinoform.training.checkpoint import difference

KINDS = {kind.name: kind for kind in (CLIPS, TEXT)}

Tell = Callable[[int, int], None]
"""Called with the bytes that were checked, and all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGroup:
    """Shards of one kind by the same encoders. `sizes` counts clips by the shape of their latents [c, f, h, w].

    `stale` tells how its encoders differ from those of the newest group of its kind; empty for that one.
    """

    kind: str
    made_by: Mapping[str, str]
    shards: tuple[Path, ...]
    entries: int
    bytes: int
    sizes: Mapping[str, int]
    stale: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReport:
    """Contents of the cache in `folder`, and the files of it that are not what they were written as."""

    folder: Path
    groups: tuple[CacheGroup, ...]
    bad: tuple[BadShard, ...]

    @property
    def bytes(self) -> int:
        """Size of all shards, in bytes."""
        return sum(group.bytes for group in self.groups)

    @property
    def doomed(self) -> tuple[Path, ...]:
        """Files that are damaged, or that newer ones replaced."""
        stale = (path for group in self.groups if group.stale for path in group.shards)
        return tuple(dict.fromkeys((*stale, *(item.path for item in self.bad))))


def survey(folder: Path, *, check: bool = False, tell: Tell | None = None) -> CacheReport:
    """Read the headers of all shards; with `check` also all their bytes. Raises UsageError where there is no cache."""
    if not folder.exists():
        raise missing(folder)
    paths = shards_in(folder) if folder.is_dir() else []
    if not paths:
        raise UsageError(
            f"{folder} holds no cache; fill one with kinoform cache DATA --model MODEL", code="cache_missing"
        )
    shards, bad = list[CacheShard](), list[BadShard]()
    total, done = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        try:
            shard = open_shard(path)
            if check:
                shard.check(KINDS[shard.kind].parse)
            shards.append(shard)
        except (Damaged, WeightsError, OSError) as error:
            bad.append(BadShard(path=path, reason=str(error)))
        else:
            done += shard.size
            if tell is not None:
                tell(done, total)
    return CacheReport(folder=folder, groups=tuple(_groups(shards)), bad=tuple(bad))


def remove(report: CacheReport) -> None:
    """Remove the files that are damaged, or that newer ones replaced."""
    for path in report.doomed:
        path.unlink(missing_ok=True)


def _groups(shards: Iterable[CacheShard]) -> list[CacheGroup]:
    """Group shards by what encoded them, the newest group of each kind first."""
    alike: dict[tuple[str, tuple[tuple[str, str], ...]], list[CacheShard]] = defaultdict(list)
    for shard in shards:
        alike[shard.kind, tuple(sorted(shard.made_by.items()))].append(shard)
    newest_first = sorted(alike.values(), key=lambda group: (group[0].kind, -max(map(_changed, group))))
    newest: dict[str, Mapping[str, str]] = {}
    return [_group(group, newest.setdefault(group[0].kind, group[0].made_by)) for group in newest_first]


def _group(shards: list[CacheShard], newest: Mapping[str, str]) -> CacheGroup:
    sizes = Counter[str]()
    for shard in shards:
        shapes = (shard.tensors.get(f"{key}.latents") for key in shard.nodes)
        sizes.update("x".join(map(str, item.shape)) for item in shapes if item is not None and item.shape[1])
    return CacheGroup(
        kind=shards[0].kind,
        made_by=shards[0].made_by,
        shards=tuple(shard.path for shard in shards),
        entries=len({key for shard in shards for key in shard.nodes}),
        bytes=sum(shard.size for shard in shards),
        sizes=dict(sizes.most_common()),
        stale=difference(shards[0].made_by, newest),
    )


def _changed(shard: CacheShard) -> int:
    return shard.path.stat().st_mtime_ns
