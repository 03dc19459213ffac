"""Batches of what conditioners return for single samples, of those that have the same shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput, LatentConstraints
from kinoform.errors import UsageError


def group_similar(given: Sequence[ConditionerOutput]) -> list[list[int]]:
    """Indices of those with the same inputs, shapes and plain values; in the order of the first of each kind."""
    found: dict[object, list[int]] = defaultdict(list)
    for place, each in enumerate(given):
        found[_form((each.context, each.channels, each.branches, each.constraints.prefix_frames))].append(place)
    return list(found.values())


def collate(given: Sequence[ConditionerOutput]) -> ConditionerOutput:
    """One contribution for a batch: tensors one behind the other along their first axis, all else as the first has it.

    What is known of the video is left out: it is imposed while a video is made, not learned. Raises UsageError for
    clean tokens, which stand for a whole batch.
    """
    if any(each.clean is not None for each in given):
        raise UsageError(
            "clean tokens are the same for a whole batch; an adapter cannot learn from them", code="input_not_taken"
        )
    first = given[0]
    return ConditionerOutput(
        context=_joined([each.context for each in given]),
        channels=_joined([each.channels for each in given]),
        branches=_joined([each.branches for each in given]),
        constraints=LatentConstraints(prefix_frames=first.constraints.prefix_frames),
        dropped_for_cfg=first.dropped_for_cfg,
    )


def _joined(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, Mapping):
        return {name: _joined([each[name] for each in values]) for name in first}
    if isinstance(first, tuple | list):
        return tuple(_joined(each) for each in zip(*values, strict=True))
    if is_dataclass(first) and not isinstance(first, type):
        names = [each.name for each in fields(first)]
        return replace(first, **{name: _joined([getattr(each, name) for each in values]) for name in names})
    return first


def _form(value: Any) -> object:
    """The part of a value that must be equal for two to be joined."""
    if isinstance(value, Tensor):
        return tuple(value.shape[1:])
    if isinstance(value, Mapping):
        return tuple((name, _form(each)) for name, each in sorted(value.items()))
    if isinstance(value, tuple | list):
        return tuple(_form(each) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(_form(getattr(value, each.name)) for each in fields(value))
    return value
