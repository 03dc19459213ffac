"""Numbers that anyone can check: what an edit kept, and what it changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from kinoform.editing.masks import Alpha
from kinoform.editing.seam import seam_differences

PEAK = 255.0

GOOD, FAIR = 28.0, 20.0
"""PSNR in dB of what a model makes of what it is to keep: from the first on hard to tell from the source, below the
second something else. Models that know a video reach 24 to 37 (docs/editing.md)."""

SEEN, STRIKING = 3.0, 10.0
"""Differences of CIEDE2000 across a border: below the first it is hardly seen, above the second at once."""

Frames = UInt8[np.ndarray, "f height width 3"]
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport:
    """Frames `start` up to `stop`, made from `seed` in `width` x `height` pixels.

    `colour_shift` is the correction of red, green and blue, of 255; `seam_delta_e` as in `EditReport`.
    """

    start: int
    stop: int
    seed: int
    width: int
    height: int
    colour_shift: Colour
    seam_delta_e: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditReport:
    """`outside` are the pixels, over all frames, that lie beyond the feathered mask.

    `outside_equal`: all of them are the source's, bit for bit (as is said of none at all);
    `raw_psnr_outside_db`: of what the model made, before it was laid over the video, against the source, at those of
    them that it was shown; None where there are none, infinite where they are equal;
    `seam_delta_e`: mean of `seam_differences`, and `seam_delta_e_worst` that of the worst frame; None without a border;
    `colour_shift`: that of the segments on the mean; `changed_share`: of the video's pixels that are not outside.
    """

    outside_equal: bool
    outside_pixels: int
    raw_psnr_outside_db: float | None
    seam_delta_e: float | None
    seam_delta_e_worst: float | None
    colour_shift: Colour
    changed_share: float
    segments: tuple[SegmentReport, ...]

    def as_json(self) -> dict[str, object]:
        """Numbers rounded to what they are good for; null for none and for an infinite PSNR."""
        return {
            "outside_equal": self.outside_equal,
            "outside_pixels": self.outside_pixels,
            "raw_psnr_outside_db": _rounded(self.raw_psnr_outside_db),
            "seam_delta_e": _rounded(self.seam_delta_e),
            "seam_delta_e_worst": _rounded(self.seam_delta_e_worst),
            "colour_shift": [round(each, 2) for each in self.colour_shift],
            "changed_share": round(self.changed_share, 4),
            "segments": [
                {
                    "start": each.start, "stop": each.stop, "seed": each.seed,
                    "width": each.width, "height": each.height,
                    "colour_shift": [round(one, 2) for one in each.colour_shift],
                    "seam_delta_e": _rounded(each.seam_delta_e),
                }
                for each in self.segments
            ],
        }  # fmt: skip

    def sentences(self) -> tuple[str, ...]:
        """The same for people."""
        said = [self._promise()]
        if self.raw_psnr_outside_db is not None:
            said.append(
                f"the model itself kept it at {self.raw_psnr_outside_db:.1f} dB, which is {self.keeping}"
                + ("; look at what it made before you use it" if self.keeping == "bad" else "")
            )
        if self.seam_delta_e is not None:
            said.append(
                f"colour difference at the border (CIEDE2000): {self.seam_delta_e:.1f} on the mean, "
                f"{self.seam_delta_e_worst:.1f} in the worst frame; {_shown(self.seam_delta_e)}"
            )
        if any(self.colour_shift):
            red, green, blue = self.colour_shift
            said.append(f"colours inside were moved by {red:+.1f} red, {green:+.1f} green, {blue:+.1f} blue, of 255")
        return tuple(said)

    @property
    def keeping(self) -> str:
        """A grade of what the model itself kept: "good", "fair" or "bad"; "good" where it was to keep nothing."""
        there = math.inf if self.raw_psnr_outside_db is None else self.raw_psnr_outside_db
        return "good" if there >= GOOD else "fair" if there >= FAIR else "bad"

    def _promise(self) -> str:
        if not self.outside_pixels:
            return "the whole video was free to change, so nothing of it is promised to be equal"
        stays = f"outside the mask ({1 - self.changed_share:.1%} of the video)"
        return f"{stays} every pixel equals the source" if self.outside_equal else f"{stays} PIXELS DIFFER"


def _shown(seam: float) -> str:
    return "it is hardly seen" if seam < SEEN else "it is seen" if seam < STRIKING else "it is seen at once"


def outside_equal(source: Frames, result: Frames, alpha: Alpha) -> tuple[bool, int]:
    """Tell whether all pixels of alpha 0 are equal, compared frame by frame, and how many there are."""
    equal, count = True, 0
    for before, after, rim in zip(source, result, alpha, strict=True):
        outside = rim == 0
        equal &= bool((before[outside] == after[outside]).all())
        count += int(outside.sum())
    return equal, count


def seams(
    source: Frames, result: Frames, alpha: Alpha, *, feather: float, step: Callable[[], None] = lambda: None
) -> list[float | None]:
    """The mean of `seam_differences` in each frame, None where it has no border; `step` is called for each."""
    means = list[float | None]()
    for frames in zip(source, result, alpha, strict=True):
        step()
        found = seam_differences(*frames, feather=feather)
        means.append(float(found.mean()) if found.size else None)
    return means


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of those that there are; None without any."""
    there = [each for each in values if each is not None]
    return sum(there) / len(there) if there else None


def worst_of(values: Sequence[float | None]) -> float | None:
    return max((each for each in values if each is not None), default=None)


def mean_colour(shifts: Sequence[Colour]) -> Colour:
    """Black, no shift, without any."""
    red, green, blue = (sum(each[channel] for each in shifts) / max(1, len(shifts)) for channel in range(3))
    return red, green, blue


def decibels(squares: float, count: int) -> float | None:
    """10 log10(255^2 count / squares) of summed squared errors; None of no values, infinite without an error."""
    if not count:
        return None
    return 10 * math.log10(PEAK**2 * count / squares) if squares else math.inf


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 2)
