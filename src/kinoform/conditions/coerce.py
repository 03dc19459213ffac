"""Inputs from what people hand over: paths, images of Pillow, arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.mask_fitting import fitted_mask
from kinoform.errors import UsageError
from kinoform.media.coerce import clip_of, image_of, mask_of
from kinoform.media.types import InputImage
from kinoform.numbers import Number, Whole, plain, whole_of


class InputKwargs(TypedDict, total=False):
    """The arguments of `to_inputs`; images, videos and masks as `media.values` takes them."""

    image: object
    last_image: object
    frames: Mapping[Any, object] | Sequence[tuple[Whole, object]]
    video: object
    mask: object
    references: Sequence[object]
    strength: Number | None
    source_prompt: str | None
    context_scale: Number | None
    exact_size: bool
    fit_mask: bool


def to_inputs(
    *,
    fps: Number | None = None,
    num_frames: Whole | None = None,
    image: object = None,
    last_image: object = None,
    frames: Mapping[Any, object] | Sequence[tuple[Whole, object]] = (),
    video: object = None,
    mask: object = None,
    references: Sequence[object] = (),
    strength: Number | None = None,
    source_prompt: str | None = None,
    context_scale: Number | None = None,
    exact_size: bool = False,
    fit_mask: bool = False,
) -> Inputs:
    """Inputs with everything read; `image` is frame 0, `last_image` frame -1, see `Inputs` for the others.

    A mask is brought to the size and length of the video as `fitted_mask` does, with `fit_mask` to any size.

    Videos and masks that know their times are taken at `fps` frames per second, None for as they are, and of all
    videos and masks no more than `num_frames` frames are read, None for all.

    Raises UsageError for files that are missing or cannot be read, for arrays that are no images, and for a
    frame that is given twice.
    """
    rate = plain(fps)
    pairs: Iterable[tuple[Whole, object]] = frames.items() if isinstance(frames, Mapping) else frames
    ends: list[tuple[Whole, object]] = [(0, image), (-1, last_image)]
    clip = None if video is None else clip_of(video, fps=rate, num_frames=num_frames)
    area = None if mask is None else mask_of(mask, fps=rate, num_frames=num_frames, video=clip)
    return Inputs(
        frames=dict(_once([*ends, *pairs])),
        video=clip,
        mask=area if area is None or clip is None else fitted_mask(area, clip, fit=fit_mask, whole=False),
        references=tuple(image_of(each) for each in references),
        strength=plain(strength),
        source_prompt=source_prompt,
        context_scale=plain(context_scale),
        exact_size=exact_size,
    )


def _once(said: Iterable[tuple[Whole, object]]) -> Iterator[tuple[int, InputImage]]:
    seen: set[int] = set()
    for number, value in said:
        if value is None:
            continue
        found = whole_of(number)
        if found is None:
            raise UsageError(f"an image is given for frame {number!r}; give a whole number", code="not_a_whole_number")
        if found in seen:
            raise UsageError(
                f"frame {number} is given twice; the image is frame 0, the last image frame -1",
                code="frame_given_twice",
            )
        seen.add(found)
        yield found, image_of(value)
