"""Inputs that a model needs of every item, checked before anything loads; and stand-ins for those that are not read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import Conditioner, EncoderSpecs, EstimatesCost, Units, VideoSize, declared
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.datasets.clips import Clip
from kinoform.datasets.item import FIRST, FRAME_ROLES, LAST, Dataset, DatasetItem, some
from kinoform.errors import UsageError
from kinoform.media.types import InputImage, InputVideo, Mask


def check_needed(
    dataset: Dataset, conditioners: Sequence[Conditioner], video: VideoSize, *, roles: Sequence[str] = (),
    known: Sequence[int] = (),
) -> None:  # fmt: skip
    """Raise UsageError that names the items without what a model needs, and those with more than it reads.

    Each has at least one of the `roles`, if there are any, and all that a conditioner refuses to go without; `known`
    are frames that it is given of every clip.
    """
    count, path = len(dataset.items), dataset.path
    without = [item.name for item in dataset.items if roles and not set(roles) & item.files.keys()]
    if without:
        lacking = " nor ".join(role.removesuffix("s") for role in roles)
        beside = f"{Path(without[0]).stem}.{roles[0].removesuffix('s')}"
        raise UsageError(
            f"{len(without)} of {count} items of {path} have no {lacking}: {some(without)}; put one beside each clip, "
            f"called {beside} as the clip is called {Path(without[0]).stem}, or give it a column",
            code="input_missing",
        )
    faults = [(item.name, fault) for item in dataset.items if (fault := _fault(item, conditioners, video, known))]
    if faults:
        raise UsageError(
            f"{len(faults)} of {count} items of {path} do not fit the model: {faults[0][1]}; it is about "
            f"{some([name for name, _ in faults])}",
            code=faults[0][1].code,
        )


def needed_roles(clip: Clip, conditioners: Sequence[Conditioner], known: Sequence[int] = ()) -> tuple[str, ...]:
    """Return the roles of what a clip is given, its `known` frames too, that the model refuses to go without."""
    return tuple(
        role
        for role in clip.roles(known)
        if _fault(clip.item.without((role,)), conditioners, clip.size, [n for n in known if FRAME_ROLES.get(n) != role])
    )


def prefix_frames(
    item: DatasetItem, conditioners: Sequence[Conditioner], video: VideoSize, units: Units, encoders: EncoderSpecs
) -> int:
    """Return the latent frames that a model makes of the images of an item and puts before its video."""
    inputs = stand_ins(item, declared(conditioners), video)
    counted = (conditioner for conditioner in conditioners if isinstance(conditioner, EstimatesCost))
    return sum(conditioner.estimate(inputs, video, units, encoders).prefix_frames for conditioner in counted)


def stand_ins(
    item: DatasetItem, fields: Iterable[InputField[Any]], video: VideoSize, known: Sequence[int] = ()
) -> Inputs:
    """Return inputs of the kind and the number that an item has, in the size of a video, without reading a file.

    Inputs of a model's own that are files are left out.
    """
    fields, frames = frozenset(fields), video.num_frames
    shape = video.height, video.width
    row = np.linspace(0, 255, video.width).astype(np.uint8)  # neither of one colour nor all of it white
    image = InputImage(pixels=np.broadcast_to(row[None, :, None], (*shape, 3)))
    shown = [number for number, path in ((FIRST, item.first), (LAST, item.last)) if path is not None]
    values: dict[InputField[Any], Any] = {field: value for field in fields for name, value in item.own
                                          if field.name == name and not isinstance(value, tuple)}  # fmt: skip
    if item.source is not None:
        values[VIDEO] = InputVideo(frames=np.broadcast_to(image.pixels, (frames, *shape, 3)))
    if item.mask is not None:
        values[MASK] = Mask(values=np.broadcast_to(row, (1, *shape)))
    values[REFERENCE_IMAGES] = len(item.references) * (image,)
    values[FRAMES] = dict.fromkeys((*shown, *known), image)
    values[EXACT_SIZE] = True
    return Inputs({field: value for field, value in values.items() if field in fields})


def _fault(
    item: DatasetItem, conditioners: Sequence[Conditioner], video: VideoSize, known: Sequence[int]
) -> UsageError | None:
    """Return why a conditioner refuses the number of an item's inputs; one with files of its own is asked later."""
    inputs = stand_ins(item, declared(conditioners), video, known)
    files = {name for name, value in item.own if isinstance(value, tuple)}
    for conditioner in conditioners:
        if files.isdisjoint(field.name for field in conditioner.inputs):
            fault = _refusal(conditioner, inputs, video)
            if fault is not None and fault.code in ("input_missing", "too_many"):
                return fault
    return None


def _refusal(conditioner: Conditioner, inputs: Inputs, video: VideoSize) -> UsageError | None:
    try:
        conditioner.check(inputs, video)
    except UsageError as fault:
        return fault
    return None
