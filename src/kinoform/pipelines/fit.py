"""Whether a film fits this machine: what is certain before the work, and what PyTorch says during it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kinoform.errors import FitError
from kinoform.models.codec import latent_size
from kinoform.models.dit import DiTSpec
from kinoform.models.vae import VAESpec
from kinoform.pipelines.request import Request

SIGNS = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
"""How PyTorch's allocators say it where they have no type for it."""


@contextmanager
def fitting(what: str) -> Iterator[None]:
    """Turn running out of memory, for which PyTorch has several errors, into FitError about `what`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in SIGNS):
            raise
        raise FitError(
            f"{what} does not fit into memory; make the film smaller or shorter, or choose another --dtype or --device"
        ) from error


def least_bytes(asked: Request, codec: VAESpec, transformer: DiTSpec) -> int:
    """Bytes that the film takes at the very least, weights not counted.

    The larger of its frames, which exist twice when they are joined, and of the widest layer: the float32
    residual stream and the hidden layer of the feed-forward, at two bytes a number or more.
    """
    frames = 2 * 3 * asked.num_frames * asked.height * asked.width
    time, height, width = latent_size(codec, asked.num_frames, asked.height, asked.width)
    depth, rows, columns = transformer.patch
    tokens = (time // depth) * (height // rows) * (width // columns)
    return max(frames, tokens * (4 * transformer.dim + 2 * transformer.ffn_dim))


def check_fit(asked: Request, codec: VAESpec, transformer: DiTSpec, device: torch.device) -> None:
    """Raise FitError, before any work, for a film that cannot fit; one that passes may still not fit."""
    needed, there = least_bytes(asked, codec, transformer), _memory(device)
    if there is not None and needed > there:
        raise FitError(
            f"{asked.num_frames} frames of {asked.width}x{asked.height} take more than {needed / 1e9:.1f} GB, "
            f"this machine has {there / 1e9:.1f}; make the film smaller or shorter"
        )


def _memory(device: torch.device) -> int | None:
    """Bytes of the device's memory; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
