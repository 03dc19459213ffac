"""Saving what was learnt as a LoRA file, which is loaded and asked again before it counts as saved."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.errors import KinoformError
from kinoform.families.lora import LoRADialect
from kinoform.files import check_writable
from kinoform.loading.lora import attach_file, open_onto, parameter_shapes, save_lora
from kinoform.models.dit import DiT
from kinoform.models.lora import adapters_of, bare
from kinoform.models.lora_linear import Adapter
from kinoform.solvers.levels import noised
from kinoform.training.devices import CPU, moved
from kinoform.training.objective import predict_velocity
from kinoform.types import Latents

LOADED = "saved"
"""Name of the file's changes on the bare model."""

LEVELS = (0.95, 0.7, 0.4, 0.1)
"""Noise levels at which the loaded file is asked, and between which it is sampled."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Difference between two velocities relative to their size, by the dtype of the model: a file is loaded in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Latents, text rows and conditions, of one example, on which two models are compared."""

    latents: Latents
    rows: Float[Tensor, "1 n d"]
    condition: ConditionerOutput


def save_checked(
    path: Path, model: DiT, probe: Probe, *, name: str, dialect: LoRADialect, base: str, force: bool
) -> None:
    """Write the adapter `name` of a model, load the file onto the bare model, and compare and sample what that says.

    Raises KinoformError, and leaves no file, where the velocities of the loaded one are others; and as `save_lora`.
    """
    check_writable(path, force=force)
    draft = path.with_name(f".unchecked-{path.name}")
    try:
        save_lora(draft, model, name, dialect=dialect, base=base, force=True)
        plain = bare(model)
        opened = open_onto([parameter_shapes(plain)], [(draft, 1.0)], lambda line: None)
        ((file, _),) = opened.applied[0]
        loaded = attach_file(plain, file, 1.0, name=LOADED)
        compare_weights(adapters_of(model)[name], adapters_of(loaded).get(LOADED, {}), path)
        compare(model, loaded, probe, path)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@torch.no_grad()
def compare_weights(trained: Mapping[str, Adapter], loaded: Mapping[str, Adapter], path: Path) -> None:
    """Raise KinoformError where a layer is missing, or its matrices with their scale are others than those that learnt.

    A file is loaded in the dtype of its layer, and a scale without a place of its own is multiplied into a matrix: the
    products may differ by the rounding of that dtype.
    """
    for layer in sorted(trained.keys() | loaded.keys()):
        if layer not in loaded or layer not in trained:
            raise _differs(path, f"{layer} is in one of both alone")
        ours, theirs = trained[layer], loaded[layer]
        mine = ours.alpha / ours.rank * (ours.up.to(theirs.up.dtype).float() @ ours.down.to(theirs.down.dtype).float())
        found = theirs.alpha / theirs.rank * (theirs.up.float() @ theirs.down.float())
        error = float((mine - found).norm())
        if not error <= 4 * torch.finfo(theirs.up.dtype).eps * float(mine.norm()):
            raise _differs(path, f"{layer} differs by {error / max(float(mine.norm()), 1e-30):.2g} of its change")


@torch.no_grad()
def compare(trained: DiT, loaded: DiT, probe: Probe, path: Path) -> None:
    """Raise KinoformError where the loaded model answers otherwise than the trained one, or a sample is not finite."""
    generator, dtype = torch.Generator().manual_seed(0), trained.patch_embedding.weight.dtype
    noise = torch.randn(probe.latents.shape, generator=generator)
    worst = 0.0
    with _evaluating(trained), _evaluating(loaded):
        for level in LEVELS:
            x, sigma = noised(probe.latents, noise, torch.tensor([level])), torch.tensor([level])
            ours, theirs = (_velocity(model, x, sigma, probe) for model in (trained, loaded))
            worst = max(worst, float((ours - theirs).norm() / ours.norm()))
        x = noise
        for level, following in zip(LEVELS, (*LEVELS[1:], 0.0), strict=True):
            x = x + (following - level) * _velocity(loaded, x, torch.tensor([level]), probe)
    if not worst <= TOLERANCE[dtype] or not bool(torch.isfinite(x).all()):
        raise _differs(path, f"its velocities differ by {worst:.2g} from those that were learnt")


def _differs(path: Path, what: str) -> KinoformError:
    return KinoformError(
        f"{path} was not written: loaded again, {what}; the checkpoints are intact; please report this",
        code="saved_file_differs",
    )


def _velocity(model: DiT, x: Latents, sigma: Float[Tensor, " b"], probe: Probe) -> Tensor:
    device = next(model.parameters()).device
    conditions = moved(probe.condition.conditions(probe.rows), device)
    return predict_velocity(model, x.to(device), sigma.to(device), conditions).float().to(CPU)


@contextmanager
def _evaluating(model: DiT) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
