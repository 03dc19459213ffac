"""Images, videos and masks that a video is made from, as arrays; reading them from files is `media.read`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from kinoform.errors import UsageError
from kinoform.media.resample import Times
from kinoform.media.upright import Stance
from kinoform.numbers import plain, settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """File that an input came from: its name without folders, and the SHA-256 of its bytes (hexadecimal)."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sound:
    """Sound tracks of the video `name`, as `media.audio` records them; heard from `start` seconds of another on."""

    data: bytes = field(repr=False)
    name: str
    start: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _FromFile:
    """Base of inputs, which may come from a file; `noun` is what errors call one that does not."""

    noun: ClassVar[str]
    origin: Origin | None = None

    @property
    def name(self) -> str:
        """Name in errors."""
        return self.noun if self.origin is None else self.origin.file


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputImage(_FromFile):
    """An image, RGB in 0..255. `origin` is None for pixels of no file. Raises UsageError for other arrays."""

    noun = "the image"
    pixels: UInt8[np.ndarray, "h w 3"] = field(repr=False)

    def __post_init__(self) -> None:
        _check("an image", self.pixels, "height, width, 3")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width, _ = self.pixels.shape
        return height, width


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputVideo(_FromFile):
    """A video: RGB frames in 0..255, `fps` of them per second (None: unknown). Raises UsageError as `InputImage`.

    `times` are those of frames of unequal durations, whose mean rate is `fps` then; `sound` is their sound, where it
    was read; `stance` is their orientation in a file, for masks of the same orientation.
    """

    noun = "the video"
    frames: UInt8[np.ndarray, "f h w 3"] = field(repr=False)
    fps: float | None = None
    times: Times | None = field(default=None, repr=False)
    sound: Sound | None = None
    stance: Stance | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check("a video", self.frames, "frames, height, width, 3")
        settle(self, fps=plain(self.fps))
        check_times(self.times, len(self.frames))

    @property
    def seconds(self) -> float | None:
        """Length in seconds; None where it is unknown."""
        if self.times is not None:
            return float(self.times.seconds)
        return None if self.fps is None else len(self.frames) / self.fps

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        _, height, width, _ = self.frames.shape
        return height, width


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputFile(_FromFile):
    """Bytes of a file. `origin` is None for bytes that were never a file."""

    noun = "the file"
    data: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """Return the bytes as text. Raises UsageError where they are not UTF-8."""
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.name} is not UTF-8 text: {error}", code="file_unreadable") from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask(_FromFile):
    """Mask of the area to change: 255 (white) inside, 0 where the video stays; grey lies between.

    One frame stands for all frames of a video. Raises UsageError as `InputImage`.
    """

    noun = "the mask"
    values: UInt8[np.ndarray, "f h w"] = field(repr=False)

    def __post_init__(self) -> None:
        _check("a mask", self.values, "frames, height, width")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        _, height, width = self.values.shape
        return height, width


def check_times(times: Times | None, count: int) -> None:
    """Raise UsageError for times of another number of frames."""
    if times is not None and len(times.begins) != count:
        raise UsageError(
            f"{len(times.begins)} times are given for {count} frames; give one for each", code="times_differ"
        )


def _check(what: str, values: object, axes: str) -> None:
    rank = axes.count(",") + 1
    right = isinstance(values, np.ndarray) and values.dtype == np.uint8 and values.ndim == rank and values.size > 0
    if not right or (axes.endswith("3") and values.shape[-1] != 3):  # type: ignore[union-attr]
        given = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__
        raise UsageError(f"{what} is uint8 [{axes}], not {given}", code="wrong_type")
