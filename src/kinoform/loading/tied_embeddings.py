"""A checkpoint under the plain names of its dialect: without prefix, without doubled tensors."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kinoform.checkpoints.files import Checkpoint
from kinoform.checkpoints.formats import Stored
from kinoform.errors import WeightsError
from kinoform.families.dialects import TIED


def without_prefix(checkpoint: Checkpoint, prefix: str) -> Checkpoint:
    """The tensors whose names begin with the prefix, without it; all other tensors are left out."""
    tensors = {
        name.removeprefix(prefix): stored for name, stored in checkpoint.tensors.items() if name.startswith(prefix)
    }
    return replace(checkpoint, tensors=tensors)


def untied(checkpoint: Checkpoint) -> Checkpoint:
    """transformers' two names of the token embedding as the first of them.

    Where a file holds both, they are compared when the embedding is read: WeightsError when they differ.
    """
    name, alias = TIED
    tensors = {key: stored for key, stored in checkpoint.tensors.items() if key not in TIED}
    first, second = checkpoint.tensors.get(name), checkpoint.tensors.get(alias)
    if first is not None:
        tensors[name] = first if second is None else replace(first, read=_compared(first, second))
    elif second is not None:
        tensors[name] = second
    return replace(checkpoint, tensors=tensors)


def _compared(first: Stored, second: Stored) -> Callable[[], Tensor]:
    def read() -> Tensor:
        found = first.read()
        if not torch.equal(found, second.read()):
            raise WeightsError(
                f"{second.file}: {TIED[1]} and {TIED[0]} differ, though they are one tensor; get the file again",
                code="weights_damaged",
            )
        return found

    return read
