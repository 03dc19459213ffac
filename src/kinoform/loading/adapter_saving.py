"""What was added to a model and trained, and its low-rank changes, as one adapter file; its form: adapters.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kinoform.checkpoints.write import METADATA, Outgoing, write_safetensors
from kinoform.errors import NonFiniteError, UsageError, nearest
from kinoform.families.adapter_files import DOWN, FORMAT, FORMS, LONGEST, MARK, UP
from kinoform.files import whole
from kinoform.loading.adapters import ADDED, added_shapes
from kinoform.loading.additions import PATCH, Additions
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.lora import adapters_of
from kinoform.models.lora_linear import Adapted, Adapter

SUFFIX = ".safetensors"


def save_adapter(
    path: Path,
    model: DiT,
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
    """Write what `additions` put onto the model and its adapter `name`, if it has any, whole or not at all.

    `base` is the name of the model without them, `base_hash` the fingerprint of its parts, `recipe` the
    module:function of the recipe with the additions, `made` how it was trained, in free JSON. Changes are written as
    strong as they count, those of added layers as part of their weights. Raises UsageError for a model without the
    additions or with merged adapters, for words that do not belong into the file, and as `whole` does; NonFiniteError
    for NaN, infinity, and values too large for `dtype`.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} does not end in {SUFFIX}; adapter files are written as that", code="wrong_suffix")
    added = Additions() if additions is None else additions
    bare = _without(added, model.spec)
    tensors = sorted(_tensors(model, added, bare, _adapters(model, name)))
    if not tensors:
        raise UsageError(
            f"nothing is added to the model and it has no adapter {name!r}; there is nothing to save",
            code="nothing_to_save",
        )
    told = {
        "base": base,
        "base_hash": base_hash,
        "recipe": recipe,
        "channels": json.dumps(added.order(bare)),
        "made": _json(made),
    }
    _check_words(told)
    outgoing = [_outgoing(place, value, dtype) for place, value in tensors]
    with whole(path, force=force) as temporary:
        write_safetensors(temporary, outgoing, lambda count: None, {**METADATA, MARK: FORMAT, **told})


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
    return replace(spec, in_channels=channels, context=context, branches=branches)


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
    """By name; float32 where a sum or a product is made."""
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


def _outgoing(name: str, value: Tensor, dtype: torch.dtype) -> Outgoing:
    value = value.cpu().to(dtype)
    if not value.isfinite().all():
        raise NonFiniteError(
            f"{name} is NaN, infinite or too large for {dtype}; nothing was written", code="not_finite"
        )
    return Outgoing(name=name, shape=tuple(value.shape), dtype=dtype, read=lambda: value)
