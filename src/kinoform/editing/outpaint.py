"""Outpainting: a video stays bit for bit inside a larger one, and its surroundings are made."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kinoform.conditions.clip_checks import by
from kinoform.conditions.resize import Size
from kinoform.editing.edit import carry_out
from kinoform.editing.edit_plan import EditPlan, plan_source
from kinoform.editing.passes import Edited, warn_unfamiliar
from kinoform.editing.settings import EditSettings
from kinoform.errors import UsageError, nearest
from kinoform.media.coerce import clip_of
from kinoform.media.types import InputVideo, Mask
from kinoform.numbers import Whole, whole
from kinoform.pipelines.generate import Callback
from kinoform.pipelines.pipeline import Pipeline

MAX_SIDE = 16384

MAX_AREA = 4
"""Largest area without a warning, as a multiple of the video's; beyond it most of the result is invented."""

ANCHORS: Mapping[str, tuple[float, float]] = {
    "center": (0.5, 0.5),
    "top": (0.0, 0.5),
    "bottom": (1.0, 0.5),
    "left": (0.5, 0.0),
    "right": (0.5, 1.0),
    "top-left": (0.0, 0.0),
    "top-right": (0.0, 1.0),
    "bottom-left": (1.0, 0.0),
    "bottom-right": (1.0, 1.0),
}
"""Shares of the added height and width that lie above and to the left of the video."""


def outpaint(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    width: Whole,
    height: Whole,
    anchor: str = "center",
    settings: EditSettings | None = None,
    on_progress: Callback | None = None,
    **changes: Any,
) -> Edited:
    """Make a video of width x height pixels around the video at `anchor` (a key of ANCHORS); `changes` as in `edit`.

    The `feather` of the settings lies wholly outside the video: there the repeated edge of the video fades into what
    is made. Raises UsageError as `edit`, for a size that is not larger than the video, and for an unknown anchor;
    warns of a size of more than four times the video's area.
    """
    plan = plan_outpaint(
        pipeline, video, prompt, width=width, height=height, anchor=anchor, settings=settings, **changes
    )
    return carry_out(plan, on_progress)


def plan_outpaint(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    width: Whole,
    height: Whole,
    anchor: str = "center",
    settings: EditSettings | None = None,
    **changes: Any,
) -> EditPlan:
    """Plan the `outpaint` of the same arguments: an edit of a padded video. Raises as `outpaint`."""
    clip = clip_of(video, sound=True)
    sides = _sides(clip, (whole("height", height, 1, MAX_SIDE), whole("width", width, 1, MAX_SIDE)), anchor)
    settings = settings or EditSettings()
    feather = min(int(settings.edge(clip.size)[1]), min(count for side in sides for count in side if count) - 1)
    # The model sees grey around the video, as it was trained; only the composite uses the repeated edge.
    settings = replace(settings, grow=0, feather=float(feather), show_source=False)
    padded = replace(clip, frames=np.pad(clip.frames, ((0, 0), *sides, (0, 0)), mode="edge"))
    warn_unfamiliar(pipeline.recipe, clip.name, clip.size)
    mask: Any = _around(clip.size, sides, feather)
    # On a plain ground the surroundings may well equal the repeated edge: no warning of an edit without a change.
    return plan_source(pipeline, padded, prompt, mask=mask, settings=settings, warn_unchanged=False, **changes)


def _sides(clip: InputVideo, size: Size, anchor: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the pixels to make above and below the video, and to its left and right."""
    if anchor not in ANCHORS:
        raise UsageError(f"no anchor {anchor!r}; {nearest(anchor, ANCHORS)}", code="unknown_name")
    more = [side - own for side, own in zip(size, clip.size, strict=True)]
    if min(more) < 0 or not any(more):
        raise UsageError(
            f"{clip.name} is {by(clip.size)}, which {by(size)} does not surround; ask for a larger size",
            code="size_out_of_range",
        )
    if size[0] * size[1] > MAX_AREA * clip.size[0] * clip.size[1]:
        warnings.warn(
            f"{by(size)} has more than {MAX_AREA} times the area of {clip.name} of {by(clip.size)}; pixels so far out "
            "depend little on the video",
            stacklevel=3,
        )
    before = [int(share * count) for share, count in zip(ANCHORS[anchor], more, strict=True)]
    return (before[0], more[0] - before[0]), (before[1], more[1] - before[1])


def _around(size: Size, sides: tuple[tuple[int, int], tuple[int, int]], feather: int) -> Mask:
    """Return a mask that is white beyond `feather` pixels from the video, so that the feather ends at its edge."""
    (top, bottom), (left, right) = sides
    rows, columns = (
        slice(max(0, before - feather), before + length + feather)
        for before, length in zip((top, left), size, strict=True)
    )
    white = np.full((1, top + size[0] + bottom, left + size[1] + right), 255, np.uint8)
    white[:, rows, columns] = 0
    return Mask(values=white)
