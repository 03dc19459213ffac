"""Several videos as one: side by side, at the same time, each with its prompt beneath."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from kinoform.errors import UsageError
from kinoform.media.contact_sheet import BACKGROUND, BRIGHT, GAP, MOST_TIMES
from kinoform.media.video import Video
from kinoform.media.words import CAPTION_SIZE, LINE_HEIGHT, wrapped
from kinoform.numbers import Whole, whole


def wall(videos: Sequence[Video], *, columns: Whole = 3, upscale: Whole = 1) -> Video:
    """One video of them all, row by row; every pixel is repeated `upscale` times along both sides.

    Raises UsageError without videos, for an option below 1, and for videos of several sizes or rates.
    """
    if not videos:
        raise UsageError("a wall of no videos; give one at least", code="input_missing")
    columns, upscale = whole("columns", columns, 1, MOST_TIMES), whole("upscale", upscale, 1, MOST_TIMES)
    kinds = {(video.frames.shape, video.fps) for video in videos}
    if len(kinds) > 1:
        raise UsageError(
            f"videos of {len(kinds)} sizes or rates do not fit one wall; make them alike", code="sizes_differ"
        )
    columns = min(columns, len(videos))
    cells = [_cell(video, upscale) for video in videos]
    height = max(cell.shape[1] for cell in cells)
    rows = -(-len(videos) // columns)
    count, _, width, _ = cells[0].shape
    shape = (count, GAP + rows * (height + GAP), GAP + columns * (width + GAP), 3)
    frames = np.broadcast_to(np.array(BACKGROUND, np.uint8), shape).copy()
    for place, cell in enumerate(cells):
        row, column = divmod(place, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        frames[:, top : top + cell.shape[1], left : left + width] = cell
    return Video(frames=frames, fps=videos[0].fps, params={"videos": [dict(video.params) for video in videos]})


def _cell(video: Video, upscale: int) -> UInt8[np.ndarray, "f h w 3"]:
    """The enlarged video with its prompt below it."""
    large = video.frames.repeat(upscale, axis=1).repeat(upscale, axis=2)
    lines = wrapped(str(video.params.get("prompt", "")), large.shape[2])
    strip = Image.new("RGB", (large.shape[2], len(lines) * LINE_HEIGHT + GAP), BACKGROUND)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(CAPTION_SIZE)
    for place, line in enumerate(lines):
        draw.text((0, GAP // 2 + place * LINE_HEIGHT), line, fill=BRIGHT, font=font)
    below = np.broadcast_to(np.asarray(strip), (len(large), *np.asarray(strip).shape))
    return np.concatenate([large, below], axis=1)
