"""Adapters of a finished model: one file with what is added to it, and with low-rank changes of its layers.

Tensors have kinoform's own names: each parameter of added streams and branches whole; of the patch embedding the
slice of the added channels, as `patch_embedding.added`; of each changed layer two matrices, LAYER.adapter.down and
LAYER.adapter.up. Where the recipe has several transformers, the names of each begin with that of the expert:
high.LAYER.adapter.up. What else the header holds: families/adapter.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from kinoform.checkpoints.write import METADATA, outgoing, write_safetensors
from kinoform.errors import UsageError, WeightsError, nearest
from kinoform.families.adapter import (
    DOWN,
    FORMAT,
    FORMS,
    LONGEST,
    MARK,
    UP,
    AdapterClaims,
    adapter_claims,
    is_adapter,
)
from kinoform.families.names import listed
from kinoform.files import whole
from kinoform.loading.additions import PATCH, Additions
from kinoform.loading.load import check_values
from kinoform.loading.parts import Parts, TransformerLoader, repeated
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.lora import MAX_RANK, adapters_of, with_adapters
from kinoform.models.lora_linear import Adapted, Adapter, device_of, linear_layers
from kinoform.models.meta import on_meta
from kinoform.models.packed import PackedLinear
from kinoform.solvers.by_expert import expert_names

SUFFIX = ".safetensors"
ADDED = "patch_embedding.added"
NAME = "adapter"
"""Name of the changes of packed layers in the model, into which nothing can be merged."""

SHOWN = 200

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """Adapter of which the header alone is read."""

    path: Path
    claims: AdapterClaims
    tensors: Mapping[str, Stored]

    def of_experts(self, count: int) -> tuple[AdapterFile, ...]:
        """Return what the file holds for each of so many transformers, under the names that it has for one.

        Raises WeightsError for a tensor of none of them.
        """
        if count == 1:
            return (self,)
        prefixes = [f"{name}." for name in expert_names(count)]
        if strange := [name for name in self.tensors if not name.startswith(tuple(prefixes))]:
            _refuse(self, f"has, beside those of the transformers {', '.join(expert_names(count))},", strange)
        return tuple(
            replace(self, tensors={
                name.removeprefix(prefix): stored for name, stored in self.tensors.items() if name.startswith(prefix)
            })
            for prefix in prefixes
        )  # fmt: skip


def adapter_in(path: Path, reader: HeaderReader) -> AdapterFile | None:
    """Read an adapter file; None for weights of any other kind. Raises WeightsError for a damaged file."""
    if path.suffix.lower() != ".safetensors" or not is_adapter(reader.read(path).metadata):
        return None
    opened = reader.open(path, (path,))
    claims = adapter_claims(path, opened.metadata)
    return AdapterFile(path=path, claims=claims, tensors=checkpoint_of(opened).tensors)


def with_adapter(parts: Parts, additions: Additions | None, bases: tuple[DiTSpec, ...], *, file: AdapterFile) -> Parts:
    """Put the additions and changes of a file on the transformers of a model, whose specs are `bases`.

    The only transformer of a model is each of several `bases`, with changes of its own.

    The header is held against the model now; numbers are read with the transformer. Changes are merged into the
    weights, in float32, and cost nothing afterwards; they stay beside weights that are packed. All other weights
    are the base's. The fingerprint is of the base's and the file. Raises WeightsError for a file of another base, or of
    other additions, and for names or shapes that are not those of this model.
    """
    added, parts = Additions() if additions is None else additions, repeated(parts, len(bases))
    _check_base(parts, file)
    own = zip(parts.transformers, bases, file.of_experts(len(bases)), strict=True)
    transformers = tuple(_adapted(load, base, added, each) for load, base, each in own)

    def fingerprint() -> str:
        return hashlib.sha256(f"{parts.fingerprint()}\n{model_hash([file.path])}".encode()).hexdigest()[:16]

    return replace(
        parts,
        transformers=transformers,
        transformer_specs=tuple(map(added.to, bases)),
        fingerprint=fingerprint,
    )


def _adapted(load: TransformerLoader, base: DiTSpec, added: Additions, file: AdapterFile) -> TransformerLoader:
    """Hold a file against one transformer."""
    _check_channels(file, added.order(base))
    shapes = added_shapes(added, base)
    places = _changed(file, _layer_sizes(on_meta(base.build)))
    _check_names(file, shapes, places)
    return lambda dtype, device: _put_onto(load(dtype, device), file, added, shapes, places)


def added_shapes(additions: Additions, base: DiTSpec) -> dict[str, Shape]:
    """The shapes of the additions that a file must hold, by name."""
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
    """Raise WeightsError for channels in another order: the shapes would fit, and the videos be nonsense."""
    told = file.claims.channels
    if list(told.items()) != list(order.items()):
        shown = str(told)[:SHOWN]
        raise WeightsError(
            f"{file.path} reads the channels {shown}, the recipe gives {order}; use the recipe it is for",
            code="channels_differ",
        )


def _layer_sizes(model: DiT) -> dict[str, tuple[int, int]]:
    """Numbers that each layer gives and takes."""
    return {name: (layer.out_features, layer.in_features) for name, layer in linear_layers(model).items()}


def _changed(file: AdapterFile, layers: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
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
    raise WeightsError(
        f"{file.path} {fault} {len(names)} tensors ({listed(names)}); use the recipe that it is for",
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
    wide = additions.apply(model)
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
    check_values(f"{file.path}: {name}", values, values.dtype)
    return values


def save_adapter(
    path: Path,
    transformers: Sequence[DiT],
    additions: Additions | None,
    *,
    name: str,
    base: str,
    base_hash: str,
    recipe: str,
    made: Mapping[str, object],
    dtype: torch.dtype = torch.bfloat16,
    force: bool = False,
) -> None:
    """Write what `additions` put onto each transformer and its adapter `name`, if any has one, whole or not at all.

    `base` is the name of the model without them, `base_hash` the fingerprint of its parts, `recipe` the
    module:function of the recipe with the additions, `made` how it was trained, in free JSON. Changes are written as
    strong as they count, those of added layers as part of their weights. Raises UsageError for a model without the
    additions or with merged adapters, for words that do not belong into the file, and as `whole` does; NonFiniteError
    for NaN, infinity, and values too large for `dtype`.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} does not end in {SUFFIX}; adapter files are written as that", code="wrong_suffix")
    added = Additions() if additions is None else additions
    bare = [_without(added, model.spec) for model in transformers]
    prefixes = [f"{expert}." for expert in expert_names(len(transformers))] if len(transformers) > 1 else [""]
    tensors = sorted(
        (prefix + place, value)
        for prefix, model, spec in zip(prefixes, transformers, bare, strict=True)
        for place, value in _tensors(model, added, spec, _adapters(model, name))
    )
    if not tensors:
        raise UsageError(
            f"nothing is added to the model and it has no adapter {name!r}; there is nothing to save",
            code="nothing_to_save",
        )
    told = {
        "base": base,
        "base_hash": base_hash,
        "recipe": recipe,
        "channels": json.dumps(added.order(bare[0])),
        "made": _json(made),
    }
    _check_words(told)
    written = [outgoing(place, value, dtype) for place, value in tensors]
    with whole(path, force=force) as temporary:
        write_safetensors(temporary, written, lambda count: None, {**METADATA, MARK: FORMAT, **told})


def _without(additions: Additions, spec: DiTSpec) -> DiTSpec:
    """The spec before the additions."""
    channels = spec.in_channels - sum(additions.channels.values())
    context = tuple(each for each in spec.context if each not in additions.context)
    branches = tuple(each for each in spec.branches if each not in additions.branches)
    added = len(spec.context) - len(context), len(spec.branches) - len(branches)
    if channels < spec.out_channels or added != (len(additions.context), len(additions.branches)):
        raise UsageError(
            "the model was not widened by these additions; give those that it was trained with", code="additions_differ"
        )
    segments = None if additions.segments is not None else spec.segments
    return replace(spec, in_channels=channels, context=context, branches=branches, segments=segments)


def _adapters(model: DiT, name: str) -> dict[str, Adapter]:
    held = adapters_of(model)
    if any(layer.kept for layer in model.modules() if isinstance(layer, Adapted)):
        raise UsageError("the adapters are merged into the weights; call unmerge first", code="adapters_merged")
    if held and name not in held:
        raise UsageError(f"the model has no adapter {name!r}; {nearest(name, held)}", code="unknown_name")
    return held.get(name, {})


def _tensors(
    model: DiT, additions: Additions, bare: DiTSpec, adapters: Mapping[str, Adapter]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors by name; float32 where a sum or a product is made."""
    changes = {f"{place}.weight": adapter for place, adapter in adapters.items()}
    for name in added_shapes(additions, bare):
        value = model.get_parameter(PATCH if name == ADDED else name).detach()
        if name == ADDED:
            value = value[:, bare.in_channels :]
        yield name, value.float() + changes[name].change().detach() if name in changes else value
    for place, adapter in adapters.items():
        if not additions.own(f"{place}.weight"):
            yield place + DOWN, adapter.down.detach()
            yield place + UP, adapter.up.detach().float() * adapter.factor


def _json(made: Mapping[str, object]) -> str:
    try:
        return json.dumps(dict(made), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"what is told of the training is not plain JSON: {error}", code="bad_value") from error


def _check_words(told: Mapping[str, str]) -> None:
    for key, longest in LONGEST.items():
        if not 1 <= len(told[key]) <= longest:
            raise UsageError(
                f"the {key} of an adapter has 1 to {longest} letters, not {len(told[key])}", code="value_out_of_range"
            )
    for key, form in FORMS.items():
        if not re.fullmatch(form, told[key]):
            raise UsageError(f"{told[key]!r} is no {key} of an adapter, which is written as {form}", code="bad_value")
