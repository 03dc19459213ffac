"""Contents of an example as plain JSON beside named tensors: written by type, read without trust and without pickle.

A node of the JSON is `{"tensor": NAME, "dtype": D}`, `{"value": V}`, `{"list": [...]}`, `{"map": {...}}`,
`{"set": [...]}` or `{"type": NAME, "fields": {...}}`, the last for the dataclasses that are known by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, cast

import torch
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput, InpaintingConstraint, LatentConstraints
from kinoform.errors import NonFiniteError, UsageError
from kinoform.models.vace_blocks import VaceContext
from kinoform.types import InContextSegment

DTYPES = {
    str(item).removeprefix("torch."): item
    for item in (torch.float32, torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.int32, torch.uint8)
}
"""Kinds of numbers that are kept, by name."""

DEEPEST = 12
"""Levels of nodes that are read at most."""

KNOWN: tuple[type, ...] = (
    ConditionerOutput, LatentConstraints, InpaintingConstraint, InContextSegment, VaceContext,
)  # fmt: skip
"""Dataclasses that are written and read; a branch whose payload is another one cannot be kept."""


class Damaged(ValueError):
    """File of a cache that does not say what one says; the text is the end of a sentence about it."""


def pack(value: object, dtype: torch.dtype, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
    """Return the node of a value, and add its tensors under names that begin with `name`.

    Floating numbers wider than `dtype` are rounded to it; all come back in the dtype that they have here. Raises
    UsageError for what cannot be kept, and NonFiniteError for NaN and infinity.
    """
    if isinstance(value, Tensor):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise NonFiniteError(f"{name} holds NaN or infinity, so it was not kept", code="not_finite")
        tensors[name] = narrowed(value, dtype).detach().cpu().contiguous().clone()
        return {"tensor": name, "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return {"map": {key: pack(item, dtype, tensors, f"{name}.{key}") for key, item in items}}
    if isinstance(value, frozenset):
        return {"set": sorted(cast("frozenset[str]", value))}
    if isinstance(value, tuple | list):
        listed = enumerate(cast("tuple[object, ...]", value))
        return {"list": [pack(item, dtype, tensors, f"{name}.{index}") for index, item in listed]}
    if type(value) in KNOWN and is_dataclass(value):
        named = {item.name: getattr(value, item.name) for item in fields(value)}
        return {"type": type(value).__name__, "fields": pack(named, dtype, tensors, name)["map"]}
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return {"value": value}
    raise UsageError(
        f"{name} is of the type {type(value).__name__}, which no cache keeps; train with --no-cache",
        code="cache_cannot_keep",
    )


def narrowed(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Round floating numbers that are wider than `dtype`; others stay as they are."""
    wider = value.is_floating_point() and value.dtype.itemsize > dtype.itemsize
    return value.to(dtype) if wider else value


def unpack(node: object, read: Callable[[str], Tensor], depth: int = DEEPEST) -> Any:
    """Return the value of a node, whose tensors `read` gives by name. Raises Damaged for any other node."""
    if not isinstance(node, dict) or depth == 0:
        raise Damaged("has an entry that is no node")
    match cast("dict[str, Any]", node):
        case {"tensor": str(name), "dtype": str(kind), **rest} if not rest and kind in DTYPES:
            tensor = read(name)
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise Damaged(f"holds NaN or infinity in {name}")
            if tensor.is_floating_point() != DTYPES[kind].is_floating_point:
                raise Damaged(f"holds {tensor.dtype} in {name}, where {kind} is due")
            return tensor.to(DTYPES[kind])
        case {"value": value, **rest} if not rest and isinstance(value, bool | int | float | str | None):
            return value
        case {"list": list(items), **rest} if not rest:
            return tuple(unpack(item, read, depth - 1) for item in items)
        case {"map": dict(items), **rest} if not rest:
            return {key: unpack(item, read, depth - 1) for key, item in items.items()}
        case {"set": list(items), **rest} if not rest and all(isinstance(item, str) for item in items):
            return frozenset(items)
        case {"type": str(name), "fields": dict(items), **rest} if not rest:
            return _made(name, {key: unpack(item, read, depth - 1) for key, item in items.items()})
        case _:
            raise Damaged("has an entry that is no node")


def _made(name: str, values: dict[str, Any]) -> Any:
    kind = {item.__name__: item for item in KNOWN}.get(name)
    if kind is None:
        raise Damaged(f"has an entry of an unknown type {name[:40]!r}")
    known = {item.name: item for item in fields(kind)}
    needed = {key for key, item in known.items() if item.default is MISSING and item.default_factory is MISSING}
    if not needed <= values.keys() <= known.keys():
        raise Damaged(f"has a {name} with the fields {sorted(values)[:8]}, not those of this version")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise Damaged(f"has a {name} with values that it cannot have") from error


def checked_condition(value: object) -> ConditionerOutput:
    """Return a condition whose parts are what they are to be. Raises Damaged for others."""
    right = isinstance(value, ConditionerOutput) and _parts_right(value) and _constraints_right(value.constraints)
    if not right:
        raise Damaged("has a condition whose parts are not what they are to be")
    return cast("ConditionerOutput", value)


def _parts_right(value: ConditionerOutput) -> bool:
    parts = cast("Any", value)  # whatever a file said
    return (
        isinstance(parts.context, dict)
        and all(_of_rank(item, 3) for item in parts.context.values())
        and _of_rank(parts.channels, 5, optional=True)
        and (parts.clean is None or (_of_rank(parts.clean, 1) and parts.clean.dtype == torch.bool))
        and isinstance(parts.branches, dict)
        and isinstance(parts.segments, tuple)
        and all(isinstance(item, InContextSegment) and _of_rank(item.latents, 5) for item in parts.segments)
        and all(isinstance(cast("Any", item.group), str) for item in parts.segments)
        and isinstance(parts.dropped_for_cfg, frozenset)
    )


def _constraints_right(value: LatentConstraints) -> bool:
    parts = cast("Any", value)
    if not isinstance(parts, LatentConstraints):
        return False
    known = cast("Any", parts.inpainting)
    return (
        type(parts.prefix_frames) is int
        and 0 <= parts.prefix_frames < 2**16
        and type(cast("Any", parts.strength)) is float
        and _of_rank(parts.prefix_latents, 5, optional=True)
        and _of_rank(parts.init_latents, 5, optional=True)
        and (
            known is None
            or (
                isinstance(known, InpaintingConstraint)
                and _of_rank(known.latents, 5)
                and _of_rank(known.mask, 5)
                and known.mask.dtype == torch.bool
                and type(cast("Any", known.noised)) is bool
            )
        )
    )


def _of_rank(value: object, rank: int, *, optional: bool = False) -> bool:
    return (optional and value is None) or (isinstance(value, Tensor) and value.ndim == rank)
