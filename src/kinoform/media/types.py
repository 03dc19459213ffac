"""Images, videos and masks that a video is made from, as arrays; reading them from files is `media.read`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from kinoform.errors import UsageError
from kinoform.media.resample import Times
from kinoform.media.upright import Stance
from kinoform.numbers import plain, settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The file that an input came from: its name without folders, and the SHA-256 of its bytes (hexadecimal)."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sound:
    """The sound tracks of the video `name`, as `media.audio` records them; heard from `start` seconds of another on."""

    data: bytes = field(repr=False)
    name: str
    start: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputImage:
    """An image, RGB in 0..255. `origin` is None for pixels of no file. Raises UsageError for other arrays."""

    pixels: UInt8[np.ndarray, "h w 3"] = field(repr=False)
    origin: Origin | None = None

    def __post_init__(self) -> None:
        _check("an image", self.pixels, "height, width, 3")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width, _ = self.pixels.shape
        return height, width

    @property
    def name(self) -> str:
        """The name of it in errors."""
        return "the image" if self.origin is None else self.origin.file


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputVideo:
    """A video: RGB frames in 0..255, `fps` of them per second (None: unknown). Raises UsageError as `InputImage`.

    `times` are those of frames that do not all stay as long, whose mean rate is `fps` then; `sound` is what is heard
    with them, where it was asked for; `stance` is how they lay in a file, for masks that lie so too.
    """

    frames: UInt8[np.ndarray, "f h w 3"] = field(repr=False)
    fps: float | None = None
    origin: Origin | None = None
    times: Times | None = field(default=None, repr=False)
    sound: Sound | None = None
    stance: Stance | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check("a video", self.frames, "frames, height, width, 3")
        settle(self, fps=plain(self.fps))
        check_times(self.times, len(self.frames))

    @property
    def seconds(self) -> float | None:
        """The length; None where nobody says."""
        if self.times is not None:
            return float(self.times.seconds)
        return None if self.fps is None else len(self.frames) / self.fps

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        _, height, width, _ = self.frames.shape
        return height, width

    @property
    def name(self) -> str:
        """The name of it in errors."""
        return "the video" if self.origin is None else self.origin.file


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputFile:
    """Bytes of a file. `origin` is None for bytes that were never a file."""

    data: bytes = field(repr=False)
    origin: Origin | None = None

    @property
    def name(self) -> str:
        """The name of it in errors."""
        return "the file" if self.origin is None else self.origin.file

    @property
    def text(self) -> str:
        """Return the bytes as text. Raises UsageError where they are not UTF-8."""
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.name} is not UTF-8 text: {error}", code="file_unreadable") from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask:
    """The area that is to change: 255 (white) everywhere it is, 0 where the video stays; grey lies between.

    One frame stands for all frames of a video. Raises UsageError as `InputImage`.
    """

    values: UInt8[np.ndarray, "f h w"] = field(repr=False)
    origin: Origin | None = None

    def __post_init__(self) -> None:
        _check("a mask", self.values, "frames, height, width")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        _, height, width = self.values.shape
        return height, width

    @property
    def name(self) -> str:
        """The name of it in errors."""
        return "the mask" if self.origin is None else self.origin.file


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
