"""Draws what is going to be made as an image; no weight is read for it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from kinoform.editing.edit_plan import EditPlan
from kinoform.editing.extend_plan import Continuation
from kinoform.editing.window import Window
from kinoform.media.contact_sheet import CELL_SIDE, contact_sheet
from kinoform.media.video import Video

CHANGES, BLENDS, SEEN = (235, 40, 90), (250, 200, 40), (40, 170, 250)
"""Red where the video changes wholly, yellow where old and new are blended, blue around what the model sees."""

TINT = 0.55
"""Opacity of the colour that is laid over the video, 0 to 1."""

Frame = UInt8[np.ndarray, "height width 3"]


def preview(plan: EditPlan) -> Image.Image:
    """A contact sheet of the video with the mask in colours, grown and feathered as it counts, and a legend."""
    frames = np.stack([tinted(*each) for each in zip(plan.source.frames, plan.alpha, strict=True)])
    for segment in plan.segments:
        for frame in frames[segment.span.start : segment.span.stop]:
            outline(frame, segment.window)
    told = f"{plan.asked.prompt} - red changes, yellow is blended, the model sees what is inside blue"
    return contact_sheet(Video(frames=frames, fps=plan.fps, params={"prompt": told}))


def preview_extend(plan: Continuation) -> Image.Image:
    """A contact sheet of the first pass: the frames that the model is handed, the places of the new ones, a legend."""
    known = plan.nearest(plan.source.frames)
    edge = tinted(known[0] if plan.before else known[-1], np.ones(plan.source.size, np.float32))
    handed = known.copy()
    for frame in handed:
        outline(frame, plan.window)
    frames = plan.joined(handed, np.repeat(edge[None], plan.portions[0], axis=0))
    told = f"{plan.asked.prompt} - red is made, the model sees what is inside blue"
    if len(plan.portions) > 1:
        told += f"; the first of {len(plan.portions)} passes"
    return contact_sheet(Video(frames=frames, fps=plan.fps, params={"prompt": told}))


def tinted(frame: Frame, alpha: Float32[np.ndarray, "height width"]) -> Frame:
    """A frame under the colours of what changes in it; elsewhere as it is."""
    result, touched = frame.copy(), alpha > 0
    colour = np.where(alpha[touched][:, None] == 1, CHANGES, BLENDS)
    result[touched] = np.rint((1 - TINT) * frame[touched] + TINT * colour).astype(np.uint8)
    return result


def outline(frame: Frame, window: Window) -> None:
    """Draw the edge of the window into a frame, wide enough to be seen on a sheet."""
    wide = math.ceil(max(frame.shape[:2]) / CELL_SIDE)
    part = frame[window.inside((frame.shape[0], frame.shape[1]))]
    part[:wide] = part[-wide:] = SEEN
    part[:, :wide] = part[:, -wide:] = SEEN
