"""A video's latents as a row of tokens, and back."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinoform.types import Grid

Patch = tuple[int, int, int]
"""Sizes along time, height and width, in latent cells for a patch and in pixels for a codec's stride."""


def grid_of(x: Float[Tensor, "b c f h w"], patch: Patch) -> Grid:
    """Count the patches (time, height, width) that fit into x; x must divide exactly."""
    frames, height, width = (size // p for size, p in zip(x.shape[2:], patch, strict=True))
    return Grid(frames=frames, height=height, width=width)


def covers(grid: Grid, x: Float[Tensor, "b c f h w"], patch: Patch) -> bool:
    """Return whether x is exactly the patches of the grid, with nothing left over."""
    sizes = (grid.frames, grid.height, grid.width)
    return tuple(x.shape[2:]) == tuple(n * p for n, p in zip(sizes, patch, strict=True))


def patches(x: Float[Tensor, "b c f h w"], patch: Patch) -> Float[Tensor, "b l p"]:
    """Tokens in the order (f, h, w), w fastest; within a token channel slowest, as a convolution reads it."""
    pt, ph, pw = patch
    return rearrange(x, "b c (f pt) (h ph) (w pw) -> b (f h w) (c pt ph pw)", pt=pt, ph=ph, pw=pw)


def unpatch(tokens: Float[Tensor, "b l p"], grid: Grid, patch: Patch) -> Float[Tensor, "b c f h w"]:
    """The inverse walk for the head's output, whose tokens hold (pt, ph, pw, channel), *channel fastest*."""
    pt, ph, pw = patch
    return rearrange(
        tokens,
        "b (f h w) (pt ph pw c) -> b c (f pt) (h ph) (w pw)",
        f=grid.frames, h=grid.height, w=grid.width, pt=pt, ph=ph, pw=pw,
    )  # fmt: skip
