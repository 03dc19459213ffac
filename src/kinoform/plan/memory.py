"""Peak memory of each stage of a video: the interpreter, the weights that are there, and what the work holds.

The work's share counts, at its worst moment, the tensors alive in models/dit.py, models/text.py and
models/vae.py; benchmarks/peak_memory.py compares the sums with what processes were seen to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch

from kinoform.models.cost import AttentionCost
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.ops.attention import MANY
from kinoform.plan.autoencoder import CodecWork, decode_work, encode_work
from kinoform.plan.evaluations import fields_of
from kinoform.plan.kernels import Kernels, kernels_of
from kinoform.plan.parameters import codec_count, text_count, transformer_count, vision_count
from kinoform.plan.transformer import block_costs, branch_costs
from kinoform.plan.vision import vision_bytes
from kinoform.plan.work import Sizes, Told, Work, canvas_of, context_rows, demands, grid_of, latents_of, told

FLOAT = torch.float32.itemsize

INTERPRETER = {"cpu": 280_000_000}
"""Bytes of a process that has imported everything and made a video of no size, measured with PyTorch 2.13 for CPUs."""

ACCELERATOR = 500_000_000
"""Bytes of an accelerator's memory that its driver and libraries take, about."""

SOLVER_COPIES = 8
"""Tensors of the latents' size that a multistep solver and the guidance hold."""

SIDE_STREAMS = 4
"""Residual streams of side blocks: those with which both prompts began, the one at work, and what becomes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Bytes at the worst moment of a stage, by what takes them.

    `activations` are tensors that the code holds; `kernels` are copies that the kernels of this device make besides.
    """

    stage: str
    fixed: int
    weights: int
    activations: int
    kernels: int = 0

    @property
    def total(self) -> int:
        return self.fixed + self.weights + self.activations + self.kernels


class Taken(NamedTuple):
    """Bytes of a stage's tensors and of its kernels' copies."""

    tensors: int
    copies: int = 0


def peaks(
    sizes: Sizes, work: Work, dtype: torch.dtype, device: str, kernels: Kernels | None = None
) -> tuple[Peak, ...]:
    """The stages text, encode (where there is anything to encode), denoise and decode on a device of type `device`.

    The networks are in `dtype`. Parts that are kept stay beside those that come after them, and so does the transformer
    where other videos follow. Without `kernels` they are those of this machine.
    """
    kernels = kernels_of(device, dtype) if kernels is None else kernels
    text, transformer = text_count(sizes.text).bytes(dtype), transformer_count(sizes.transformer).bytes(dtype)
    codec, reading = codec_count(sizes.codec).bytes(dtype), _reading(sizes, work, dtype, device, kernels)
    fixed, kept = INTERPRETER.get(device, ACCELERATOR), sizes.kept
    material = work.material if device == "cpu" else 0
    after_text = text if kept else 0
    found = [("text", text, Taken(_encoding(sizes.text, dtype)))]
    if reading is not None:
        found.append(("encode", after_text + reading[0], reading[1]))
    read_by = codec if kept and any(each.videos or each.stills for each in demands(sizes, work)) else 0
    found.append(("denoise", after_text + read_by + transformer, _denoising(sizes, work, dtype, kernels)))
    beside = transformer if kept or work.others else 0
    found.append(("decode", codec + after_text + beside, _decoding(sizes, work, device, kernels)))
    return tuple(
        Peak(stage=stage, fixed=fixed, weights=weights, activations=taken.tensors + material, kernels=taken.copies)
        for stage, weights, taken in found
    )


def _encoding(spec: TextSpec, dtype: torch.dtype) -> int:
    """A prompt of full length: rows of the widest layer, and the position bias of all heads three times."""
    rows = spec.length * (4 * spec.dim + 4 * spec.dim_attention + 3 * spec.dim_ffn)
    return dtype.itemsize * (rows + 3 * spec.heads * spec.length**2)


def _reading(sizes: Sizes, work: Work, dtype: torch.dtype, device: str, kernels: Kernels) -> tuple[int, Taken] | None:
    """Weights and work where these together are most; an encoder stays from when it is first asked for. Or None."""
    latents, weights, moments = latents_of(sizes, work), {}, []
    for each in demands(sizes, work):
        held = each.held if device == "cpu" else 0
        if each.videos or each.stills:
            weights["codec"] = codec_count(sizes.codec).bytes(dtype)
            encoding = encode_work(sizes.codec, latents if each.videos else (1, *latents[1:]))
            moments.append((sum(weights.values()), _taken(encoding, held, kernels)))
        if each.images and sizes.image is not None:
            weights["image"] = vision_count(sizes.image).bytes(dtype)
            moments.append((sum(weights.values()), Taken(held + vision_bytes(sizes.image, dtype.itemsize))))
    return max(moments, key=lambda moment: moment[0] + sum(moment[1]), default=None)


def _taken(work: CodecWork, beside: int, kernels: Kernels) -> Taken:
    return Taken(work.peak + beside, work.copies if kernels.ordered else 0)


def _denoising(sizes: Sizes, work: Work, dtype: torch.dtype, kernels: Kernels) -> Taken:
    """What is prepared for both prompts of each field, the solver's tensors, and the widest moment of a block."""
    spec, video, given, item = sizes.transformer, grid_of(sizes, work).tokens, told(sizes, work), dtype.itemsize
    costs = [cost for _, cost in branch_costs(spec, video, given)]
    rows, blocks = sum(context_rows(spec, given).values()), sum(len(cost.blocks) for cost in costs)
    keys = (spec.layers + blocks) * rows * spec.dim * 2 * item
    phases = FLOAT * video * (spec.dim // spec.heads)
    constant = FLOAT * video * spec.dim if spec.in_channels > spec.out_channels else 0
    kept = item * (rows * spec.dim + sum(cost.kept for cost in costs))
    prepared = (2 if work.reads_negative else 1) * fields_of(work) * (keys + phases + constant + kept)
    latents = FLOAT * spec.out_channels * prod(canvas_of(sizes, work))
    conditions = FLOAT * _given_values(sizes, work)
    sides = video * SIDE_STREAMS * FLOAT * spec.dim if blocks else 0
    outside = prepared + SOLVER_COPIES * latents + conditions + sides
    plain, all_of_it = (_working(sizes, work, item, parts=parts) for parts in (False, kernels.parts))
    return Taken(outside + plain, all_of_it - plain)


def _working(sizes: Sizes, work: Work, item: int, *, parts: bool) -> int:
    """The widest moment of a block: under the prompt, or under the negative prompt.

    Where branches are at work guidance shares nothing: what the first prompt began with stays beside the second.
    """
    spec, video, given = sizes.transformer, grid_of(sizes, work).tokens, told(sizes, work)
    first, second = (_under(sizes, work, each, item, parts=parts) for each in (given, given.negative()))
    costs = [cost for _, cost in branch_costs(spec, video, given)]
    begun = FLOAT * spec.dim * (2 * video + sum(cost.guests for cost in costs)) if costs else 0
    return max(first, second + begun)


def _under(sizes: Sizes, work: Work, given: Told, item: int, *, parts: bool) -> int:
    """Guests bring a level of their own, and with it three rows of modulation for each token."""
    spec, grid = sizes.transformer, grid_of(sizes, work)
    guests = sum(cost.guests for _, cost in branch_costs(spec, grid.tokens, given))
    tokens = grid.tokens + guests
    blocks = block_costs(spec, range(spec.layers), grid, given, guests) or ()
    attention = {block.attention for block in blocks} or {(AttentionCost(pairs=0),)}
    modulation = tokens * 3 * FLOAT * spec.dim if guests else 0
    return modulation + max(_block_bytes(spec, tokens, item, each, parts=parts) for each in attention)


def _given_values(sizes: Sizes, work: Work) -> int:
    """Numbers of the latents that stand behind the noisy ones, and of those that branches are given."""
    spec, given = sizes.transformer, told(sizes, work)
    behind = (spec.in_channels - spec.out_channels) * prod(canvas_of(sizes, work))
    costs = branch_costs(spec, grid_of(sizes, work).tokens, given)
    return behind + sum(cost.channels * given.branches[name] * prod(spec.patch) for name, cost in costs)


def _block_bytes(spec: DiTSpec, tokens: int, item: int, attention: Sequence[AttentionCost], *, parts: bool) -> int:
    """Bytes in a block, the largest of its moments: each self-attention, or the feed-forward.

    In all are held: the patch embedding, the tokens that guidance shares, the block's, and those normalised; after
    the first attention also the tokens before it. The feed-forward adds the hidden columns before and after their
    activation.
    """
    dim = spec.dim
    common, before = tokens * dim * 4 * FLOAT, tokens * dim * FLOAT
    first, *others = (dim * _attending(each, tokens, item, parts=parts) for each in attention)
    feed_forward = before + tokens * 2 * spec.ffn_dim * item
    return common + max(first, feed_forward, *(before + each for each in others))


def _attending(seen: AttentionCost, tokens: int, item: int, *, parts: bool) -> int:
    """Bytes in a self-attention, by width: q and k (float32), v, what the scheme lays out once more, and the larger
    of two: q and k rounded, and set in order for attention in parts, beside the result; or that and its projection.

    k is float32, since its norm's weight is; v and what is found are not.
    """
    laid = seen.keys * (FLOAT + item) + seen.results * item
    in_parts = parts and seen.pairs // seen.rows >= MANY
    copies = (item < FLOAT) + in_parts
    asked = tokens + (seen.keys or tokens)
    return tokens * (2 * FLOAT + item) + laid + item * max(copies * asked + tokens, 2 * tokens)


def _decoding(sizes: Sizes, work: Work, device: str, kernels: Kernels) -> Taken:
    """The codec's peak beside the frames; at the end, without it, the frames twice. Frames are on the host."""
    frames = 3 * work.num_frames * work.height * work.width if device == "cpu" else 0
    decoding = _taken(decode_work(sizes.codec, latents_of(sizes, work)), frames, kernels)
    return max(decoding, Taken(2 * frames), key=sum)
