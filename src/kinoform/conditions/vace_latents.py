"""The control that VACE reads: a video's two halves, references and a mask, packed as latents and channels.

Source: the official Wan 2.1 VACE pipeline and its video processor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinoform.conditions.clip_checks import WHITE, latent_spans
from kinoform.conditions.protocols import Units, VideoSize
from kinoform.conditions.resize import Size, signal
from kinoform.models.codec import Codec, Pixels, encode_video, signed
from kinoform.ops.patch import Patch
from kinoform.types import Latents


def control_size(frames: int, size: Size, asked: VideoSize, units: Units) -> VideoSize:
    """The video that a control video of `frames` frames of a size makes: its proportions, no more tokens than `asked`.

    It is never larger than the control video, and may be longer than `asked` where that is small. The sides
    are 0 where not one token fits.
    """
    (height, width), (tall, wide) = size, units.side
    time = units.stride[0]
    most = asked.height * asked.width / (tall * wide)
    area = min(most, (height // tall) * (width // wide))
    if not area:
        return VideoSize(num_frames=frames, height=0, width=0)
    count = min(1 + (frames - 1) // time, int(most * (1 + (asked.num_frames - 1) // time) / area))
    rows = max(1, round(math.sqrt(area * (height / width))))
    columns = max(1, int(area / rows))
    return VideoSize(num_frames=1 + time * (count - 1), height=rows * tall, width=columns * wide)


def shown_frames(frames: int, count: int) -> list[int]:
    """Return the indices of the frames, of `frames`, that are seen at `count` times.

    The times go evenly from the start of the first frame to the middle of the last. A time on the border of two frames
    is of the earlier one; with count = frames every frame is seen.
    """
    ticks = 2 * max(1, count - 1)
    return [max(0, (tick * (2 * frames - 1) - 1) // ticks) for tick in range(count)]


def covering(frames: Iterable[UInt8[np.ndarray, "rows columns c"]], size: Size) -> UInt8[Tensor, "t c height width"]:
    """Frames resized to cover a size, and cropped in the middle: bicubic with antialias, rounded to bytes."""
    return torch.stack([_covering(frame, size) for frame in frames])


def on_white(image: UInt8[np.ndarray, "rows columns 3"], size: Size) -> Float[Tensor, "3 height width"]:
    """An image in [-1, 1], as large as it fits into the size (bilinear, no antialias), in the middle of white."""
    pixels = signal(image[None])
    (height, width), (rows, columns) = size, pixels.shape[2:]
    if (rows, columns) == size:
        return pixels[0]
    scale = min(height / rows, width / columns)
    inner = max(1, int(rows * scale)), max(1, int(columns * scale))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas = torch.ones(3, height, width)
    fitted = F.interpolate(pixels, size=inner, mode="bilinear", align_corners=False)
    canvas[:, top : top + inner[0], left : left + inner[1]] = fitted[0]
    return canvas


def video_halves(
    codec: Codec, frames: UInt8[Tensor, "t 3 height width"], mask: UInt8[Tensor, "t height width"], device: torch.device
) -> Latents:
    """Latents of what stays and, behind them, of what is white in the mask; each video is mid-grey elsewhere."""

    def half(changes: bool) -> Iterator[Pixels]:
        for places in latent_spans(len(frames), codec.stride[0]):
            chosen = (mask[places] >= WHITE) == changes
            yield _clip(torch.where(chosen[:, None], signed(frames[places]), 0.0)).to(device)

    return torch.cat([encode_video(codec, half(changes)) for changes in (False, True)], dim=1)


def video_latents(codec: Codec, frames: UInt8[Tensor, "t 3 height width"], device: torch.device) -> Latents:
    """Latents of the video as it is."""
    spans = latent_spans(len(frames), codec.stride[0])
    return encode_video(codec, (_clip(signed(frames[places])).to(device) for places in spans))


def grey_halves(codec: Codec, video: VideoSize, device: torch.device) -> Latents:
    """`video_halves` where there is no video: both are mid-grey throughout."""
    grey = torch.zeros(1, 3, 1, 1, device=device).expand(video.num_frames, -1, video.height, video.width)
    chunks = (_clip(grey[places]) for places in latent_spans(video.num_frames, codec.stride[0]))
    return encode_video(codec, chunks).repeat(1, 2, 1, 1, 1)


def reference_latents(
    codec: Codec, images: Sequence[Float[Tensor, "3 height width"]], device: torch.device
) -> Iterator[Latents]:
    """[1, 2 * channels, 1, h, w] of each image, encoded alone: in the place of what stays; zeros for what changes."""
    for image in images:
        latents, _ = codec.encode(_clip(image[None]).to(device))
        yield torch.cat([latents, torch.zeros_like(latents)], dim=1)


def packed_mask(mask: UInt8[Tensor, "t height width"], stride: Patch) -> Float[Tensor, "1 cells f h w"]:
    """Every pixel of a latent cell as a channel in 0..1, row by row, of the frame nearest to a latent frame's middle.

    Latent frames here divide the video evenly, though those of the codec do not (its first holds one frame).
    Greys stay: the official code makes them black or white for the halves of the video alone.
    """
    time, rows, columns = stride
    count = 1 + (len(mask) - 1) // time
    nearest = [(2 * place + 1) * len(mask) // (2 * count) for place in range(count)]
    pattern = "f (h rows) (w columns) -> 1 (rows columns) f h w"
    return rearrange(mask[nearest].float() / 255, pattern, rows=rows, columns=columns)


def packed(
    halves: Float[Tensor, "1 c f h w"],
    references: Sequence[Float[Tensor, "1 c 1 h w"]],
    cells: Float[Tensor, "1 cells f h w"],
) -> Float[Tensor, "1 channels all h w"]:
    """The whole control: references before the video in their order, their mask zero, the mask behind the latents."""
    latents = torch.cat([*references, halves], dim=2)
    cells = F.pad(cells, (0, 0, 0, 0, len(references), 0)).to(latents)
    return torch.cat([latents, cells], dim=1)


def _covering(frame: UInt8[np.ndarray, "rows columns c"], size: Size) -> UInt8[Tensor, "c height width"]:
    # A copy: strangers' arrays may be read-only or run backwards.
    values = torch.as_tensor(np.array(frame, order="C")).movedim(2, 0)
    (height, width), (rows, columns) = size, frame.shape[:2]
    if (rows, columns) == size:
        return values
    scale = max(width / columns, height / rows)
    outer = round(scale * rows), round(scale * columns)
    top, left = (outer[0] - height) // 2, (outer[1] - width) // 2
    resized = F.interpolate(values[None], size=outer, mode="bicubic", antialias=True)[0]
    return resized[:, top : top + height, left : left + width]


def _clip(frames: Float[Tensor, "t 3 height width"]) -> Pixels:
    return rearrange(frames, "t c height width -> 1 c t height width")
