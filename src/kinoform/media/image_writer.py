"""Videos as images: one png, a folder of png frames (lossless), an animated gif or webp."""

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kinoform.errors import UsageError
from kinoform.files import check_folder_writable, check_writable, whole, whole_folder
from kinoform.media.metadata import FRAME_PATTERN, encode, exif, tags
from kinoform.media.resample import Times

Frames = Iterable[UInt8[np.ndarray, "h w 3"]]
Params = Mapping[str, object] | None

WEBP_QUALITY = 90


def check_png(path: Path, *, shape: tuple[int, int, int], force: bool) -> None:
    """Refuse early what `write_png` would refuse late. `shape`: frames, height, width. Raises UsageError."""
    if shape[0] != 1:
        raise _several(path)
    check_writable(path, force=force)


def write_png(
    frames: Frames, path: Path, *, fps: float, times: Times | None = None, params: Params = None, force: bool = False
) -> None:
    """Write a video of one frame. Raises UsageError for more frames or none; `fps` and `times` are of no use here."""
    stills = list(frames)
    if len(stills) != 1:
        raise _several(path)
    with whole(path, force=force) as temporary:
        temporary.write_bytes(_png(stills[0], params))


def check_frames(path: Path, *, shape: tuple[int, int, int], force: bool) -> None:
    """Refuse early what `write_frames` would refuse late. Raises UsageError."""
    check_folder_writable(path, holds=FRAME_PATTERN, force=force)


def write_frames(
    frames: Frames, path: Path, *, fps: float, times: Times | None = None, params: Params = None, force: bool = False
) -> None:
    """Write `frame_00000.png` and so on into the folder `path`, which appears when all frames are written.

    Every frame carries the parameters, since frames are often moved alone. With `force` an older folder is
    replaced if it holds nothing but frames. Warns of `times`, which pngs do not have.
    Raises UsageError, and KinoformError when the disk is full.
    """
    with whole_folder(path, holds=FRAME_PATTERN, force=force) as temporary:
        for index, pixels in enumerate(frames):
            (temporary / f"frame_{index:05d}.png").write_bytes(_png(pixels, params))
        if not any(temporary.iterdir()):
            raise UsageError(f"{path}: a video needs at least one frame", code="frames_missing")
    if times is not None:
        shortest, longest = (round(1000 * float(stay)) for stay in (min(times.stays), max(times.stays)))
        warnings.warn(
            f"{path} loses the times of its frames, which stay for {shortest} to {longest} ms; take a video, .gif or "
            ".webp to keep them",
            stacklevel=3,
        )


def check_animation(path: Path, *, shape: tuple[int, int, int], force: bool) -> None:
    """Refuse early what `write_gif` and `write_webp` would refuse late. Raises UsageError."""
    check_writable(path, force=force)


def write_gif(
    frames: Frames, path: Path, *, fps: float, times: Times | None = None, params: Params = None, force: bool = False
) -> None:
    """Write an endless gif of 256 colours per frame, timed in hundredths of a second.

    Parameters go into its comment. Raises UsageError, and KinoformError when the disk is full.
    """
    check_writable(path, force=force)
    images = _images(frames, path)
    comment = {} if params is None else {"comment": encode(params).encode()}
    durations = [10 * ticks for ticks in _whole_ticks(len(images), fps, times, 100)]
    with whole(path, force=force) as temporary:
        temporary.write_bytes(_animated(images, durations, format="GIF", **comment))


def write_webp(
    frames: Frames, path: Path, *, fps: float, times: Times | None = None, params: Params = None, force: bool = False
) -> None:
    """Write an endless webp, timed in milliseconds.

    Parameters go into its Exif block. Raises UsageError, and KinoformError when the disk is full.
    """
    check_writable(path, force=force)
    encoded = webp(_images(frames, path), fps=fps, times=times, params=params)
    with whole(path, force=force) as temporary:
        temporary.write_bytes(encoded)


def webp(images: list[Image.Image], *, fps: float, times: Times | None = None, params: Params = None) -> bytes:
    """Encode the file that `write_webp` writes, of at least one image."""
    durations = list(_whole_ticks(len(images), fps, times, 1000))
    return _animated(images, durations, format="WEBP", quality=WEBP_QUALITY, exif=exif(params))


def _images(frames: Frames, path: Path) -> list[Image.Image]:
    images = [Image.fromarray(pixels) for pixels in frames]
    if not images:
        raise UsageError(f"{path}: a video needs at least one frame", code="frames_missing")
    return images


def _animated(images: list[Image.Image], durations: list[int], **options: Any) -> bytes:
    # Written through memory: from a failing disk Pillow reports only a number of its own.
    encoded = io.BytesIO()
    images[0].save(encoded, save_all=True, append_images=images[1:], duration=durations, loop=0, **options)
    return encoded.getvalue()


def _whole_ticks(frames: int, fps: float, times: Times | None, second: int) -> Iterator[int]:
    """Return the ticks that frames stay, whole numbers whose sums stay within half a tick of the exact times.

    So a video keeps its length. There are `second` ticks in one.
    """
    if times is not None:
        yield from (round(stay * second) for stay in times.rounded(Fraction(1, second)).stays)
        return
    for index in range(frames):
        yield round((index + 1) * second / fps) - round(index * second / fps)


def _png(pixels: np.ndarray, params: Params) -> bytes:
    about = PngInfo()
    for key, text in tags(params).items():
        about.add_text(key, text)  # as tEXt, which every gallery reads; where Latin-1 is not enough, as iTXt
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG", pnginfo=about)
    return encoded.getvalue()


def _several(path: Path) -> UsageError:
    return UsageError(
        f"{path} can hold one frame only; give a folder ({path.with_suffix('')}/) or a .mp4 name", code="one_frame_only"
    )
