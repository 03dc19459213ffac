"""A video as a notebook shows it: small, mute, and inside the page, so that the notebook needs no other file."""

from __future__ import annotations

import io
from base64 import b64encode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from einops import reduce
from jaxtyping import UInt8
from PIL import Image

from kinoform.media.video_writer import evened

if TYPE_CHECKING:
    from kinoform.media.video import Video

LONGEST_SIDE = 480
"""Pixels of the longer side of what is shown; a larger video is shrunk by a whole number."""

SHOWN = 320
"""Pixels on the page, at least, of the longer side."""

MAX_BYTES = 4_000_000
"""Bytes of the video in the page, before base64 makes four of three."""

QUALITIES = (23, 35, 47)
"""CRF of H.264, the next where the one before is too large."""


def html_of(video: Video) -> str:
    """Return an HTML element that plays the video in a loop; its first frame where even a coarse one is too large."""
    frames = shrunk(video.frames)
    height, width = frames.shape[1:3]
    factor = max(1, SHOWN // max(height, width))
    rendering = "pixelated" if factor > 1 else "auto"
    style = f'width="{width * factor}" style="max-width: 100%; image-rendering: {rendering}"'
    encoded = None if len(frames) == 1 else _encoded(video, evened(frames))
    if encoded is None:
        return f'<img src="data:image/png;base64,{_text(_image(frames[0]))}" {style}>'
    source = f'src="data:video/mp4;base64,{_text(encoded)}"'
    return f"<video {source} {style} controls loop autoplay muted playsinline></video>"


def shrunk(frames: UInt8[np.ndarray, "f height width 3"]) -> UInt8[np.ndarray, "f h w 3"]:
    """Return the mean of squares of pixels, so large that the longer side has at most LONGEST_SIDE of them."""
    height, width = frames.shape[1:3]
    by = -(-max(height, width) // LONGEST_SIDE)
    if by == 1:
        return frames
    rows, columns = max(1, height // by), max(1, width // by)
    tall, wide = min(by, height), min(by, width)  # of a strip narrower than a square
    whole = frames[:, : rows * tall, : columns * wide]
    means = (reduce(item, "(h p) (w q) c -> h w c", np.mean, p=tall, q=wide) for item in whole)
    return np.stack([mean.round().astype(np.uint8) for mean in means])


def _encoded(video: Video, frames: UInt8[np.ndarray, "f h w 3"]) -> bytes | None:
    small = type(video)(frames=frames, fps=video.fps, times=video.times)
    with TemporaryDirectory() as folder:
        for quality in QUALITIES:
            path = small.save(Path(folder, "shown.mp4"), crf=quality, metadata=False, force=True)
            if path.stat().st_size <= MAX_BYTES:
                return path.read_bytes()
    return None


def _image(frame: UInt8[np.ndarray, "h w 3"]) -> bytes:
    written = io.BytesIO()
    Image.fromarray(frame).save(written, "PNG")
    return written.getvalue()


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")
