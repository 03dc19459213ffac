"""Fit of a training to the memory of its device: what is computed twice, and what cannot be, said before it begins."""

from __future__ import annotations

import torch

from kinoform.errors import FitError
from kinoform.pipelines.fit import SURE, memory_of
from kinoform.training.clip_plan import ClipPlan
from kinoform.training.forecast import forecast
from kinoform.training.recompute import Recompute

ROOM = 0.9
"""The share of a device's memory that a step without recomputation may take by its forecast."""


def fitting_recompute(plan: ClipPlan, device: torch.device, *, there: int | None = None) -> Recompute:
    """Return NONE where a batch fits with all activations kept, else FULL. `there` are the bytes of the device."""
    there = memory_of(device) if there is None else there
    if there is None:
        return Recompute.NONE
    fits = forecast(plan, device=device.type).peaks["learning"] <= ROOM * there
    return Recompute.NONE if fits else Recompute.FULL


def check_step(plan: ClipPlan, device: torch.device, recompute: Recompute, *, there: int | None = None) -> None:
    """Raise FitError where the worst moment of a training surely takes more than the device has."""
    there = memory_of(device) if there is None else there
    if there is None:
        return
    peaks = forecast(plan, device=device.type, recompute=recompute).peaks
    stage, worst = max(peaks.items(), key=lambda item: item[1])
    if SURE * worst > there:
        raise FitError(
            f"{stage} takes about {worst / 1e9:.1f} GB and {device} has {there / 1e9:.1f} GB; give a smaller "
            "--clip-size, --clip-frames or --batch-tokens, --recompute full, --swap-blocks, or --dtype bfloat16",
            code="does_not_fit",
        )
