"""Batches of the conditioners' outputs for single samples of the same shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput, InpaintingConstraint, LatentConstraints
from kinoform.errors import UsageError


def group_similar(outputs: Sequence[ConditionerOutput]) -> list[list[int]]:
    """Group indices of outputs with the same inputs, shapes and plain values; in the order of item group's first."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, item in enumerate(outputs):
        kept = item.constraints
        clean = None if item.clean is None else tuple(item.clean.tolist())
        given = (item.context, item.channels, item.branches, item.segments, clean, kept.prefix_frames, _known(kept))
        groups[_form(given)].append(index)
    return list(groups.values())


def collate(outputs: Sequence[ConditionerOutput]) -> ConditionerOutput:
    """Join the outputs of a batch: tensors along their first axis, all else as the first has it.

    Known latents that generation mixes with noise, and those that it begins from, are left out: the model sees them as
    it sees any. Raises UsageError for outputs of other clean tokens than the first has, which stand for a whole batch.
    """
    first = outputs[0]
    if any((item.clean is None) != (first.clean is None) for item in outputs) or any(
        item.clean is not None and first.clean is not None and not torch.equal(item.clean, first.clean)
        for item in outputs
    ):
        raise UsageError(
            "clean tokens are the same for a whole batch; put samples of others into another one",
            code="input_not_taken",
        )
    return ConditionerOutput(
        context=_joined([item.context for item in outputs]),
        channels=_joined([item.channels for item in outputs]),
        branches=_joined([item.branches for item in outputs]),
        segments=_joined([item.segments for item in outputs]),
        clean=first.clean,
        constraints=LatentConstraints(
            prefix_frames=first.constraints.prefix_frames,
            prefix_latents=_joined([item.constraints.prefix_latents for item in outputs]),
            inpainting=_joined([_known(item.constraints) for item in outputs]),
        ),
        dropped_for_cfg=first.dropped_for_cfg,
    )


def _known(constraints: LatentConstraints) -> InpaintingConstraint | None:
    """Return the latents that stay clean at every level."""
    known = constraints.inpainting
    return None if known is None or known.noised else known


def _joined(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, Mapping):
        return {name: _joined([item[name] for item in values]) for name in first}
    if isinstance(first, tuple | list):
        return tuple(_joined(item) for item in zip(*values, strict=True))
    if is_dataclass(first) and not isinstance(first, type):
        names = [item.name for item in fields(first)]
        return replace(first, **{name: _joined([getattr(item, name) for item in values]) for name in names})
    return first


def _form(value: Any) -> object:
    """Return the part of a value that must be equal for two to be joined."""
    if isinstance(value, Tensor):
        return tuple(value.shape[1:])
    if isinstance(value, Mapping):
        return tuple((name, _form(item)) for name, item in sorted(value.items()))
    if isinstance(value, tuple | list):
        return tuple(_form(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(_form(getattr(value, item.name)) for item in fields(value))
    return value
