"""Inputs that the conditioners of this package read; they have options of their own on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kinoform.conditions.input_kinds import (
    FlagKind,
    ImagesKind,
    MaskKind,
    NumberedImagesKind,
    NumberKind,
    TextKind,
    VideoKind,
)
from kinoform.conditions.inputs import InputField

if TYPE_CHECKING:
    from kinoform.media.types import InputImage, InputVideo, Mask

FRAMES: InputField[Mapping[int, InputImage]] = InputField(
    name="frames",
    item="frame",
    kind=NumberedImagesKind(
        named=(
            ("image", 0, "The first frame; the same as --frame 0=FILE."),
            ("last_image", -1, "The last frame; the same as --frame -1=FILE."),
        )
    ),
    help="NUMBER=FILE: a known frame, from 0 on, -1 the last; repeatable.",
)

VIDEO: InputField[InputVideo | None] = InputField(
    name="video",
    kind=VideoKind(),
    help="A video or folder of frames to start from, to follow or to change.",
)

MASK: InputField[Mask | None] = InputField(
    name="mask",
    kind=MaskKind(of="video"),
    help="Where the video changes: white; still or moving.",
)

REFERENCE_IMAGES: InputField[tuple[InputImage, ...]] = InputField(
    name="reference_images",
    item="reference",
    phrase="references",
    kind=ImagesKind(),
    help="An image of what shall appear; repeatable.",
)

STRENGTH: InputField[float | None] = InputField(
    name="strength",
    kind=NumberKind(least=0.0, most=1.0, exclusive=True),
    help="How far --video is redone, above 0, up to 1.",
)

SOURCE_PROMPT: InputField[str | None] = InputField(
    name="source_prompt",
    kind=TextKind(),
    help="What --video shows now, to edit it into the prompt.",
)

CONTEXT_SCALE: InputField[float] = InputField(
    name="context_scale",
    kind=NumberKind(least=0.0, most=10.0),
    default=1.0,
    help="How strongly a control video counts, 0 to 10; 1 as trained.",
)

EXACT_SIZE: InputField[bool] = InputField(
    name="exact_size",
    kind=FlagKind(),
    help="Keep --size instead of the proportions of the image.",
)

STANDARD_INPUTS: tuple[InputField[Any], ...] = (
    FRAMES, VIDEO, MASK, REFERENCE_IMAGES, STRENGTH, SOURCE_PROMPT, CONTEXT_SCALE, EXACT_SIZE,
)  # fmt: skip
"""All inputs that this package declares; an input of one's own has another name than these."""
