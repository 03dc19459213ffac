"""A video on a larger canvas: the video itself stays bit for bit where it is put, and its surroundings are made."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kinoform.conditions.clip_checks import by
from kinoform.conditions.resize import Size
from kinoform.editing import edit
from kinoform.editing.edit import Edited
from kinoform.editing.edit_plan import EditPlan, plan_source
from kinoform.editing.passes import UNKEPT, Passes
from kinoform.editing.settings import EditSettings
from kinoform.editing.worlds import tell_world
from kinoform.errors import UsageError, nearest
from kinoform.media.coerce import clip_of
from kinoform.media.types import InputVideo, Mask
from kinoform.numbers import Whole, whole
from kinoform.pipelines.generate import Callback
from kinoform.pipelines.pipeline import Pipeline

LARGEST_SIDE = 16384

FAR = 4
"""From this many times the area of the video on, most of what is shown is made up."""

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
"""Share of what is added along height and width that stands above and to the left of the video."""


def outpaint(
    pipeline: Pipeline,
    video: object,
    prompt: str,
    *,
    width: Whole,
    height: Whole,
    anchor: str = "center",
    settings: EditSettings | None = None,
    tell: Callback | None = None,
    **changes: Any,
) -> Edited:
    """Make a video of width x height pixels around the video at `anchor` (a key of ANCHORS); `changes` as in `edit`.

    The `feather` of the settings lies wholly in what is made: there the edge of the video, repeated, fades into it.
    Raises UsageError as `edit` does, for a size that is not larger than the video, and for an unknown anchor; warns
    of one with more than four times its area.
    """
    plan = plan_outpaint(
        pipeline, video, prompt, width=width, height=height, anchor=anchor, settings=settings, **changes
    )
    return carry_out(plan, tell)


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
    """Plan what `outpaint` of the same arguments will do: an edit on a larger canvas. Raises as that does."""
    clip = clip_of(video, sound=True)
    wanted = whole("height", height, 1, LARGEST_SIDE), whole("width", width, 1, LARGEST_SIDE)
    sides = _sides(clip, wanted, anchor)
    settings = settings or EditSettings()
    _, wished = settings.rim(clip.size)
    feather = min(int(wished), min(count for side in sides for count in side if count) - 1)
    # The model sees grey around the video, as it was trained; the repeated edge is for the composite alone.
    settings = replace(settings, grow=0, feather=float(feather), show_source=False)
    canvas = replace(clip, frames=np.pad(clip.frames, ((0, 0), *sides, (0, 0)), mode="edge"))
    tell_world(pipeline.recipe, clip.name, clip.size)
    mask: Any = _around(clip.size, sides, feather)
    return plan_source(pipeline, canvas, prompt, mask=mask, settings=settings, **changes)


def carry_out(plan: EditPlan, tell: Callback | None = None, passes: Passes = UNKEPT) -> Edited:
    """Outpaint as planned, as `edit.carry_out` does."""
    with warnings.catch_warnings():
        # On a plain ground what is made may well be what the edge shows.
        warnings.filterwarnings("ignore", "the edit changed next to nothing")
        return edit.carry_out(plan, tell, passes)


def _sides(clip: InputVideo, wanted: Size, anchor: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels to be made above and below the video, and to its left and right."""
    if anchor not in ANCHORS:
        raise UsageError(f"no anchor {anchor!r}; {nearest(anchor, ANCHORS)}", code="unknown_name")
    more = [side - there for side, there in zip(wanted, clip.size, strict=True)]
    if min(more) < 0 or not any(more):
        raise UsageError(
            f"{clip.name} is {by(clip.size)}, which {by(wanted)} does not surround; ask for a larger size",
            code="size_out_of_range",
        )
    if wanted[0] * wanted[1] > FAR * clip.size[0] * clip.size[1]:
        warnings.warn(
            f"{by(wanted)} has more than {FAR} times the area of {clip.name} of {by(clip.size)}; little holds what is "
            "made so far out to the video",
            stacklevel=3,
        )
    before = [int(share * count) for share, count in zip(ANCHORS[anchor], more, strict=True)]
    return (before[0], more[0] - before[0]), (before[1], more[1] - before[1])


def _around(size: Size, sides: tuple[tuple[int, int], tuple[int, int]], feather: int) -> Mask:
    """White beyond `feather` pixels from the video, so that what is feathered ends at its edge."""
    (top, bottom), (left, right) = sides
    rows, columns = (
        slice(max(0, before - feather), before + length + feather)
        for before, length in zip((top, left), size, strict=True)
    )
    white = np.full((1, top + size[0] + bottom, left + size[1] + right), 255, np.uint8)
    white[:, rows, columns] = 0
    return Mask(values=white)
