"""The names of weights that come in numbered files: NAME-00001-of-00003.safetensors, .gguf or .bin."""

import re
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(
    r"(?P<stem>.+)-(?P<number>[0-9]{5})(?P<ending>-of-(?P<total>[0-9]{5})(\.safetensors|\.sft|\.gguf|\.bin))",
    re.IGNORECASE | re.DOTALL,
)
MOST_SHARDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A name, STEM-NUMBER ENDING, of one of `total` files; numbers begin at 1."""

    stem: str
    number: int
    ending: str
    total: int


def read_shard(name: str) -> Shard | None:
    """None for any other file, and for numbers that no set has. Letter case is free."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    number, total = int(match["number"]), int(match["total"])
    if not 1 <= number <= total <= MOST_SHARDS:
        return None
    return Shard(stem=match["stem"], number=number, ending=match["ending"], total=total)


def shard_name(stem: str, number: int, total: int) -> str:
    """As kinoform writes it."""
    return f"{stem}-{number:05d}-of-{total:05d}.safetensors"


def shards_of(file: Path) -> tuple[Path, ...]:
    """The files of the set that a shard belongs to, there or not, spelled as it is; any other file alone."""
    shard = read_shard(file.name)
    if shard is None:
        return (file,)
    return tuple(file.with_name(f"{shard.stem}-{n:05d}{shard.ending}") for n in range(1, shard.total + 1))
