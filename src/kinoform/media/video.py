"""A video: frames, their rate, and how they were made; the result of every pipeline."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from kinoform.errors import UsageError, nearest
from kinoform.media import image_writer as images
from kinoform.media.audio import Fitted, fitted
from kinoform.media.codecs import VIDEO, encoding
from kinoform.media.limits import RATES
from kinoform.media.resample import Times
from kinoform.media.types import Sound, check_times
from kinoform.media.video_writer import check_video, write_video
from kinoform.numbers import Whole, real, settle, whole

MAX_UPSCALE = 64
"""Times that each pixel is repeated along both sides at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Video:
    """RGB frames in 0..255, `fps` of them per second, and JSON-able `params` that tell how they were made.

    `times` are those of frames that do not all stay as long, with `fps` as their mean rate; `sound` is heard with them.
    Raises UsageError when there is no frame, frames are not uint8 RGB, `fps` is below 0.01 or above 1000, or there
    are times of another number of frames.
    """

    frames: UInt8[np.ndarray, "f h w 3"] = field(repr=False)
    fps: float
    params: Mapping[str, object] = field(default_factory=dict)
    times: Times | None = field(default=None, repr=False)
    sound: Sound | None = None

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise UsageError(
                f"a video is uint8 [frames, height, width, 3], not {self.frames.dtype} {list(shape)}", code="wrong_type"
            )
        settle(self, fps=real("fps", self.fps, *RATES))
        check_times(self.times, len(self.frames))

    def __repr__(self) -> str:
        frames, height, width, _ = self.frames.shape
        return f"Video({frames} frames of {width}x{height} at {self.fps:g} fps)"

    def _repr_html_(self) -> str:
        """HTML for notebooks: a small video that plays, without sound, of 4 MB at most."""
        from kinoform.media.notebook import html_of  # a notebook's alone

        return html_of(self)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        upscale: Whole = 1,
        codec: str | None = None,
        crf: Whole | None = None,
        metadata: bool = True,
    ) -> Path:
        """Write the video in the format that the name asks for, and return its path.

        `.mp4` (codec h264 or av1), `.webm` (vp9 or av1), `.mkv` (ffv1, lossless; or h264, vp9, av1), `.gif`,
        `.webp`, `.png` for a single frame; a name without extension or with `/` at its end is a folder of
        lossless png frames. `crf` is the quality of a video that is not lossless, 0 the best. `upscale`
        repeats every pixel that many times along both sides, `metadata=False` leaves `params` out.
        Sound is kept in videos, coded anew where that kind of file does not take its codec; times in all but
        folders. Warns of that, and of what is lost.
        Raises UsageError as `check_output` does, and KinoformError when the encoder fails or the disk is
        full; a file that stood there is then untouched.
        """
        factor = whole("upscale", upscale, 1, MAX_UPSCALE)
        shape = _upscaled_shape(self.frames.shape, factor)
        check_output(path, shape=shape, force=force, codec=codec, crf=crf)
        params = self.saved_params(path, upscale=upscale, codec=codec, crf=crf) if metadata else None
        target = Path(path)
        sound = None if self.sound is None else fitted(self.sound, _suffix(path))
        write = format_of(path, codec=codec, crf=crf, sound=sound).write
        write(_upscaled(self.frames, factor), target, fps=self.fps, times=self.times, params=params, force=force)
        return target

    def saved_params(
        self, path: str | os.PathLike[str], *, upscale: Whole = 1, codec: str | None = None, crf: Whole | None = None
    ) -> dict[str, object]:
        """Return the parameters that `save` writes into the file: those of the video, and how it is encoded there."""
        chosen = format_of(path, codec=codec, crf=crf).settings
        return {**self.params, "encoding": {"upscale": whole("upscale", upscale, 1, MAX_UPSCALE), **chosen}}


@runtime_checkable
class Write(Protocol):
    def __call__(
        self,
        frames: Iterable[UInt8[np.ndarray, "h w 3"]],
        path: Path,
        *,
        fps: float,
        times: Times | None,
        params: Mapping[str, object] | None,
        force: bool,
    ) -> None: ...


@runtime_checkable
class Check(Protocol):
    def __call__(self, path: Path, *, shape: tuple[int, int, int], force: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """The writer of one kind of video, and the check of what can be refused before there is a video.

    `settings` are the choices of the encoder that the parameters in the file tell of.
    """

    write: Write
    check: Check
    settings: Mapping[str, object] = field(default_factory=dict)


FOLDER = Format(write=images.write_frames, check=images.check_frames)
IMAGES = {
    ".png": Format(write=images.write_png, check=images.check_png),
    ".gif": Format(write=images.write_gif, check=images.check_animation),
    ".webp": Format(write=images.write_webp, check=images.check_animation),
}


def format_of(
    path: str | os.PathLike[str], *, codec: str | None = None, crf: Whole | None = None, sound: Fitted | None = None
) -> Format:
    """Return the format that a name asks for, with `sound`. Raises UsageError for an unknown extension or codec."""
    name, suffix = os.fspath(path), _suffix(path)
    if suffix in VIDEO:
        chosen = encoding(VIDEO[suffix], codec, crf)
        return Format(
            write=partial(write_video, encoding=chosen, sound=sound),
            check=partial(check_video, encoding=chosen),
            settings={"codec": chosen.codec.name} | ({} if chosen.crf is None else {"crf": chosen.crf}),
        )
    if suffix and suffix not in IMAGES:
        known = nearest(suffix, [*VIDEO, *IMAGES])
        raise UsageError(
            f"{name}: no video format {suffix!r}; {known}, or name/ for a folder of png", code="unknown_format"
        )
    if codec is not None or crf is not None:
        raise UsageError(
            f"{name}: a codec and its crf are for {', '.join(VIDEO)}; leave them out or change the name",
            code="options_conflict",
        )
    return IMAGES[suffix] if suffix else FOLDER


def _suffix(path: str | os.PathLike[str]) -> str:
    """Return the extension that says the format; empty for a folder of frames."""
    return "" if os.fspath(path).endswith(("/", os.sep)) else Path(path).suffix.lower()


def check_output(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int, int],
    force: bool,
    codec: str | None = None,
    crf: Whole | None = None,
) -> None:
    """Refuse before the work what `Video.save` would refuse after it; `shape` is frames, height, width.

    Raises UsageError for an unknown extension, codec or quality, a name that is taken (without `force`) or
    not legal, a folder that is missing, an odd size for a video that is not lossless, or several frames for
    one png.
    """
    format_of(path, codec=codec, crf=crf).check(Path(path), shape=shape, force=force)


def _upscaled_shape(shape: tuple[int, ...], factor: int) -> tuple[int, int, int]:
    frames, height, width, _ = shape
    return frames, height * factor, width * factor


def _upscaled(frames: np.ndarray, factor: int) -> Iterator[np.ndarray]:
    for frame in frames:
        yield frame.repeat(factor, axis=0).repeat(factor, axis=1)
