"""LoRA files in the weights themselves, tensor by tensor while these are written: W + sum of strength * delta(W)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kinoform.checkpoints.formats import Stored
from kinoform.conversion.model_contents import ModelContents
from kinoform.errors import UsageError, WeightsError
from kinoform.loading.load import check_values
from kinoform.loading.lora import open_onto
from kinoform.loading.lora_changes import StoredChange
from kinoform.solvers.by_expert import PerExpert

_Changes = list[tuple[StoredChange, float]]


def with_merged(
    contents: ModelContents,
    loras: Sequence[tuple[Path, PerExpert]],
    report: Callable[[str], None],
    *,
    ignore_unknown: bool = False,
) -> ModelContents:
    """The contents with these files merged into the transformers, each with its strength; sums are float32.

    A changed tensor keeps the dtype that it is stored in; one of eight bits becomes bfloat16, and one with scales or of
    a GGUF file float32, as these are read. Raises UsageError for contents without a transformer, otherwise as
    `with_loras` does; WeightsError when a sum is no number of its dtype.
    """
    if not loras:
        return contents
    transformers = contents.transformers
    if not transformers:
        raise UsageError(f"{contents.path} holds no transformer for --lora to change; leave it out",
                         code="options_conflict")  # fmt: skip
    shapes = [{name: stored.shape for name, stored in part.tensors.items()} for part in transformers.values()]
    opened = open_onto(shapes, loras, report, ignore_unknown=ignore_unknown)
    parts = dict(contents.parts)
    for (name, part), applied in zip(transformers.items(), opened.applied, strict=True):
        changes: dict[str, _Changes] = {}
        for file, strength in applied:
            if not isinstance(strength, int | float):
                raise UsageError(
                    f"{file.path} is merged once and for all, and its strength changes during a run; give one number",
                    code="options_conflict",
                )
            for place, change in file.changes.items():
                if strength:
                    changes.setdefault(place, []).append((change, strength))
        merged = {place: _merged(part.tensors[place], place, held) for place, held in changes.items()}
        parts[name] = replace(part, tensors={**part.tensors, **merged})
    return replace(contents, parts=parts)


def _merged(stored: Stored, place: str, changes: _Changes) -> Stored:
    dtype = stored.dtype if stored.dtype.itemsize > 1 else torch.bfloat16

    @torch.no_grad()
    def read() -> Tensor:
        weight = stored.read()
        total = weight.float()
        for change, strength in changes:
            built = change.build(_values)
            built.strength = strength
            total = total + built.added(weight)
        if not total.to(dtype).isfinite().all():
            raise WeightsError(
                f"{changes[0][0].pieces.path}: with it {place} is too large for {dtype}; lower its strength",
                code="weights_overflow_dtype",
            )
        return total.to(dtype)

    return Stored(shape=stored.shape, dtype=dtype, file=stored.file, read=read)


def _values(stored: Stored) -> Tensor:
    values = stored.read()
    check_values(f"{stored.file}: a change", values, torch.float32)
    return values.float()
