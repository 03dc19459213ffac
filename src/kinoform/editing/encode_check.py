"""Compares the saved video, read back, with the video that was edited: what the encoder left of the promise."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass

import numpy as np

from kinoform.editing.edit import Edited
from kinoform.editing.report import decibels
from kinoform.media.read import read_clip

PROMISED = 35.0
"""The least PSNR in dB, outside the feathered mask, that a saved video promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """`psnr_db` outside the feathered mask: infinite where every pixel is equal, None where there is no outside."""

    psnr_db: float | None

    @property
    def promised(self) -> bool:
        return self.psnr_db is None or self.psnr_db >= PROMISED

    def as_json(self) -> dict[str, object]:
        """`psnr_outside_db` is null where all is equal, and where there is no outside."""
        equal = self.psnr_db is not None and math.isinf(self.psnr_db)
        return {
            "outside_equal": equal,
            "psnr_outside_db": None if self.psnr_db is None or equal else round(self.psnr_db, 2),
        }


def kept(path: str | os.PathLike[str], edited: Edited) -> Kept:
    """Read a saved video and compare it, frame by frame, with the edited one, which is the source's own outside.

    Raises UsageError for a file that cannot be read, or is above the limits of `media.limits`.
    """
    video = edited.video
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how gif and webp keep their pace
        written = read_clip(path, fps=video.fps if video.times is None else None)
    squares, count = 0.0, 0
    for before, after, alpha in zip(video.frames, written.frames, edited.alpha, strict=False):
        outside = alpha == 0
        errors = after[outside].astype(np.int32) - before[outside]
        squares, count = squares + float((errors**2).sum()), count + errors.size
    return Kept(psnr_db=decibels(squares, count))
