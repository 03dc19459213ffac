"""Videos at a glance: frames of one on an image, numbered, or several as one video; with the prompts below."""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from kinoform.errors import UsageError
from kinoform.files import whole as whole_file
from kinoform.media.text_layout import CAPTION_SIZE, LINE_HEIGHT, wrapped
from kinoform.media.video import Video
from kinoform.numbers import Whole, whole

MAX_CELLS = 25
MAX_TIMES = 2**20
"""The largest value of any option: more columns, or a larger factor, than a sheet could have."""

CELL_SIDE = 256
"""Pixels of the longer side of a cell at most, without `upscale`."""

ASPECT = 1.5
"""Width over height that a sheet aims at."""

GAP = 8
NUMBER_SIZE, NUMBER_HEIGHT = 11, 16
BACKGROUND, FAINT, BRIGHT = (22, 22, 24), (140, 140, 146), (232, 232, 234)


def contact_sheet(
    video: Video, *, columns: Whole | None = None, every: Whole | None = None, upscale: Whole | None = None
) -> Image.Image:
    """Draw every `every`-th frame from left to right and top to bottom, each with its number and time below it.

    By default at most 25 frames are shown, in a sheet somewhat wider than high; small frames are enlarged by
    whole factors without smoothing, and large ones are reduced. `upscale` is a whole factor instead of this.
    Raises UsageError when an option is below 1.
    """
    columns, every, upscale = (
        None if value is None else whole(name, value, 1, MAX_TIMES)
        for name, value in (("columns", columns), ("every", every), ("upscale", upscale))
    )
    count = len(video.frames)
    shown = range(0, count, every or math.ceil(count / MAX_CELLS))
    cell = _cell_size(video, upscale)
    layout = _Layout(cell=cell, columns=min(columns or _columns(len(shown), cell), len(shown)), count=len(shown))
    lines = _caption(video, layout.width - 2 * GAP)
    sheet = Image.new("RGB", (layout.width, layout.height + _caption_height(lines)), BACKGROUND)
    for index, frame in enumerate(shown):
        _draw_cell(sheet, video, frame, layout.corner(index), cell)
    _draw_caption(sheet, lines, top=layout.height)
    return sheet


def save_contact_sheet(video: Video, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the sheet as png. Raises UsageError for another extension, or a name that is taken."""
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise UsageError(
            f"{target}: a contact sheet is a .png file; take {target.with_suffix('.png').name}", code="wrong_suffix"
        )
    encoded = io.BytesIO()
    contact_sheet(video).save(encoded, format="PNG")
    with whole_file(target, force=force) as temporary:
        temporary.write_bytes(encoded.getvalue())
    return target


def video_grid(videos: Sequence[Video], *, columns: Whole = 3, upscale: Whole = 1) -> Video:
    """Join videos in one that shows them row by row; every pixel is repeated `upscale` times along both sides.

    Raises UsageError without videos, for an option below 1, and for videos of several sizes or rates.
    """
    if not videos:
        raise UsageError("a grid of no videos; give one at least", code="input_missing")
    columns, upscale = whole("columns", columns, 1, MAX_TIMES), whole("upscale", upscale, 1, MAX_TIMES)
    kinds = {(video.frames.shape, video.fps) for video in videos}
    if len(kinds) > 1:
        raise UsageError(
            f"videos of {len(kinds)} sizes or rates do not fit one grid; make them alike", code="sizes_differ"
        )
    columns = min(columns, len(videos))
    cells = [_grid_cell(video, upscale) for video in videos]
    height = max(cell.shape[1] for cell in cells)
    rows = -(-len(videos) // columns)
    count, _, width, _ = cells[0].shape
    shape = (count, GAP + rows * (height + GAP), GAP + columns * (width + GAP), 3)
    frames = np.broadcast_to(np.array(BACKGROUND, np.uint8), shape).copy()
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        frames[:, top : top + cell.shape[1], left : left + width] = cell
    return Video(frames=frames, fps=videos[0].fps, params={"videos": [dict(video.params) for video in videos]})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    cell: tuple[int, int]
    columns: int
    count: int

    @property
    def width(self) -> int:
        return GAP + self.columns * (self.cell[0] + GAP)

    @property
    def height(self) -> int:
        return GAP + math.ceil(self.count / self.columns) * (self.cell[1] + NUMBER_HEIGHT + GAP)

    def corner(self, index: int) -> tuple[int, int]:
        row, column = divmod(index, self.columns)
        return GAP + column * (self.cell[0] + GAP), GAP + row * (self.cell[1] + NUMBER_HEIGHT + GAP)


def _cell_size(video: Video, upscale: int | None) -> tuple[int, int]:
    _, height, width, _ = video.frames.shape
    longer = max(height, width)
    factor = upscale or CELL_SIDE // longer or CELL_SIDE / longer
    return max(1, round(width * factor)), max(1, round(height * factor))


def _columns(count: int, cell: tuple[int, int]) -> int:
    """Choose the number of columns near the wanted aspect that leaves the fewest cells empty."""
    wanted = math.ceil(math.sqrt(count * ASPECT * (cell[1] + NUMBER_HEIGHT) / cell[0]))
    near = range(max(1, wanted - 1), wanted + 2)
    return min(near, key=lambda columns: (-count % columns, abs(columns - wanted)))


def _draw_cell(sheet: Image.Image, video: Video, frame: int, corner: tuple[int, int], cell: tuple[int, int]) -> None:
    image = Image.fromarray(video.frames[frame])
    enlarged = cell[0] >= image.width
    sheet.paste(image.resize(cell, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS), corner)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(NUMBER_SIZE)
    left, bottom = corner[0], corner[1] + cell[1] + 2
    number, time = str(frame), f"{frame / video.fps:.2f} s"
    draw.text((left, bottom), number, fill=BRIGHT, font=font)
    if font.getlength(number + time) + GAP < cell[0]:
        draw.text((left + cell[0], bottom), time, fill=FAINT, font=font, anchor="ra")


def _caption(video: Video, width: int) -> list[tuple[str, tuple[int, int, int]]]:
    count, height, pixels_wide, _ = video.frames.shape
    facts = [f"{count} frame{'s' * (count > 1)}", f"{pixels_wide}x{height}", f"{video.fps:g} fps"]
    if "seed" in video.params:
        facts.append(f"seed {video.params['seed']}")
    prompt = wrapped(str(video.params.get("prompt", "")), width)
    facts_line = wrapped(", ".join(facts), width)
    return [(line, BRIGHT) for line in prompt] + [(line, FAINT) for line in facts_line]


def _caption_height(lines: list[tuple[str, tuple[int, int, int]]]) -> int:
    return len(lines) * LINE_HEIGHT + GAP if lines else 0


def _draw_caption(sheet: Image.Image, lines: list[tuple[str, tuple[int, int, int]]], *, top: int) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(CAPTION_SIZE)
    for index, (line, colour) in enumerate(lines):
        draw.text((GAP, top + index * LINE_HEIGHT), line, fill=colour, font=font)


def _grid_cell(video: Video, upscale: int) -> UInt8[np.ndarray, "f h w 3"]:
    """Return the enlarged video with its prompt below it."""
    large = video.frames.repeat(upscale, axis=1).repeat(upscale, axis=2)
    lines = wrapped(str(video.params.get("prompt", "")), large.shape[2])
    strip = Image.new("RGB", (large.shape[2], len(lines) * LINE_HEIGHT + GAP), BACKGROUND)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(CAPTION_SIZE)
    for index, line in enumerate(lines):
        draw.text((0, GAP // 2 + index * LINE_HEIGHT), line, fill=BRIGHT, font=font)
    below = np.broadcast_to(np.asarray(strip), (len(large), *np.asarray(strip).shape))
    return np.concatenate([large, below], axis=1)
