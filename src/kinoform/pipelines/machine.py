"""The device that models run on, and the dtype of their products."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

from kinoform.errors import UsageError, nearest

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Device to compute on, and dtype of the networks' products."""

    device: torch.device
    dtype: torch.dtype


def choose_machine(device: str, dtype: str) -> Machine:
    """Choose float32 on a CPU, bfloat16 on an accelerator that has it, unless said otherwise.

    Raises UsageError for unknown names, and for a device that is not there.
    """
    if device not in DEVICES:
        raise UsageError(f"no device {device!r}; {nearest(device, DEVICES)}", code="unknown_device")
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError(f"no dtype {dtype!r}; {nearest(dtype, ['auto', *DTYPES])}", code="unknown_dtype")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
        if device == "mps":
            warnings.warn(
                "device auto takes mps, Apple's GPU, where no video has been compared with a CPU's yet; cpu is slower",
                stacklevel=3,
            )
    if not present[device]:
        raise UsageError(
            f"this machine has no {device} device that PyTorch can use; pass --device cpu", code="device_missing"
        )
    kind = _usual_dtype(device) if dtype == "auto" else DTYPES[dtype]
    return Machine(device=torch.device(device), dtype=kind)


def _usual_dtype(device: str) -> torch.dtype:
    if device == "mps":
        try:
            torch.ones(1, device=device, dtype=torch.bfloat16)
        except (RuntimeError, TypeError):  # before macOS 14
            return torch.float32
    return torch.float32 if device == "cpu" else torch.bfloat16
