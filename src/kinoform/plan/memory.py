"""Peak memory of each stage of a film: the interpreter, the weights that are there, and what the work holds.

The work's share counts, at its worst moment, the tensors alive in models/dit.py, models/text.py and
models/vae.py; benchmarks/peak_memory.py compares the sums with what processes were seen to take.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch

from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.plan.autoencoder import decode_work, encode_work
from kinoform.plan.evaluations import fields_of
from kinoform.plan.parameters import codec_count, text_count, transformer_count, vision_count
from kinoform.plan.transformer import block_costs, branch_costs
from kinoform.plan.vision import vision_bytes
from kinoform.plan.work import Sizes, Work, canvas_of, context_rows, demands, grid_of, latents_of, told

FLOAT = torch.float32.itemsize

INTERPRETER = {"cpu": 280_000_000}
"""Bytes of a process that has imported everything and made a film of no size, measured with PyTorch 2.13 for CPUs."""

ACCELERATOR = 500_000_000
"""Bytes of an accelerator's memory that its driver and libraries take, about."""

SOLVER_COPIES = 8
"""Tensors of the latents' size that a multistep solver and the guidance hold."""

SIDE_STREAMS = 4
"""Residual streams of side blocks: those with which both prompts began, the one at work, and what becomes of it."""


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


def peaks(sizes: Sizes, work: Work, dtype: torch.dtype, device: str) -> tuple[Peak, ...]:
    """The stages text, encode (where there is anything to encode), denoise and decode on a device of type `device`.

    The networks are in `dtype`. Parts that are kept stay beside those that come after them.
    """
    text, transformer = text_count(sizes.text).bytes(dtype), transformer_count(sizes.transformer).bytes(dtype)
    codec, reading = codec_count(sizes.codec).bytes(dtype), _reading(sizes, work, dtype, device)
    fixed, kept = INTERPRETER.get(device, ACCELERATOR), sizes.kept
    material = work.material if device == "cpu" else 0
    after_text = text if kept else 0
    found = [("text", text, _encoding(sizes.text, dtype))]
    if reading is not None:
        found.append(("encode", after_text + reading[0], reading[1]))
    read_by = codec if kept and any(each.films or each.stills for each in demands(sizes, work)) else 0
    found.append(("denoise", after_text + read_by + transformer, _denoising(sizes, work, dtype, device)))
    found.append(("decode", codec + (after_text + transformer if kept else 0), _decoding(sizes, work, device)))
    return tuple(
        Peak(stage=stage, fixed=fixed, weights=weights, activations=activations + material)
        for stage, weights, activations in found
    )


def _encoding(spec: TextSpec, dtype: torch.dtype) -> int:
    """A prompt of full length: rows of the widest layer, and the position bias of all heads three times."""
    rows = spec.length * (4 * spec.dim + 4 * spec.dim_attention + 3 * spec.dim_ffn)
    return dtype.itemsize * (rows + 3 * spec.heads * spec.length**2)


def _reading(sizes: Sizes, work: Work, dtype: torch.dtype, device: str) -> tuple[int, int] | None:
    """Weights and work where these together are most; an encoder stays from when it is first asked for. Or None."""
    latents, weights, moments = latents_of(sizes, work), {}, []
    for each in demands(sizes, work):
        held = each.held if device == "cpu" else 0
        if each.films or each.stills:
            weights["codec"] = codec_count(sizes.codec).bytes(dtype)
            film = latents if each.films else (1, *latents[1:])
            moments.append((sum(weights.values()), held + encode_work(sizes.codec, film).peak))
        if each.pictures and sizes.image is not None:
            weights["image"] = vision_count(sizes.image).bytes(dtype)
            moments.append((sum(weights.values()), held + vision_bytes(sizes.image, dtype.itemsize)))
    return max(moments, key=sum, default=None)


def _denoising(sizes: Sizes, work: Work, dtype: torch.dtype, device: str) -> int:
    """What is prepared for both prompts of each field, the solver's tensors, and the widest moment of a block."""
    spec, film, given, item = sizes.transformer, grid_of(sizes, work).tokens, told(sizes, work), dtype.itemsize
    costs = [cost for _, cost in branch_costs(spec, film, given)]
    rows, blocks = sum(context_rows(spec, given).values()), sum(len(cost.blocks) for cost in costs)
    keys = (spec.layers + blocks) * rows * spec.dim * 2 * item
    phases = FLOAT * film * (spec.dim // spec.heads)
    constant = FLOAT * film * spec.dim if spec.in_channels > spec.out_channels else 0
    kept = item * (rows * spec.dim + sum(cost.kept for cost in costs))
    prepared = (2 if work.reads_negative else 1) * fields_of(work) * (keys + phases + constant + kept)
    latents = FLOAT * spec.out_channels * prod(canvas_of(sizes, work))
    conditions = FLOAT * _given_values(sizes, work)
    guests = sum(cost.guests for cost in costs)
    laid = _laid_bytes(sizes, work, guests, item)
    block = (film + guests) * _beside_bytes(spec.dim, item, len(costs), guests)
    block += _block_bytes(spec, film + guests, item, laid, on_cpu=device == "cpu")
    sides = film * SIDE_STREAMS * FLOAT * spec.dim if blocks else 0
    return prepared + SOLVER_COPIES * latents + conditions + block + sides


def _given_values(sizes: Sizes, work: Work) -> int:
    """Numbers of the latents that stand behind the noisy ones, and of those that branches are given."""
    spec, given = sizes.transformer, told(sizes, work)
    behind = (spec.in_channels - spec.out_channels) * prod(canvas_of(sizes, work))
    costs = branch_costs(spec, grid_of(sizes, work).tokens, given)
    return behind + sum(cost.channels * given.branches[name] * prod(spec.patch) for name, cost in costs)


def _beside_bytes(dim: int, item: int, branches: int, guests: int) -> int:
    """Bytes a token more where branches are at work: guidance shares nothing then.

    The patch embedding and the tokens with which the first prompt began stay beside those of the second. Guests
    bring a level of their own, and with it three rows of modulation for each token.
    """
    begun = dim * (item + FLOAT) if branches else 0
    return begun + (3 * FLOAT * dim if guests else 0)


def _laid_bytes(sizes: Sizes, work: Work, guests: int, item: int) -> int:
    """Bytes that the attention scheme lays out once more, in the layer where these are most; 0 where it does not tell.

    k is float32, since its norm's weight is; v and what is found are not.
    """
    spec = sizes.transformer
    blocks = block_costs(spec, range(spec.layers), grid_of(sizes, work), told(sizes, work), guests) or ()
    found = (seen.keys * (FLOAT + item) + seen.results * item for block in blocks for seen in block.attention)
    return spec.dim * max(found, default=0)


def _block_bytes(spec: DiTSpec, tokens: int, item: int, laid: int, *, on_cpu: bool) -> int:
    """Bytes in a block, the larger of two moments.

    In both are held: the patch embedding, the tokens that guidance shares, the block's, and those normalised.
    Self-attention adds q and k (float32), v, q and k rounded or, on a CPU, set in order for its products, the
    result and its merged copy, and what its scheme lays out (`laid`); the feed-forward the tokens before
    cross-attention and the `hidden` columns around its activation.
    """
    dim = spec.dim
    hidden = (3 if on_cpu else 2) * spec.ffn_dim  # PyTorch's activation on a CPU works on a copy
    common = dim * (item + 3 * FLOAT)
    copied = 2 * item if item < FLOAT or on_cpu else 0
    attention = dim * (2 * FLOAT + item + copied + 2 * item)
    feed_forward = dim * FLOAT + hidden * item
    return tokens * common + max(tokens * attention + laid, tokens * feed_forward)


def _decoding(sizes: Sizes, work: Work, device: str) -> int:
    """The codec's peak beside the frames; at the end, without it, the frames twice. Frames are on the host."""
    frames = 3 * work.num_frames * work.height * work.width if device == "cpu" else 0
    return max(decode_work(sizes.codec, latents_of(sizes, work)).peak + frames, 2 * frames)
