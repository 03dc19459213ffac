"""Inputs from what people hand over: paths, pictures of Pillow, arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypedDict

from kinoform.conditions.inputs import Inputs
from kinoform.errors import UsageError
from kinoform.media.material import Picture
from kinoform.media.values import clip_of, mask_of, picture_of


class Material(TypedDict, total=False):
    """The arguments of `inputs_of`; pictures, films and masks as `media.values` takes them."""

    image: object
    last_image: object
    frames: Mapping[int, object] | Sequence[tuple[int, object]]
    film: object
    mask: object
    references: Sequence[object]
    strength: float | None
    source_prompt: str | None
    context_scale: float | None
    exact_size: bool


def inputs_of(
    *,
    fps: float | None = None,
    image: object = None,
    last_image: object = None,
    frames: Mapping[int, object] | Sequence[tuple[int, object]] = (),
    film: object = None,
    mask: object = None,
    references: Sequence[object] = (),
    strength: float | None = None,
    source_prompt: str | None = None,
    context_scale: float | None = None,
    exact_size: bool = False,
) -> Inputs:
    """Inputs with everything read; `image` is frame 0, `last_image` frame -1, see `Inputs` for the others.

    Films and masks that know their times are taken at `fps` frames per second, None for as they are.

    Raises UsageError for files that are missing or cannot be read, for arrays that are no pictures, and for a
    frame that is given twice.
    """
    pairs: Iterable[tuple[int, object]] = frames.items() if isinstance(frames, Mapping) else frames
    ends: list[tuple[int, object]] = [(0, image), (-1, last_image)]
    return Inputs(
        frames=dict(_once([*ends, *pairs])),
        film=None if film is None else clip_of(film, fps=fps),
        mask=None if mask is None else mask_of(mask, fps=fps),
        references=tuple(picture_of(each) for each in references),
        strength=strength,
        source_prompt=source_prompt,
        context_scale=context_scale,
        exact_size=exact_size,
    )


def _once(said: Iterable[tuple[int, object]]) -> Iterator[tuple[int, Picture]]:
    seen: set[int] = set()
    for number, value in said:
        if value is None:
            continue
        if number in seen:
            raise UsageError(
                f"frame {number} is given twice; the image is frame 0, the last image frame -1",
                code="frame_given_twice",
            )
        seen.add(number)
        yield number, picture_of(value)
