"""Shards of a cache: safetensors files whose name is the hash of their bytes, so that no shard is ever changed.

A shard holds whole entries of one kind, made by the same encoders. What it holds stands in its own header; there is no
index that could say otherwise.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save
from torch import Tensor

from kinoform.checkpoints.formats import Stored, stored
from kinoform.checkpoints.hashes import file_hash
from kinoform.checkpoints.headers import read_header
from kinoform.errors import WeightsError
from kinoform.files import whole
from kinoform.training.cache.tree import Damaged, unpack

FORMAT = "kinoform-cache-1"
NAME = re.compile(r"(?P<kind>clips|text)-(?P<sha256>[0-9a-f]{64})\.safetensors")
KEY = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShard:
    """One file: nodes by the keys of its entries, and what encoded them; tensors are read when they are asked for."""

    path: Path
    kind: str
    made_by: Mapping[str, str]
    nodes: Mapping[str, Any] = field(repr=False)
    tensors: Mapping[str, Stored] = field(repr=False)
    size: int

    def read(self, key: str) -> Any:
        """Read an entry. Raises Damaged for NaN, infinity, and whatever is no entry; WeightsError if it is gone."""

        def tensor(name: str) -> Tensor:
            if name not in self.tensors:
                raise Damaged(f"lacks the tensor {name[:80]}")
            return self.tensors[name].read()

        return unpack(self.nodes[key], tensor)

    def check_bytes(self) -> None:
        """Raise Damaged unless the hash of its bytes is the one in its name."""
        named = NAME.fullmatch(self.path.name)
        if named is None or file_hash(self.path) != named["sha256"]:
            raise Damaged("is damaged: the hash of its bytes is not the one in its name")

    def check(self, parse: Callable[[Any], object]) -> None:
        """Read all of it. Raises Damaged unless it is as it was written, and `parse` takes every entry."""
        self.check_bytes()
        for key in self.nodes:
            parse(self.read(key))


def write_shard(
    folder: Path, kind: str, made_by: Mapping[str, str], nodes: Mapping[str, Any], tensors: dict[str, Tensor]
) -> Path:
    """Write a shard, whole or not at all, and return its path. Raises KinoformError when the disk is full."""
    metadata = {"format": FORMAT, "kind": kind, "made_by": json.dumps(dict(made_by)), "entries": json.dumps(nodes)}
    data = save(tensors, metadata)
    path = folder / f"{kind}-{hashlib.sha256(data).hexdigest()}.safetensors"
    with whole(path, force=True) as temporary:
        temporary.write_bytes(data)
    return path


def open_shard(path: Path) -> CacheShard:
    """Read the header of a shard. Raises Damaged for a file that is cut short, or is none."""
    try:
        header = read_header(path)
        metadata = dict(header.metadata)
        nodes, made_by = json.loads(metadata["entries"]), json.loads(metadata["made_by"])
    except WeightsError as error:
        raise Damaged(f"is damaged ({error})") from error
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise Damaged("is damaged, or no shard of a cache") from error
    kind, named = metadata.get("kind"), NAME.fullmatch(path.name)
    if metadata.get("format") != FORMAT:
        raise Damaged(f"has the format {metadata.get('format', '')[:40]!r}, which this version does not read")
    if kind is None or named is None or kind != named["kind"] or not _is_text(made_by):
        raise Damaged("is damaged, or no shard of a cache")
    if not isinstance(nodes, dict) or not all(KEY.fullmatch(key) for key in cast("dict[str, Any]", nodes)):
        raise Damaged("has entries whose keys are no hashes")
    return CacheShard(
        path=path, kind=kind, made_by=made_by, nodes=cast("dict[str, Any]", nodes), tensors=stored(header),
        size=header.stamp[1],
    )  # fmt: skip


def _is_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in cast("dict[str, object]", value).values())
