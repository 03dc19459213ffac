"""Transformers with some layers changed for one prediction: what changes, and that the model's own blocks do not."""

from dataclasses import replace

import pytest
import torch

from kinoform.models.block import FullBlock
from kinoform.models.changed import blurred
from kinoform.models.dit import DiT, Prepared
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.ops.layer_changes import (
    BlockPart,
    BlurredQueries,
    IdentityAttention,
    LayerChange,
    NegativeAttention,
    SkipLayers,
)
from kinoform.ops.patch import grid_of
from kinoform.solvers.levels import level_at
from kinoform.types import Conditions, Grid
from tests.models.toys import random_dit
from tests.support.refusals import refused
from tests.support.tiny_recipe import ROWS, tiny

SPEC = replace(tiny().transformer, layers=3)
X = torch.randn(1, SPEC.out_channels, 2, 4, 6, generator=torch.Generator().manual_seed(1))
TEXT = tuple(torch.randn(1, ROWS, 16, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3))


def prepared(model: DiT, change: LayerChange | None = None, negative: int = 1) -> Prepared:
    conditions = Conditions(context={"text": TEXT[0]})
    away = TEXT[negative] if isinstance(change, NegativeAttention) else None
    return model.prepare(conditions, grid_of(X, SPEC.patch), change=change, negative=away)


NAG = NegativeAttention(scale=5.0, tau=2.5, alpha=0.25)
CHANGES = [
    SkipLayers(layers=(1,)),
    SkipLayers(layers=(0, 2), part=BlockPart.ATTENTION),
    SkipLayers(layers=(1,), part=BlockPart.FEED_FORWARD),
    IdentityAttention(layers=(0, 1)),
    BlurredQueries(layers=(1,), sigma=1.0),
    BlurredQueries(layers=(1,), sigma=9999.0),
    NAG,
]


@torch.no_grad()
@pytest.mark.parametrize("block", [FullBlock(), FactorizedBlock()], ids=["full", "factorized"])
def test_a_change_is_of_one_prediction_alone(block) -> None:
    model, level = random_dit(replace(SPEC, block=block)), level_at(0.6)
    (plain,) = model.velocities(X, level, [prepared(model)])
    for change in CHANGES:
        own, changed, after = model.velocities(X, level, [prepared(model), prepared(model, change), prepared(model)])
        assert torch.equal(own, plain) and torch.equal(after, plain)
        assert not torch.allclose(changed, plain, atol=1e-6) and torch.isfinite(changed).all()


@torch.no_grad()
def test_skipped_blocks_are_those_of_a_shorter_model() -> None:
    model, level = random_dit(SPEC), level_at(0.6)
    short = random_dit(SPEC)
    short.load_state_dict(model.state_dict())
    short.spec, short.blocks = replace(SPEC, layers=2), torch.nn.ModuleList([short.blocks[0], short.blocks[2]])
    (found,) = model.velocities(X, level, [prepared(model, SkipLayers(layers=(1,)))])
    assert torch.equal(found, short.velocities(X, level, [prepared(short)])[0])


@torch.no_grad()
def test_the_prompt_as_its_own_negative_changes_nothing() -> None:
    model, level = random_dit(SPEC), level_at(0.6)
    (plain,) = model.velocities(X, level, [prepared(model)])
    (same,) = model.velocities(X, level, [prepared(model, NAG, negative=0)])
    assert torch.allclose(same, plain, atol=1e-5)


def test_queries_are_blurred_within_their_frame() -> None:
    grid = Grid(frames=2, height=3, width=4)
    x = torch.randn(1, grid.tokens + 2, 5, generator=torch.Generator().manual_seed(1))
    uniform, soft = blurred(x, grid, 9999.0), blurred(x, grid, 0.8)
    means = x[:, :24].reshape(1, 2, 12, 5).mean(2, keepdim=True).expand(1, 2, 12, 5)
    assert torch.allclose(uniform[:, :24].reshape(1, 2, 12, 5), means, atol=1e-6)
    assert torch.equal(uniform[:, 24:], x[:, 24:]) and torch.equal(soft[:, 24:], x[:, 24:])
    other = x.clone()
    other[:, 12:24] = 0
    assert torch.equal(blurred(other, grid, 0.8)[:, :12], soft[:, :12])
    assert torch.allclose(blurred(torch.ones_like(x), grid, 0.8), torch.ones_like(x), atol=1e-6)


def test_layers_that_are_not_there_are_refused() -> None:
    with refused("layer_missing"):
        prepared(random_dit(SPEC), SkipLayers(layers=(3,)))
