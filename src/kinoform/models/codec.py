"""Codecs: videos to latents and back, chunk by chunk, with what they remember as a value."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.ops.patch import Patch
from kinoform.types import Latents

Pixels = Float[Tensor, "b 3 t height width"]


@runtime_checkable
class Codec(Protocol):
    """Autoencoder of videos: pixels [b, 3, t, height, width] in [-1, 1] to latents [b, channels, f, h, w] and back.

    `stride` is (time, height, width). The first frame stands alone, so 1 + n * time frames make 1 + n
    latent frames. `encode` takes 1 + n * time frames first (history None), then multiples of `time`;
    `decode` takes any number of latent frames. Both return what the next chunk needs as `history`.
    """

    @property
    def channels(self) -> int: ...
    @property
    def stride(self) -> Patch: ...
    def encode(self, pixels: Pixels, history: Any = None) -> tuple[Latents, Any]: ...
    def decode(self, latents: Latents, history: Any = None) -> tuple[Pixels, Any]: ...


@runtime_checkable
class GivenUp(Protocol):
    """A history that can be freed bit by bit by the one call that it is given to next. Not every codec has such."""

    def given_up(self) -> Any: ...


@runtime_checkable
class CodecSpec(Protocol):
    """Kind of codec, by value. One that is `weightless` has nothing to train, to save or to load."""

    @property
    def channels(self) -> int: ...
    @property
    def stride(self) -> Patch: ...
    @property
    def weightless(self) -> bool: ...
    def build(self) -> Codec: ...


@dataclass(frozen=True, slots=True)
class IdentityCodec:
    """Codec of pixel models, and its own spec: latents are the pixels, in [-1, 1]."""

    @property
    def channels(self) -> int:
        return 3

    @property
    def stride(self) -> Patch:
        return 1, 1, 1

    @property
    def weightless(self) -> bool:
        return True

    def build(self) -> Codec:
        return self

    def encode(self, pixels: Pixels, history: Any = None) -> tuple[Latents, Any]:
        return pixels, ()

    def decode(self, latents: Latents, history: Any = None) -> tuple[Pixels, Any]:
        return latents, ()


@runtime_checkable
class Strided(Protocol):
    """Codec, or its spec, that knows its stride (time, height, width)."""

    @property
    def stride(self) -> Patch: ...


def latent_size(codec: Strided, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
    """Return (frames, height, width) of the latents of a video whose size is legal."""
    time, rows, columns = codec.stride
    return 1 + (num_frames - 1) // time, height // rows, width // columns


def check_size(codec: Strided, patch: Patch, num_frames: int, height: int, width: int) -> None:
    """Raise UsageError, with the nearest legal values, when codec and patch cannot hold the video.

    Frames must be 1 + n * time stride, in whole patches; sides must be multiples of stride * patch.
    """
    time, *sides = codec.stride
    legal = [1 + time * (n - 1) for n in _around(1 + (num_frames - 1) / time, patch[0])]
    if num_frames not in legal:
        raise UsageError(
            f"{num_frames} frames cannot be made; the nearest {_either(legal)}", code="frames_not_multiple"
        )
    for name, size, stride, part in zip(("height", "width"), (height, width), sides, patch[1:], strict=True):
        legal = [n * stride for n in _around(size / stride, part)]
        if size not in legal:
            raise UsageError(
                f"a {name} of {size} cannot be made; the nearest {_either(legal)}", code="size_not_multiple"
            )


def _around(value: float, step: int) -> list[int]:
    """The positive multiples of `step` next to `value`, below and above."""
    below = int(value // step) * step
    return sorted({max(below, step), max(below + step, step) if value != below else max(below, step)})


def _either(values: list[int]) -> str:
    return f"{'is' if len(values) == 1 else 'are'} {' and '.join(map(str, values))}"


def encode_video(codec: Codec, chunks: Iterable[Pixels]) -> Latents:
    """Encode a video that arrives in chunks to latents [b, c, f, h, w]; only one chunk of pixels is ever held."""
    history, result = None, list[Latents]()
    for chunk in chunks:
        latents, history = codec.encode(chunk, history)
        result.append(latents)
        history = given_up(history)
    return torch.cat(result, dim=2)


def decode_video(codec: Codec, latents: Latents, chunk: int = 1) -> Iterator[Pixels]:
    """Decode `latents` to pixels, yielding `chunk` latent frames at a time, at constant memory."""
    history = None
    for part in torch.split(latents, chunk, dim=2):
        pixels, history = codec.decode(part, history)
        yield pixels
        history = given_up(history)


def given_up(history: Any) -> Any:
    """A history that is used once more and never again, so that its memory may be freed on the way."""
    return history.given_up() if isinstance(history, GivenUp) else history


def to_signed(frames: UInt8[np.ndarray, "b t height width 3"]) -> Pixels:
    """Frames as codecs take them: 0..255 to [-1, 1], channels first, on the CPU."""
    return signed(torch.as_tensor(frames)).movedim(-1, 1)


def signed(values: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map 0..255 to [-1, 1], float32: (value / 255 - 0.5) / 0.5, in the official order of operations."""
    return values.float().div_(255).sub_(0.5).div_(0.5)


def to_uint8(pixels: Float[Tensor, "3 t height width"]) -> UInt8[np.ndarray, "t height width 3"]:
    """Frames for the eye: [-1, 1] clamped, scaled to 0..255 and *truncated*, as the official writer does."""
    frames = ((pixels.float().clamp(-1, 1) + 1) * 127.5).to(torch.uint8)
    return frames.permute(1, 2, 3, 0).contiguous().cpu().numpy()
