"""The codec walked layer by layer: operations, what it remembers between chunks, what it holds while it works.

The walk mirrors models/vae.py; a chunk is one latent frame, the first of which stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import NamedTuple

from kinoform.models.codec import CodecSpec
from kinoform.models.shortcut import REACH
from kinoform.models.vae import VAESpec

FLOAT = 4
KERNEL = 3
PAST = KERNEL - 1
"""Frames that a causal convolution keeps of its input."""


class Place(NamedTuple):
    """Where a layer works: frames of this chunk, their height and width."""

    frames: int
    height: int
    width: int

    @property
    def area(self) -> int:
        return self.height * self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Operations of a layer on one chunk; bytes that it keeps for the next, and that it holds at its worst.

    `copies` are those that a kernel makes meanwhile for itself, where it does; see `Kernels`.
    """

    flops: int
    kept: int = 0
    held: int = 0
    copies: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecWork:
    """Work of a whole video. `history` is kept between chunks, `peak` is the most at any time, that included.

    `copies` come on top where kernels make copies.
    """

    flops: int
    history: int
    peak: int
    copies: int


NO_WORK = CodecWork(flops=0, history=0, peak=0, copies=0)
"""Of a codec without a network."""


def decode_work(spec: CodecSpec, latents: tuple[int, int, int]) -> CodecWork:
    """Latents (frames, height, width) to pixels. The last chunk's stay while the next are made."""
    if not isinstance(spec, VAESpec):
        return NO_WORK
    frames, height, width = latents
    first = list(_decoder(spec, Place(1, height, width), first=True))
    if frames == 1:
        return _video(first, first, 0, beside=0)
    later = list(_decoder(spec, Place(1, height, width), first=False))
    return _video(first, later, frames - 1, beside=_pixels(spec, latents, spec.stride[0]))


def encode_work(spec: CodecSpec, latents: tuple[int, int, int]) -> CodecWork:
    """Pixels to latents (frames, height, width)."""
    if not isinstance(spec, VAESpec):
        return NO_WORK
    frames, height, width = latents
    time, rows, columns = spec.stride
    first = list(_encoder(spec, Place(1, height * rows, width * columns), first=True))
    if frames == 1:
        return _video(first, first, 0, beside=_pixels(spec, latents, 1))
    later = list(_encoder(spec, Place(time, height * rows, width * columns), first=False))
    return _video(first, later, frames - 1, beside=_pixels(spec, latents, time))


def _pixels(spec: VAESpec, latents: tuple[int, int, int], frames: int) -> int:
    """Bytes of that many frames."""
    _, rows, columns = spec.stride
    return FLOAT * 3 * frames * latents[1] * rows * latents[2] * columns


def _video(first: list[Layer], later: list[Layer], count: int, *, beside: int) -> CodecWork:
    """Later chunks begin with a whole history, which is given up layer by layer while the next one grows."""
    flops = sum(layer.flops for layer in first) + count * sum(layer.flops for layer in later)
    history = sum(layer.kept for layer in later)
    if count:
        peak = history + max(layer.held for layer in later)
        most = history + max(layer.held + layer.copies for layer in later)
    else:
        peak, most = _grown(first, lambda layer: layer.held), _grown(first, lambda layer: layer.held + layer.copies)
    return CodecWork(flops=flops, history=history, peak=peak + beside, copies=most - peak)


def _grown(layers: list[Layer], held: Callable[[Layer], int]) -> int:
    """The most at any time where the history grows from nothing."""
    grown, peak = 0, 0
    for layer in layers:
        grown += layer.kept
        peak = max(peak, grown + held(layer))
    return peak


def _decoder(spec: VAESpec, place: Place, *, first: bool) -> Iterator[Layer]:
    widths = [spec.dim * m for m in (spec.multipliers[-1], *reversed(spec.multipliers))]
    if spec.shortcut:
        values = 3 * prod(spec.stride)
        yield Layer(flops=_products(spec.channels, values, prod(REACH), place), kept=FLOAT * spec.channels * place.area)
    yield Layer(flops=_products(spec.channels, spec.channels, 1, place))
    yield _convolution(spec.channels, widths[0], place)
    yield from _middle(widths[0], place)
    for level, (before, outputs) in enumerate(pairwise(widths)):
        inputs = before if level == 0 else before // 2
        for block in range(spec.residual_blocks + 1):
            yield _residual(inputs if block == 0 else outputs, outputs, place)
        if level < len(spec.time_downsample):
            longer = spec.time_downsample[-1 - level]
            yield _upsample(outputs, place, longer=longer, first=first)
            frames = place.frames * 2 if longer and not first else place.frames
            place = Place(frames, 2 * place.height, 2 * place.width)
    yield _convolution(widths[-1], 3, place)


def _encoder(spec: VAESpec, place: Place, *, first: bool) -> Iterator[Layer]:
    if spec.shortcut:
        frames = place.frames * (spec.stride[0] if first else 1)
        yield Layer(flops=2 * spec.channels * 3 * frames * place.area)
    if spec.linear_encoder:
        return
    widths = [spec.dim * m for m in (1, *spec.multipliers)]
    yield _convolution(3, widths[0], place)
    for level, (inputs, outputs) in enumerate(pairwise(widths)):
        for block in range(spec.residual_blocks):
            yield _residual(inputs if block == 0 else outputs, outputs, place)
        if level < len(spec.time_downsample):
            half = Place(place.frames, place.height // 2, place.width // 2)
            shorter = spec.time_downsample[level]
            yield _downsample(outputs, place, half, shorter=shorter, first=first)
            place = half._replace(frames=half.frames // 2) if shorter and not first else half
    yield from _middle(widths[-1], place)
    yield _convolution(widths[-1], 2 * spec.channels, place)
    yield Layer(flops=_products(2 * spec.channels, 2 * spec.channels, 1, place))


def _products(inputs: int, outputs: int, kernel: int, place: Place) -> int:
    return 2 * inputs * outputs * kernel * place.frames * place.area


def _convolution(inputs: int, outputs: int, place: Place) -> Layer:
    """A causal convolution, and the norm and SiLU before the last one.

    Held are what comes in, twice while it is normalised, and the same with its past in front; then the result.
    """
    frames, padded = place.frames, place.frames + PAST
    held = inputs * frames + max(2 * inputs * frames, inputs * (frames + padded), inputs * padded + outputs * frames)
    return Layer(
        flops=_products(inputs, outputs, KERNEL**3, place),
        kept=FLOAT * PAST * inputs * place.area,
        held=FLOAT * held * place.area,
        copies=FLOAT * inputs * outputs * KERNEL**3,
    )


def _residual(inputs: int, outputs: int, place: Place) -> Layer:
    """Two convolutions, each with what `_convolution` says, beside the block's input; at last the sum."""
    frames, padded = place.frames, place.frames + PAST
    first = max(inputs * (frames + padded), inputs * padded + outputs * frames)
    second = outputs * max(3 * frames, frames + padded)
    last = outputs * 2 * frames + (outputs * frames if inputs != outputs else 0)
    flops = _products(inputs, outputs, KERNEL**3, place) + _products(outputs, outputs, KERNEL**3, place)
    if inputs != outputs:
        flops += _products(inputs, outputs, 1, place)
    return Layer(
        flops=flops,
        kept=FLOAT * PAST * (inputs + outputs) * place.area,
        held=FLOAT * (inputs * frames + max(first, second, last)) * place.area,
        copies=FLOAT * max(inputs, outputs) * outputs * KERNEL**3,
    )


def _middle(width: int, place: Place) -> Iterator[Layer]:
    yield _residual(width, width, place)
    attention = 2 * 2 * place.frames * place.area**2 * width
    rows = 8 * width * place.frames * place.area  # x, q, k, v, these with columns innermost, and what is found
    yield Layer(flops=_products(width, 4 * width, 1, place) + attention, held=FLOAT * rows)
    yield _residual(width, width, place)


def _upsample(width: int, place: Place, *, longer: bool, first: bool) -> Layer:
    """Doubled frames. Held are, where it is longer, those with their past in front, made in pairs, in order, together.

    Then each frame alone is.
    """
    flops, kept, time = 0, 0, 0
    frames = place.frames
    if longer:
        kept = PAST * width * place.area
        time = width * (place.frames + PAST)
        if not first:
            flops = _products(width, 2 * width, KERNEL, place)
            frames = 2 * place.frames
            time += 2 * width * frames
        time += width * frames
    large = Place(frames, 2 * place.height, 2 * place.width)
    flops += _products(width, width // 2, KERNEL**2, large)
    grown, made = 4 * width * frames, 2 * width * frames
    held = width * (place.frames + frames) + time + grown + made
    return Layer(
        flops=flops,
        kept=FLOAT * kept,
        held=FLOAT * held * place.area,
        copies=FLOAT * width * max(width // 2 * KERNEL**2, 2 * width * KERNEL if longer else 0),
    )


def _downsample(width: int, place: Place, half: Place, *, shorter: bool, first: bool) -> Layer:
    """Halved frames. Held is what comes in, with an edge of zeros, frame by frame."""
    flops, kept = _products(width, width, KERNEL**2, half), 0
    if shorter:
        kept = FLOAT * width * half.area
        if not first:
            flops += _products(width, width, KERNEL, half._replace(frames=half.frames // 2))
    read, made = width * place.frames * place.area, width * half.frames * half.area
    return Layer(flops=flops, kept=kept, held=FLOAT * (3 * read + made), copies=FLOAT * width * width * KERNEL**2)
