"""Saving what was learnt as a LoRA file, which is loaded and asked again before it counts as saved."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.checkpoints.reader import HeaderReader
from kinoform.conditions.protocols import ConditionerOutput
from kinoform.errors import KinoformError
from kinoform.families.adapter import DOWN, UP
from kinoform.families.lora import LoRADialect
from kinoform.files import check_writable
from kinoform.loading.adapters import ADDED, AdapterFile, adapter_in, added_shapes, save_adapter, with_adapter
from kinoform.loading.additions import PATCH, Additions
from kinoform.loading.lora import attach_file, open_onto, parameter_shapes, save_lora
from kinoform.loading.parts import Parts
from kinoform.models.dit import DiT, DiTSpec, keeps_float32
from kinoform.models.lora import adapters_of, bare
from kinoform.models.lora_linear import Adapter
from kinoform.recipe import Recipe
from kinoform.solvers.levels import noised
from kinoform.training.devices import CPU, moved
from kinoform.training.examples import Example
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


def probe_of(example: Example, rows: Float[Tensor, "1 n d"]) -> Probe:
    """Return an example and the rows of its prompt as a probe; images that stand before its video are part of it."""
    latents, before = example.latents[None], example.condition.constraints.prefix_latents
    latents = latents if before is None else torch.cat([before.to(latents), latents], dim=2)
    return Probe(latents=latents, rows=rows, condition=example.condition)


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
        with _warning_of(path, draft):
            loaded = attach_file(plain, file, 1.0, name=LOADED)
        compare_weights(adapters_of(model)[name], adapters_of(loaded).get(LOADED, {}), path)
        compare(model, loaded, probe, path)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def save_checked_adapter(
    path: Path, models: Sequence[DiT], parts: Parts, recipe: Recipe, probe: Probe, *, name: str, base: str,
    address: str, made: Mapping[str, object], dtype: torch.dtype, force: bool,
) -> None:  # fmt: skip
    """Write what a recipe adds to each transformer of `parts` and the changes `name`, and load, compare and sample it.

    `base` is the name of the model of the parts, `address` that of the recipe. Raises as `save_checked` and
    `save_adapter`.
    """
    check_writable(path, force=force)
    draft, additions = path.with_name(f".unchecked-{path.name}"), recipe.additions or Additions()
    try:
        save_adapter(
            draft, models, additions, name=name, base=base, base_hash=parts.fingerprint(), recipe=address, made=made,
            dtype=torch.bfloat16 if dtype == torch.bfloat16 else torch.float32, force=True,
        )  # fmt: skip
        file = adapter_in(draft, HeaderReader())
        if file is None:
            raise _differs(path, "it is no adapter")
        loaded = with_adapter(parts, additions, recipe.transformers, file=file)
        own = file.of_experts(len(models))
        for model, load, one in zip(models, loaded.transformers, own, strict=True):
            compare_added(model, additions, recipe.transformers[0], one, name, path)
            with _rounded(model, additions, dtype):
                compare(model, load(dtype, CPU), probe, path)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@torch.no_grad()
def compare_added(model: DiT, additions: Additions, base: DiTSpec, file: AdapterFile, name: str, path: Path) -> None:
    """Raise KinoformError where a file holds another addition, or another change of a layer, than those that learnt."""
    held = {place: stored.read() for place, stored in file.tensors.items()}
    pairs = {
        place.removesuffix(DOWN): Adapter(value, held[place.removesuffix(DOWN) + UP], float(len(value)))
        for place, value in held.items()
        if place.endswith(DOWN)
    }
    compare_weights(adapters_of(model).get(name, {}), pairs, path)
    for place in added_shapes(additions, base):
        ours = model.get_parameter(PATCH)[:, base.in_channels :] if place == ADDED else model.get_parameter(place)
        if not torch.equal(ours.to(held[place].dtype), held[place].to(ours.device)):
            raise _differs(path, f"{place} is not what was learnt")


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
    generator, dtype = torch.Generator().manual_seed(0), loaded.patch_embedding.weight.dtype
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
def _warning_of(path: Path, draft: Path) -> Iterator[None]:
    """Have warnings about a draft name the file that it becomes."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for warning in said:
        warnings.warn(str(warning.message).replace(draft.name, path.name), warning.category, stacklevel=4)


@contextmanager
def _rounded(model: DiT, additions: Additions, dtype: torch.dtype) -> Iterator[None]:
    """Lend a model its additions in the precision in which they are used."""
    kept = {name: item.data for name, item in model.named_parameters() if additions.learns(name)}
    try:
        for name, value in kept.items():
            model.get_parameter(name).data = value if keeps_float32(name) else value.to(dtype)
        yield
    finally:
        for name, value in kept.items():
            model.get_parameter(name).data = value


@contextmanager
def _evaluating(model: DiT) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
