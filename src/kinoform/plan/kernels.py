"""Copies that the kernels of a device make for themselves, beside the tensors that the code holds.

They differ between processors, so a plan counts them in a row of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kinoform.ops.cpu import multiplies


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Habits of a device's kernels, for networks in one dtype.

    `parts`: attention takes some queries at a time, for which q and k are set in order (`ops/attention.py`).
    `ordered`: a convolution copies its weights into an order of its own.
    """

    parts: bool
    ordered: bool


def kernels_of(device: str, dtype: torch.dtype) -> Kernels:
    """The kernels of this processor where `device` is cpu. What an accelerator's libraries copy is not known: none."""
    here = device == "cpu"
    return Kernels(parts=here and multiplies(dtype), ordered=here)
