"""The codec walked layer by layer: operations, what it remembers between chunks, what it holds while it works.

The walk mirrors models/vae.py; a chunk is one latent frame, the first of which stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """Operations of a layer on one chunk; bytes that it keeps for the next; bytes that it holds at its worst."""

    flops: int
    kept: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecWork:
    """Of a whole film. `history` is kept between chunks, `peak` is the most at any time, that included."""

    flops: int
    history: int
    peak: int


NO_WORK = CodecWork(flops=0, history=0, peak=0)
"""Of a codec without a network."""


def decode_work(spec: CodecSpec, latents: tuple[int, int, int]) -> CodecWork:
    """Latents (frames, height, width) to pixels."""
    if not isinstance(spec, VAESpec):
        return NO_WORK
    frames, height, width = latents
    first = list(_decoder(spec, Place(1, height, width), first=True))
    if frames == 1:
        return _film(first, first, 0)
    return _film(first, list(_decoder(spec, Place(1, height, width), first=False)), frames - 1)


def encode_work(spec: CodecSpec, latents: tuple[int, int, int]) -> CodecWork:
    """Pixels to latents (frames, height, width)."""
    if not isinstance(spec, VAESpec):
        return NO_WORK
    frames, height, width = latents
    time, rows, columns = spec.stride
    first = list(_encoder(spec, Place(1, height * rows, width * columns), first=True))
    if frames == 1:
        return _film(first, first, 0)
    return _film(first, list(_encoder(spec, Place(time, height * rows, width * columns), first=False)), frames - 1)


def _film(first: list[Layer], later: list[Layer], count: int) -> CodecWork:
    """Later chunks begin with a whole history, beside which the next one grows."""
    flops = sum(layer.flops for layer in first) + count * sum(layer.flops for layer in later)
    history = sum(layer.kept for layer in later)
    return CodecWork(flops=flops, history=history, peak=_peak(later) + (history if count else 0))


def _peak(layers: list[Layer]) -> int:
    grown, peak = 0, 0
    for layer in layers:
        grown += layer.kept
        peak = max(peak, grown + layer.held)
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
    """A causal convolution, and the norm and SiLU before the last one."""
    frames, padded = place.frames, place.frames + PAST
    held = inputs * (2 * frames + padded) + outputs * frames + _kernel(inputs * padded, outputs * frames)
    flops = _products(inputs, outputs, KERNEL**3, place)
    return Layer(flops=flops, kept=FLOAT * PAST * inputs * place.area, held=FLOAT * held * place.area)


def _residual(inputs: int, outputs: int, place: Place) -> Layer:
    """Two convolutions. At the second are held: the block's input and the first's result, that result
    normalised, the same with its past in front, and the convolution's result."""
    frames, padded = place.frames, place.frames + PAST
    first = inputs * (2 * frames + padded) + outputs * frames + _kernel(inputs * padded, outputs * frames)
    second = inputs * frames + outputs * (3 * frames + padded) + _kernel(outputs * padded, outputs * frames)
    flops = _products(inputs, outputs, KERNEL**3, place) + _products(outputs, outputs, KERNEL**3, place)
    if inputs != outputs:
        flops += _products(inputs, outputs, 1, place)
    kept = FLOAT * PAST * (inputs + outputs) * place.area
    return Layer(flops=flops, kept=kept, held=FLOAT * max(first, second) * place.area)


def _kernel(inputs: int, outputs: int) -> int:
    """Copies that the convolution's kernel makes of what it reads and writes, in an order of its own."""
    return inputs + outputs


def _middle(width: int, place: Place) -> Iterator[Layer]:
    yield _residual(width, width, place)
    attention = 2 * 2 * place.frames * place.area**2 * width
    rows = 8 * width * place.frames * place.area  # x, its norm, q, k, v, and three on the way back
    scores = 2 * place.frames * place.area**2  # with channels outermost, no kernel does without them
    yield Layer(flops=_products(width, 4 * width, 1, place) + attention, held=FLOAT * (rows + scores))
    yield _residual(width, width, place)


def _upsample(width: int, place: Place, *, longer: bool, first: bool) -> Layer:
    flops, kept, time = 0, 0, 0
    frames = place.frames
    if longer:
        kept = PAST * width * place.area
        time = width * (place.frames + PAST)
        if not first:
            flops = _products(width, 2 * width, KERNEL, place)
            frames = 2 * place.frames
        time += 2 * width * frames
    large = Place(frames, 2 * place.height, 2 * place.width)
    flops += _products(width, width // 2, KERNEL**2, large)
    grown, made = 4 * width * frames, 2 * width * frames
    held = width * (place.frames + frames) + time + grown + made + _kernel(grown, made)
    return Layer(flops=flops, kept=FLOAT * kept, held=FLOAT * held * place.area)


def _downsample(width: int, place: Place, half: Place, *, shorter: bool, first: bool) -> Layer:
    flops, kept = _products(width, width, KERNEL**2, half), 0
    if shorter:
        kept = FLOAT * width * half.area
        if not first:
            flops += _products(width, width, KERNEL, half._replace(frames=half.frames // 2))
    read, made = width * place.frames * place.area, width * half.frames * half.area
    return Layer(flops=flops, kept=kept, held=FLOAT * (3 * read + made + _kernel(read, made)))
