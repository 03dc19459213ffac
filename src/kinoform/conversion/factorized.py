"""Factorized blocks made of those with full attention: their temporal attention begins as an exact no-op.

The self-attention of a block stays as it is and becomes the spatial one; the temporal one begins as its copy. The rows
of modulation that scale, shift and gate it, in each block and in the time projection, begin at zero: whatever the
temporal attention finds is multiplied by zero, until training moves the gate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kinoform.checkpoints.write import Outgoing
from kinoform.errors import WeightsError
from kinoform.models.block import MODULATION_ROWS
from kinoform.models.factorized_block import ROWS, TIME_ATTENTION, has_time_attention

SPACE = re.compile(r"((?:.+\.)?blocks\.\d+)\.self_attention\.(.+)")
TABLE, PROJECTION = re.compile(r"(?:.+\.)?blocks\.\d+\.modulation"), re.compile(r"time_projection\.1\.(weight|bias)")


def factorized(path: Path, tensors: Iterable[Outgoing]) -> tuple[Outgoing, ...]:
    """Add to the tensors of a transformer, by own names, those that only factorized blocks have.

    Raises WeightsError, naming `path`, when the blocks are not those of full attention.
    """
    held = tuple(tensors)
    if has_time_attention(tensor.name for tensor in held):
        raise WeightsError(f"{path} has factorized blocks already; load it as it is", code="factorized_already")
    return tuple(grown for tensor in held for grown in _grown(path, tensor))


def _grown(path: Path, tensor: Outgoing) -> Iterator[Outgoing]:
    """Yield the tensor, with rows of zeros for time where it has a row for each modulation, and its copy for time."""
    if TABLE.fullmatch(tensor.name):
        yield _with_rows(path, tensor, 1)
        return
    if PROJECTION.fullmatch(tensor.name):
        yield _with_rows(path, tensor, 0)
        return
    yield tensor
    if match := SPACE.fullmatch(tensor.name):
        yield replace(tensor, name=f"{match[1]}{TIME_ATTENTION}{match[2]}")


def _with_rows(path: Path, tensor: Outgoing, axis: int) -> Outgoing:
    length = tensor.shape[axis] if len(tensor.shape) > axis else 0
    if length == 0 or length % MODULATION_ROWS:
        raise WeightsError(
            f"{path}: {tensor.name} has shape {list(tensor.shape)}, which full attention has not",
            code="weights_wrong_shape",
        )
    longer = length // MODULATION_ROWS * ROWS
    shape = (*tensor.shape[:axis], longer, *tensor.shape[axis + 1 :])

    def read() -> Tensor:
        stored = tensor.read()
        grown = torch.zeros(shape, dtype=stored.dtype)
        grown.narrow(axis, 0, length).copy_(stored)
        return grown

    return replace(tensor, shape=shape, read=read)
