"""Volume tokens through the factorized model: nothing is lost on the way in or out, and places travel with tokens."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from einops import rearrange
from torch import Tensor

from kinoform.models.codec import Codec, CodecSpec, IdentityCodec
from kinoform.models.context import TextContext
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.vae import VAESpec
from kinoform.ops.patch import Patch, grid_of, patches, unpatch
from kinoform.ops.rope import Rotary, grid_positions, rotary
from kinoform.types import Conditions, Grid
from tests.models.recorded import spread

GRID = Grid(frames=3, height=2, width=4)
VOLUME: Patch = (4, 8, 8)
SPEC = DiTSpec(
    dim=24, ffn_dim=40, heads=2, layers=2, in_channels=3, out_channels=3, patch=VOLUME, frequency_width=16,
    context=(TextContext(width=12, length=5),),
)  # fmt: skip
ORDERS = pytest.mark.parametrize("block", [FactorizedBlock(), FactorizedBlock(cross="after")], ids=["between", "after"])


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def video(batch: int = 1) -> Tensor:
    return drawn(1, batch, 3, *(n * p for n, p in zip((GRID.frames, GRID.height, GRID.width), VOLUME, strict=True)))


def built(block: FactorizedBlock) -> DiT:
    model = replace(SPEC, block=block).build().eval().requires_grad_(False)
    spread(model, seed=3)
    return model


def velocity(model: DiT, x: Tensor, order: Tensor | None = None) -> Tensor:
    """With `order`, token i stands where token order[i] of the grid does."""
    prepared = model.prepare(Conditions(context={"text": drawn(2, len(x), 5, 12)}), grid_of(x, VOLUME))
    if order is not None:
        prepared = prepared._replace(rotary=Rotary(*(table[order] for table in prepared.rotary)))
    return model(x, torch.full((len(x),), 400.0), prepared)


def moved(x: Tensor, order: Tensor) -> Tensor:
    """The video whose token i is token order[i] of x."""
    tokens = rearrange(patches(x, VOLUME)[:, order], "b l (c p) -> b l (p c)", c=3)
    return unpatch(tokens, GRID, VOLUME)


def test_codecs_and_their_specs_keep_the_protocols() -> None:
    for spec in (IdentityCodec(), VAESpec(dim=2, multipliers=(1, 1), time_downsample=(True,))):
        assert isinstance(spec, CodecSpec) and isinstance(spec.build(), Codec)
        assert (spec.build().stride, spec.build().channels) == (spec.stride, spec.channels)
        assert spec.weightless is not isinstance(spec.build(), torch.nn.Module)


@pytest.mark.parametrize("patch", [*product((1, 3), (1, 2), (1, 5)), VOLUME])
def test_the_way_out_undoes_the_way_in_for_patches_on_any_axis(patch: Patch) -> None:
    x = drawn(4, 2, 3, *(n * p for n, p in zip((2, 3, 2), patch, strict=True)))
    tokens = rearrange(patches(x, patch), "b l (c p) -> b l (p c)", c=3)
    assert tokens.shape[1] == 12 and torch.equal(unpatch(tokens, grid_of(x, patch), patch), x)


@ORDERS
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_that_take_their_places_along_give_the_same_video_elsewhere(block: FactorizedBlock, axis: int) -> None:
    """Whole frames, rows or columns of the grid change places: so do their velocities, and nothing else happens."""
    model, x = built(block), video(2)
    sizes = (GRID.frames, GRID.height, GRID.width)
    order = torch.arange(GRID.tokens).reshape(sizes).roll(1, axis).flatten()
    found = velocity(model, moved(x, order), order)
    torch.testing.assert_close(found, moved(velocity(model, x), order), rtol=0, atol=2e-5)
    assert (velocity(model, moved(x, order)) - found).abs().max() > 1e-3, "left behind, places make another video"


@ORDERS
def test_only_distances_count(block: FactorizedBlock) -> None:
    """The whole video elsewhere in time and space is the same video."""
    model, x = built(block), video()
    prepared = model.prepare(Conditions(context={"text": drawn(2, 1, 5, 12)}), GRID)
    elsewhere = rotary(grid_positions(GRID) + torch.tensor([5.0, -3.0, 11.0]), SPEC.dim // SPEC.heads)
    found = model(x, torch.tensor([400.0]), prepared._replace(rotary=elsewhere))
    torch.testing.assert_close(found, velocity(model, x), rtol=0, atol=2e-5)
