"""CLIP's vision tower on its way to a file of the official form."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kinoform.checkpoints.write import Outgoing
from kinoform.families.clip_qkv import LONGER

APART = re.compile(r"(.*\.attn\.to_)([qkv])(\.(?:weight|bias))")


def fused(tensors: Iterable[Outgoing]) -> tuple[Outgoing, ...]:
    """The inverse of `clip.separated`: q, k and v as one tensor, embeddings with their leading axes."""
    found: dict[str, list[Outgoing]] = {}
    for each in tensors:
        match = APART.fullmatch(each.name)
        found.setdefault(f"{match[1]}qkv{match[3]}" if match else each.name, []).append(each)
    return tuple(_official(name, parts) for name, parts in found.items())


def _official(name: str, parts: Sequence[Outgoing]) -> Outgoing:
    first = parts[0]
    if len(parts) == 1:
        longer = name.rpartition(".")[2] in LONGER
        shape = (1,) * (3 - len(first.shape)) + first.shape if longer else first.shape
        return replace(first, shape=shape)
    ordered = sorted(parts, key=lambda part: part.name)  # to_k, to_q, to_v
    inner = [ordered[place].read for place in (1, 0, 2)]
    return replace(first, name=name, shape=(3 * first.shape[0], *first.shape[1:]), read=_joined(inner))


def _joined(reads: Sequence[Callable[[], Tensor]]) -> Callable[[], Tensor]:
    return lambda: torch.cat([read() for read in reads])
