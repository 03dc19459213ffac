"""Report of an edit: figures of what it kept and what it changed, and of what its saved file kept."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import UInt8

from kinoform.editing.masks import Alpha
from kinoform.media.read import read_clip
from kinoform.media.video import Video

PEAK = 255.0

GOOD, FAIR = 28.0, 20.0
"""PSNR in dB of the model's version of pixels to be kept: above the first hard to tell from the source, below the
second something else. Models that see a video reach 24 to 37 (docs/editing.md)."""

VISIBLE, STRIKING = 3.0, 10.0
"""CIEDE2000 differences across a boundary: below the first it is hardly visible, above the second at once."""

MIN_SAVED = 35.0
"""Least PSNR in dB, outside the feathered mask, that is promised of a saved video."""

Frames = UInt8[np.ndarray, "f height width 3"]
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport:
    """Frames `start` up to `stop`, made from `seed` in `width` x `height` pixels.

    `colour_shift` is the correction of red, green and blue, of 255; `boundary_delta_e` as in `EditReport`.
    """

    start: int
    stop: int
    seed: int
    width: int
    height: int
    colour_shift: Colour
    boundary_delta_e: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditReport:
    """Figures of an edit; `outside` are the pixels, over all frames, beyond the feathered mask.

    `outside_equal`: all of them are the source's, bit for bit (also of none at all);
    `raw_psnr_outside_db`: PSNR of the model's output, before it was blended, against the source, at those of them that
    the model was shown; None without such, infinite where they are equal;
    `boundary_delta_e`: mean of `pair_differences`, and `boundary_delta_e_worst` that of the worst frame; None without a
    boundary; `colour_shift`: mean of the segments'; `changed_share`: share of the video's pixels that are not outside.
    """

    outside_equal: bool
    outside_pixels: int
    raw_psnr_outside_db: float | None
    boundary_delta_e: float | None
    boundary_delta_e_worst: float | None
    colour_shift: Colour
    changed_share: float
    segments: tuple[SegmentReport, ...]

    def as_json(self) -> dict[str, object]:
        """Return rounded figures; null for None and for an infinite PSNR."""
        return {
            "outside_equal": self.outside_equal,
            "outside_pixels": self.outside_pixels,
            "raw_psnr_outside_db": _rounded(self.raw_psnr_outside_db),
            "boundary_delta_e": _rounded(self.boundary_delta_e),
            "boundary_delta_e_worst": _rounded(self.boundary_delta_e_worst),
            "colour_shift": [round(value, 2) for value in self.colour_shift],
            "changed_share": round(self.changed_share, 4),
            "segments": [
                {
                    **asdict(segment),
                    "colour_shift": [round(value, 2) for value in segment.colour_shift],
                    "boundary_delta_e": _rounded(segment.boundary_delta_e),
                }
                for segment in self.segments
            ],
        }

    def sentences(self) -> tuple[str, ...]:
        """Return the figures in words."""
        sentences = [self._outside()]
        if self.raw_psnr_outside_db is not None:
            sentences.append(
                f"the model itself kept it at {self.raw_psnr_outside_db:.1f} dB, which is {self.keeping}"
                + ("; look at what it made before you use it" if self.keeping == "bad" else "")
            )
        if self.boundary_delta_e is not None:
            sentences.append(
                f"colour difference at the boundary (CIEDE2000): {self.boundary_delta_e:.1f} on the mean, "
                f"{self.boundary_delta_e_worst:.1f} in the worst frame; {_visibility(self.boundary_delta_e)}"
            )
        if any(self.colour_shift):
            red, green, blue = self.colour_shift
            sentences.append(
                f"colours inside were moved by {red:+.1f} red, {green:+.1f} green, {blue:+.1f} blue, of 255"
            )
        return tuple(sentences)

    @property
    def keeping(self) -> str:
        """Return how well the model itself kept what was to be kept: "good", "fair" or "bad"."""
        psnr = math.inf if self.raw_psnr_outside_db is None else self.raw_psnr_outside_db
        return "good" if psnr >= GOOD else "fair" if psnr >= FAIR else "bad"

    def _outside(self) -> str:
        if not self.outside_pixels:
            return "the whole video was free to change, so nothing of it is promised to be equal"
        outside = f"outside the mask ({1 - self.changed_share:.1%} of the video)"
        return f"{outside} every pixel equals the source" if self.outside_equal else f"{outside} PIXELS DIFFER"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedReport:
    """PSNR of a saved video outside the feathered mask: infinite where all pixels are equal, None without any."""

    psnr_db: float | None

    @property
    def good(self) -> bool:
        """Return whether the file keeps what is promised of a saved video."""
        return self.psnr_db is None or self.psnr_db >= MIN_SAVED

    def as_json(self) -> dict[str, object]:
        """Return the figures; `psnr_outside_db` is null where all pixels are equal, and where none are outside."""
        equal = self.psnr_db is not None and math.isinf(self.psnr_db)
        return {"outside_equal": equal, "psnr_outside_db": _rounded(self.psnr_db)}


def edit_report(
    source: Frames,
    result: Frames,
    alpha: Alpha,
    *,
    pixels: int,
    squares: float,
    values: int,
    differences: Sequence[float | None],
    segments: tuple[SegmentReport, ...],
) -> EditReport:
    """Return the report of an edit with these segments.

    Source and result are compared where alpha is 0; `pixels` counts all of the result. `squares` is the sum of squared
    errors of so many `values` of the model's output; `differences` are those at the boundaries.
    """
    equal, outside = outside_equal(source, result, alpha)
    return EditReport(
        outside_equal=equal,
        outside_pixels=outside,
        raw_psnr_outside_db=decibels(squares, values),
        boundary_delta_e=mean_of(differences),
        boundary_delta_e_worst=max((value for value in differences if value is not None), default=None),
        colour_shift=mean_colour([segment.colour_shift for segment in segments]),
        changed_share=1 - outside / pixels,
        segments=segments,
    )


def saved_report(path: str | os.PathLike[str], video: Video, alpha: Alpha) -> SavedReport:
    """Compare a saved file with the edited video where alpha is 0.

    Raises UsageError for a file that cannot be read, or is above the limits of `media.limits`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the frame rates of gif and webp
        saved = read_clip(path, fps=video.fps if video.times is None else None)
    squares, count = 0.0, 0
    for before, after, weight in zip(video.frames, saved.frames, alpha, strict=False):
        outside = weight == 0
        errors = after[outside].astype(np.int32) - before[outside]
        squares, count = squares + float((errors**2).sum()), count + errors.size
    return SavedReport(psnr_db=decibels(squares, count))


def outside_equal(source: Frames, result: Frames, alpha: Alpha) -> tuple[bool, int]:
    """Return whether all pixels of alpha 0 are equal, and their number."""
    equal, count = True, 0
    for before, after, weight in zip(source, result, alpha, strict=True):
        outside = weight == 0
        equal &= bool((before[outside] == after[outside]).all())
        count += int(outside.sum())
    return equal, count


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None; None without any."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def mean_colour(shifts: Sequence[Colour]) -> Colour:
    """Return the mean shift; no shift without any."""
    red, green, blue = (sum(shift[channel] for shift in shifts) / max(1, len(shifts)) for channel in range(3))
    return red, green, blue


def decibels(squares: float, count: int) -> float | None:
    """Return 10 log10(255^2 count / squares) of summed squared errors; None without values, infinite without errors."""
    if not count:
        return None
    return 10 * math.log10(PEAK**2 * count / squares) if squares else math.inf


def _visibility(difference: float) -> str:
    if difference < VISIBLE:
        return "it is hardly visible"
    return "it is visible" if difference < STRIKING else "it is visible at once"


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 2)
