"""Preview of an edit as an image, drawn without reading a weight."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from kinoform.editing.edit_plan import EditPlan
from kinoform.editing.extend_plan import ExtendPlan
from kinoform.editing.window import Window
from kinoform.media.contact_sheet import CELL_SIDE, contact_sheet
from kinoform.media.video import Video

CHANGES, BLENDS, SEEN = (235, 40, 90), (250, 200, 40), (40, 170, 250)
"""Colours: red where the video changes wholly, yellow where old and new are blended, blue around the window."""

TINT = 0.55
"""Opacity of the tint, 0 to 1."""

Frame = UInt8[np.ndarray, "height width 3"]


def preview(plan: EditPlan) -> Image.Image:
    """Return a contact sheet of the video with the grown and feathered mask in colours, and a legend."""
    frames = np.stack([tinted(frame, alpha) for frame, alpha in zip(plan.source.frames, plan.alpha, strict=True)])
    for segment in plan.passes:
        for frame in frames[segment.span.start : segment.span.stop]:
            outline(frame, segment.window)
    legend = f"{plan.base.prompt} - red changes, yellow is blended, the model sees what is inside blue"
    return contact_sheet(Video(frames=frames, fps=plan.fps, params={"prompt": legend}))


def preview_extend(plan: ExtendPlan) -> Image.Image:
    """Return a contact sheet of the first pass: its context, red frames for the new ones, and a legend."""
    context = plan.nearest(plan.source.frames).copy()
    edge = tinted(context[0] if plan.settings.before else context[-1], np.ones(plan.source.size, np.float32))
    for frame in context:
        outline(frame, plan.window)
    frames = plan.joined(context, np.repeat(edge[None], plan.passes[0], axis=0))
    legend = f"{plan.base.prompt} - red is made, the model sees what is inside blue"
    if len(plan.passes) > 1:
        legend += f"; the first of {len(plan.passes)} passes"
    return contact_sheet(Video(frames=frames, fps=plan.fps, params={"prompt": legend}))


def tinted(frame: Frame, alpha: Float32[np.ndarray, "height width"]) -> Frame:
    """Return a frame with what changes in it tinted."""
    result, touched = frame.copy(), alpha > 0
    colour = np.where(alpha[touched][:, None] == 1, CHANGES, BLENDS)
    result[touched] = np.rint((1 - TINT) * frame[touched] + TINT * colour).astype(np.uint8)
    return result


def outline(frame: Frame, window: Window) -> None:
    """Draw the edge of the window into a frame, wide enough to be visible on a sheet."""
    wide = math.ceil(max(frame.shape[:2]) / CELL_SIDE)
    part = frame[window.inside((frame.shape[0], frame.shape[1]))]
    part[:wide] = part[-wide:] = SEEN
    part[:, :wide] = part[:, -wide:] = SEEN
