"""A stored matrix that can be had in two ways: as plain numbers, or as its bytes and how to unpack them."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from kinoform.checkpoints.formats import Stored
from kinoform.models.packed import Packing


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedStored(Stored):
    """`read` gives float32 numbers; `rows` gives what the file holds of each row, to be kept as it is."""

    rows: Callable[[], UInt8[Tensor, "n bytes"]]
    packing: Packing
