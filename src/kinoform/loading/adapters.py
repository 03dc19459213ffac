"""Adapters of a finished model: one file with what is added to it, and with low-rank changes of its layers.

Tensors have kinoform's own names: each parameter of added streams and branches whole; of the patch embedding the
slice of the added channels, as `patch_embedding.added`; of each changed layer two matrices, LAYER.adapter.down and
LAYER.adapter.up. What else the header holds: identity/adapters.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from kinoform.checkpoints.files import checkpoint_of
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.hashes import model_hash
from kinoform.checkpoints.headers import FETCH
from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import WeightsError
from kinoform.families.adapter_files import DOWN, UP, AdapterClaims, adapter_claims, is_adapter
from kinoform.loading.additions import PATCH, Additions
from kinoform.loading.load import on_meta
from kinoform.loading.lora import layer_sizes
from kinoform.loading.lora_file import Sizes
from kinoform.loading.parts import Parts
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.lora import MAX_RANK, with_adapters
from kinoform.models.lora_linear import Adapter, device_of, linear_layers
from kinoform.models.packed import PackedLinear

ADDED = "patch_embedding.added"
NAME = "adapter"
"""What the changes of packed layers are called in the model, into which nothing can be merged."""

LISTED, SHOWN = 3, 200

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """An adapter of which the header alone is read."""

    path: Path
    claims: AdapterClaims
    tensors: Mapping[str, Stored]


def adapter_in(path: Path, reader: HeaderReader) -> AdapterFile | None:
    """None for weights of any other kind. Raises WeightsError for a damaged file."""
    if path.suffix.lower() != ".safetensors" or not is_adapter(reader.read(path).metadata):
        return None
    opened = reader.open(path, (path,))
    claims = adapter_claims(path, opened.metadata)
    return AdapterFile(path=path, claims=claims, tensors=checkpoint_of(opened).tensors)


def with_adapter(parts: Parts, additions: Additions | None, base: DiTSpec, *, file: AdapterFile) -> Parts:
    """The parts of a model of the spec `base` with the additions and changes of the file on its transformer.

    The header is held against the model now; numbers are read with the transformer. Changes are merged into the
    weights, in float32, and cost nothing afterwards; they stay beside weights that are packed. All other weights
    are the base's. The fingerprint is of the base's and the file. Raises WeightsError for a file of another base, or
    of other additions, and for names or shapes that are not those of this model.
    """
    added = Additions() if additions is None else additions
    _check_base(parts, file)
    _check_channels(file, added.order(base))
    shapes = added_shapes(added, base)
    places = _changed(file, layer_sizes(on_meta(base.build)))
    _check_names(file, shapes, places)

    def fingerprint() -> str:
        return hashlib.sha256(f"{parts.fingerprint()}\n{model_hash([file.path])}".encode()).hexdigest()[:16]

    return replace(
        parts,
        transformer=lambda dtype, device: _put_onto(parts.transformer(dtype, device), file, added, shapes, places),
        transformer_spec=added.to(base),
        fingerprint=fingerprint,
    )


def added_shapes(additions: Additions, base: DiTSpec) -> dict[str, Shape]:
    """What a file must hold of the additions themselves, by name."""
    wide = {name: tuple(value.shape) for name, value in on_meta(additions.to(base).build).named_parameters()}
    found = {name: shape for name, shape in wide.items() if additions.own(name)}
    count = sum(additions.channels.values())
    return {**({ADDED: (wide[PATCH][0], count, *wide[PATCH][2:])} if count else {}), **found}


def _check_base(parts: Parts, file: AdapterFile) -> None:
    told, here = file.claims, parts.fingerprint()
    if here != told.base_hash:
        raise WeightsError(
            f"{file.path} was trained on {told.base!r} with the hash {told.base_hash}, the one here has {here}; "
            "train it anew, or take the weights that it was trained on",
            code="adapter_wrong_base",
        )


def _check_channels(file: AdapterFile, order: Mapping[str, int]) -> None:
    """In another order the shapes would fit, and the videos be nonsense."""
    told = file.claims.channels
    if list(told.items()) != list(order.items()):
        shown = str(told)[:SHOWN]
        raise WeightsError(
            f"{file.path} reads the channels {shown}, the recipe gives {order}; use the recipe it is for",
            code="channels_differ",
        )


def _changed(file: AdapterFile, layers: Sizes) -> tuple[str, ...]:
    """The layers of the base that the file changes. Raises WeightsError unless both matrices of each fit it."""
    places = [name.removesuffix(DOWN) for name in file.tensors if name.endswith(DOWN)]
    for place in places:
        if place not in layers or place + UP not in file.tensors:
            fault = (
                f"changes {place[:SHOWN]!r}, which the model has not" if place not in layers else f"lacks {place + UP}"
            )
            raise WeightsError(
                f"{file.path} {fault}; use the recipe and the file that belong together", code="adapter_wrong_recipe"
            )
        rank, (out, into) = (file.tensors[place + DOWN].shape or (0,))[0], layers[place]
        wanted = {place + DOWN: (rank, into), place + UP: (out, rank)}
        if not 1 <= rank <= MAX_RANK:
            raise WeightsError(
                f"{file.path}: the change of {place} has rank {rank}, not 1 to {MAX_RANK}; {FETCH}",
                code="weights_damaged",
            )
        for name, shape in wanted.items():
            _check_tensor(file, name, shape)
    return tuple(places)


def _check_names(file: AdapterFile, shapes: Mapping[str, Shape], places: Iterable[str]) -> None:
    matrices = {place + piece for place in places for piece in (DOWN, UP)}
    if missing := [name for name in shapes if name not in file.tensors]:
        _refuse(file, "lacks", missing)
    if left := [name for name in file.tensors if name not in shapes and name not in matrices]:
        _refuse(file, "has, beside what the recipe adds,", left)
    for name, shape in shapes.items():
        _check_tensor(file, name, shape)


def _refuse(file: AdapterFile, fault: str, names: list[str]) -> NoReturn:
    listed = ", ".join(name[:SHOWN] for name in names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    raise WeightsError(
        f"{file.path} {fault} {len(names)} tensors ({listed}); use the recipe that it is for",
        code="adapter_wrong_recipe",
    )


def _check_tensor(file: AdapterFile, name: str, shape: Shape) -> None:
    stored = file.tensors[name]
    if stored.shape != shape or not stored.dtype.is_floating_point:
        raise WeightsError(
            f"{file.path}: {name} has shape {list(stored.shape)} and {stored.dtype}, the model needs {list(shape)} "
            "and floating-point numbers; it is for a model of another size",
            code="weights_wrong_shape",
        )


@torch.no_grad()
def _put_onto(model: DiT, file: AdapterFile, additions: Additions, shapes: Iterable[str], places: Iterable[str]) -> DiT:
    """A copy with the file's tensors, which shares all weights that it does not change."""
    wide = additions.onto(model)
    for name in shapes:
        _set(file, wide, *_value(file, wide, name))
    layers, beside = linear_layers(wide), {}
    for place in places:
        layer = layers[place]
        device = device_of(layer)
        down, up = (_read(file, place + piece).float().to(device) for piece in (DOWN, UP))
        if isinstance(layer, PackedLinear):
            beside[place] = Adapter(down.to(layer.dtype), up.to(layer.dtype), float(len(down))).requires_grad_(False)
        else:
            _set(file, wide, f"{place}.weight", layer.weight.float() + up @ down)
    return (with_adapters(wide, NAME, beside) if beside else wide).eval()


def _value(file: AdapterFile, wide: DiT, name: str) -> tuple[str, Tensor]:
    """A parameter of the widened model, and what it becomes."""
    values = _read(file, name)
    if name != ADDED:
        return name, values
    old = wide.get_parameter(PATCH)
    return PATCH, torch.cat([old[:, : -values.shape[1]], values.to(old)], dim=1)


def _set(file: AdapterFile, wide: DiT, name: str, values: Tensor) -> None:
    """Raises WeightsError for values too large for the dtype of the model."""
    old = wide.get_parameter(name)
    cast = values.to(old)
    if not cast.isfinite().all():
        raise WeightsError(
            f"{file.path}: with it {name} is too large for {old.dtype}; use --dtype bfloat16",
            code="weights_overflow_dtype",
        )
    owner, _, leaf = name.rpartition(".")
    setattr(wide.get_submodule(owner), leaf, nn.Parameter(cast, requires_grad=False))


def _read(file: AdapterFile, name: str) -> Tensor:
    values = file.tensors[name].read()
    if not values.float().isfinite().all():
        raise WeightsError(
            f"{file.path}: {name} holds NaN or infinity; the file is damaged, {FETCH}", code="weights_not_finite"
        )
    return values
