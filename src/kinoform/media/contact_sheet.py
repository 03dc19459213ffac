"""A video on one image: some of its frames, numbered, with the prompt below."""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kinoform.errors import UsageError
from kinoform.files import whole
from kinoform.media.video import Video
from kinoform.media.words import CAPTION_SIZE, LINE_HEIGHT, wrapped
from kinoform.numbers import Whole
from kinoform.numbers import whole as whole_number

MOST_CELLS = 25
MOST_TIMES = 2**20
"""The largest value of any option: more columns, or a larger factor, than a sheet could have."""

CELL_SIDE = 256
"""Without `upscale`, the longer side of a cell is at most this many pixels."""

ASPECT = 1.5
"""Width over height that a sheet aims at."""

GAP = 8
NUMBER_SIZE, NUMBER_HEIGHT = 11, 16
BACKGROUND, FAINT, BRIGHT = (22, 22, 24), (140, 140, 146), (232, 232, 234)


def contact_sheet(
    video: Video, *, columns: Whole | None = None, every: Whole | None = None, upscale: Whole | None = None
) -> Image.Image:
    """Every `every`-th frame from left to right and top to bottom, each with its number and time below it.

    By default at most 25 frames are shown, in a sheet somewhat wider than high; small frames are enlarged by
    whole factors without smoothing, and large ones are reduced. `upscale` is a whole factor instead of this.
    Raises UsageError when an option is below 1.
    """
    columns, every, upscale = (
        None if value is None else whole_number(name, value, 1, MOST_TIMES)
        for name, value in (("columns", columns), ("every", every), ("upscale", upscale))
    )
    count = len(video.frames)
    shown = range(0, count, every or math.ceil(count / MOST_CELLS))
    cell = _cell_size(video, upscale)
    layout = _Layout(cell=cell, columns=min(columns or _columns(len(shown), cell), len(shown)), count=len(shown))
    lines = _caption(video, layout.width - 2 * GAP)
    sheet = Image.new("RGB", (layout.width, layout.height + _caption_height(lines)), BACKGROUND)
    for place, frame in enumerate(shown):
        _draw_cell(sheet, video, frame, layout.corner(place), cell)
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
    with whole(target, force=force) as temporary:
        temporary.write_bytes(encoded.getvalue())
    return target


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

    def corner(self, place: int) -> tuple[int, int]:
        row, column = divmod(place, self.columns)
        return GAP + column * (self.cell[0] + GAP), GAP + row * (self.cell[1] + NUMBER_HEIGHT + GAP)


def _cell_size(video: Video, upscale: int | None) -> tuple[int, int]:
    _, height, width, _ = video.frames.shape
    longer = max(height, width)
    factor = upscale or CELL_SIDE // longer or CELL_SIDE / longer
    return max(1, round(width * factor)), max(1, round(height * factor))


def _columns(count: int, cell: tuple[int, int]) -> int:
    """Of the three numbers around the wanted aspect, the one that leaves the fewest places empty."""
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
    for place, (line, colour) in enumerate(lines):
        draw.text((GAP, top + place * LINE_HEIGHT), line, fill=colour, font=font)
