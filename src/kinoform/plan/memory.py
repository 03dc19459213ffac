"""Peak memory of each stage of a film: the interpreter, the weights that are there, and what the work holds.

The work's share counts, at its worst moment, the tensors alive in models/dit.py, models/text.py and
models/vae.py; benchmarks/peak_memory.py compares the sums with what processes were seen to take.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch

from kinoform.models.text import TextSpec
from kinoform.plan.autoencoder import decode_work
from kinoform.plan.parameters import codec_count, text_count, transformer_count
from kinoform.plan.work import Sizes, Work, context_rows, grid_of, latents_of

FLOAT = torch.float32.itemsize

INTERPRETER = {"cpu": 280_000_000}
"""Bytes of a process that has imported everything and made a film of no size, measured with PyTorch 2.13 for CPUs."""

ACCELERATOR = 500_000_000
"""Bytes of an accelerator's memory that its driver and libraries take, about."""

SOLVER_COPIES = 8
"""Tensors of the latents' size that a multistep solver and the guidance hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Bytes at the worst moment of a stage, by what takes them."""

    stage: str
    fixed: int
    weights: int
    activations: int

    @property
    def total(self) -> int:
        return self.fixed + self.weights + self.activations


def peaks(sizes: Sizes, work: Work, dtype: torch.dtype, device: str) -> tuple[Peak, Peak, Peak]:
    """The stages text, denoise and decode on a device of type `device`, the networks in `dtype`.

    Parts that are kept stay beside those that come after them.
    """
    text, transformer = text_count(sizes.text).bytes(dtype), transformer_count(sizes.transformer).bytes(dtype)
    codec = codec_count(sizes.codec).bytes(dtype)
    if sizes.kept:
        transformer += text
        codec += transformer
    fixed = INTERPRETER.get(device, ACCELERATOR)
    return (
        Peak(stage="text", fixed=fixed, weights=text, activations=_encoding(sizes.text, dtype)),
        Peak(stage="denoise", fixed=fixed, weights=transformer, activations=_denoising(sizes, work, dtype, device)),
        Peak(stage="decode", fixed=fixed, weights=codec, activations=_decoding(sizes, work, device)),
    )


def _encoding(spec: TextSpec, dtype: torch.dtype) -> int:
    """A prompt of full length: rows of the widest layer, and the position bias of all heads three times."""
    rows = spec.length * (4 * spec.dim + 4 * spec.dim_attention + 3 * spec.dim_ffn)
    return dtype.itemsize * (rows + 3 * spec.heads * spec.length**2)


def _denoising(sizes: Sizes, work: Work, dtype: torch.dtype, device: str) -> int:
    """What is prepared for both prompts, the solver's tensors, and the widest moment of a block."""
    spec, tokens = sizes.transformer, grid_of(sizes, work).tokens
    rows = sum(context_rows(stream) for stream in spec.context)
    keys = spec.layers * rows * spec.dim * (FLOAT + dtype.itemsize)  # k is float32, since its norm's weight is
    phases = FLOAT * tokens * (spec.dim // spec.heads)
    latents = FLOAT * spec.out_channels * prod(latents_of(sizes, work))
    prepared = 2 * (keys + phases + dtype.itemsize * rows * spec.dim)
    hidden = (3 if device == "cpu" else 2) * spec.ffn_dim  # PyTorch's activation on a CPU works on a copy
    return prepared + SOLVER_COPIES * latents + tokens * _block_bytes(spec.dim, hidden, dtype.itemsize)


def _block_bytes(dim: int, hidden: int, item: int) -> int:
    """Bytes a token in a block, the larger of two moments.

    In both are held: the patch embedding, the tokens that guidance shares, the block's, and those normalised.
    Self-attention adds q and k (float32), v, q and k rounded, the result and its merged copy; the
    feed-forward the tokens before cross-attention and the `hidden` columns around its activation.
    """
    common = dim * (item + 3 * FLOAT)
    rounded = 2 * item if item < FLOAT else 0
    attention = dim * (2 * FLOAT + item + rounded + 2 * item)
    feed_forward = dim * FLOAT + hidden * item
    return common + max(attention, feed_forward)


def _decoding(sizes: Sizes, work: Work, device: str) -> int:
    """The codec's peak beside the frames; at the end, without it, the frames twice. Frames are on the host."""
    frames = 3 * work.num_frames * work.height * work.width if device == "cpu" else 0
    return max(decode_work(sizes.codec, latents_of(sizes, work)).peak + frames, 2 * frames)
