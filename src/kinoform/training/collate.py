"""Batches of the conditioners' outputs for single samples of the same shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput, LatentConstraints
from kinoform.errors import UsageError


def group_similar(outputs: Sequence[ConditionerOutput]) -> list[list[int]]:
    """Group indices of outputs with the same inputs, shapes and plain values; in the order of item group's first."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, item in enumerate(outputs):
        given = (item.context, item.channels, item.branches, item.segments, item.constraints.prefix_frames)
        groups[_form(given)].append(index)
    return list(groups.values())


def collate(outputs: Sequence[ConditionerOutput]) -> ConditionerOutput:
    """Join the outputs of a batch: tensors along their first axis, all else as the first has it.

    Known latents are left out: they are imposed during generation, not learned. Raises UsageError for clean tokens,
    which stand for a whole batch.
    """
    if any(item.clean is not None for item in outputs):
        raise UsageError(
            "clean tokens are the same for a whole batch; an adapter cannot learn from them", code="input_not_taken"
        )
    first = outputs[0]
    return ConditionerOutput(
        context=_joined([item.context for item in outputs]),
        channels=_joined([item.channels for item in outputs]),
        branches=_joined([item.branches for item in outputs]),
        segments=_joined([item.segments for item in outputs]),
        constraints=LatentConstraints(prefix_frames=first.constraints.prefix_frames),
        dropped_for_cfg=first.dropped_for_cfg,
    )


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
