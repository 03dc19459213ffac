"""The factorized block: who sees whom, by which shapes, and the same numbers as loops over frames and places."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import sqrt
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from kinoform.models.attention import factorized
from kinoform.models.attention.factorized import Alternating, within_frames, within_places
from kinoform.models.block import FullBlock
from kinoform.models.context import ReferenceContext, TextContext
from kinoform.models.dit import DiT, DiTSpec, initialise
from kinoform.models.factorized_block import FactorizedBlock, SpaceTimeBlock
from kinoform.models.in_context import InContextImages
from kinoform.ops.attention import attend
from kinoform.ops.patch import grid_of
from kinoform.ops.rope import grid_positions, rotary, rotate
from kinoform.types import Conditions, Grid

GRID = Grid(frames=3, height=2, width=4)
BETWEEN = DiTSpec(
    dim=24, ffn_dim=40, heads=2, layers=2, in_channels=4, out_channels=4, frequency_width=16,
    context=(TextContext(width=12, length=5),), block=FactorizedBlock(),
)  # fmt: skip
AFTER = replace(BETWEEN, block=FactorizedBlock(cross="after"))
SPECS = pytest.mark.parametrize("spec", [BETWEEN, AFTER], ids=["between", "after"])


def built(spec: DiTSpec, seed: int = 0) -> DiT:
    """Random weights under which everything counts, in float64."""
    generator = torch.Generator().manual_seed(seed)
    model = spec.build()
    initialise(model, generator)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2 + (
            parameter.data if parameter.ndim < 2 else 0
        )
    return model.double().eval().requires_grad_(False)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def video(seed: int = 1, batch: int = 2) -> Tensor:
    return drawn(seed, batch, 4, GRID.frames, 2 * GRID.height, 2 * GRID.width)


def velocity(model: DiT, x: Tensor, **more: Any) -> Tensor:
    conditions = Conditions(context={"text": drawn(2, len(x), 5, 12)} | more.pop("context", {}), **more)
    times = torch.tensor([700.0, 300.0, 20.0], dtype=torch.float64)[: len(x)]
    return model(x, times, model.prepare(conditions, grid_of(x, model.spec.patch)))


def qkv(seed: int = 3, guests: int = 0) -> list[Tensor]:
    return [drawn(seed + place, 2, GRID.tokens + guests, 2, 12) for place in range(3)]


@contextmanager
def kernel_shapes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    seen: list[tuple[int, ...]] = []

    def recorded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append(tuple(q.flatten(2).shape))
        return attend(q, k, v)

    with monkeypatch.context() as patched:
        patched.setattr(factorized, "attend", recorded)
        yield seen


def test_the_kernel_sees_frames_then_places_as_rows_of_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    with kernel_shapes(monkeypatch) as seen:
        velocity(built(replace(BETWEEN, layers=1)), video())
    places = GRID.height * GRID.width
    assert seen == [(2 * GRID.frames, places, 24), (2 * places, GRID.frames, 24)]


def moved(attention: Callable[..., Tensor], token: int) -> set[int]:
    """Which tokens of the video see a change of one of them."""
    before = qkv()
    after = [x.clone() for x in before]
    for x in after:
        x[:, token] += 1
    difference = (attention(*after, GRID) - attention(*before, GRID)).abs().amax(dim=(0, 2, 3))
    return set(torch.nonzero(difference > 1e-9).flatten().tolist())


@pytest.mark.parametrize("token", [0, 5, 13, 23])
def test_a_space_layer_never_mixes_frames_and_a_time_layer_never_mixes_places(token: int) -> None:
    places = GRID.height * GRID.width
    frame, place = divmod(token, places)
    assert moved(within_frames, token) == {frame * places + each for each in range(places)}
    assert moved(within_places, token) == {each * places + place for each in range(GRID.frames)}


def test_time_sees_the_past_and_the_future() -> None:
    last, first = GRID.tokens - 1, GRID.height * GRID.width - 1
    assert first in moved(within_places, last) and last in moved(within_places, first)


@pytest.mark.parametrize("attention", [within_frames, within_places])
@pytest.mark.parametrize("guests", [0, 5])
def test_kernels_equal_a_loop_over_every_query(attention: Callable[..., Tensor], guests: int) -> None:
    q, k, v = qkv(guests=guests)
    expected = torch.empty_like(q)
    for query in range(q.shape[1]):
        keys = [key for key in range(q.shape[1]) if may_see(attention is within_frames, query, key)]
        expected[:, query] = naive(q[:, query], k[:, keys], v[:, keys])
    torch.testing.assert_close(attention(q, k, v, GRID), expected, rtol=0, atol=1e-12)


def may_see(space: bool, query: int, key: int) -> bool:
    places, video = GRID.height * GRID.width, GRID.tokens
    if query >= video or key >= video:
        return key >= video if query >= video else space
    return query // places == key // places if space else query % places == key % places


def naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query [b, heads, k] over keys [b, n, heads, k], one sample and one head at a time."""
    found = torch.empty_like(q)
    for sample in range(len(q)):
        for head in range(q.shape[1]):
            scores = [float((q[sample, head] * key).sum()) / sqrt(q.shape[2]) for key in k[sample, :, head]]
            shares = torch.tensor(scores, dtype=torch.float64).softmax(0)
            found[sample, head] = sum(share * value for share, value in zip(shares, v[sample, :, head], strict=True))
    return found


@pytest.mark.parametrize(("attention", "axes"), [(within_frames, [0]), (within_places, [1, 2])])
def test_positions_that_a_row_shares_change_nothing(attention: Callable[..., Tensor], axes: list[int]) -> None:
    q, k, v = qkv()
    positions = grid_positions(GRID)
    shifted = positions.clone()
    shifted[:, axes] = 0
    with_places, without = (
        attention(rotate(q, rotary(each, 12)), rotate(k, rotary(each, 12)), v, GRID) for each in (positions, shifted)
    )
    torch.testing.assert_close(with_places, without, rtol=0, atol=1e-5)
    others = positions.clone()
    others[:, [axis for axis in range(3) if axis not in axes]] = 0
    assert (
        attention(rotate(q, rotary(others, 12)), rotate(k, rotary(others, 12)), v, GRID) - with_places
    ).abs().max() > 1e-3


@SPECS
def test_swapping_samples_swaps_videos(spec: DiTSpec) -> None:
    model, x = built(spec), video()
    times, rows = torch.tensor([700.0, 300.0], dtype=torch.float64), drawn(2, 2, 5, 12)

    def made(order: list[int]) -> Tensor:
        prepared = model.prepare(Conditions(context={"text": rows[order]}), grid_of(x, spec.patch))
        return model(x[order], times[order], prepared)

    torch.testing.assert_close(made([1, 0]), made([0, 1])[[1, 0]], rtol=0, atol=1e-12)


@SPECS
def test_rows_of_time_at_zero_leave_space_alone_to_the_last_bit(spec: DiTSpec) -> None:
    model = built(spec)
    model.time_projection[1].weight.data[6 * spec.dim :] = 0  # type: ignore[index]
    model.time_projection[1].bias.data[6 * spec.dim :] = 0  # type: ignore[index]
    for block in model.blocks:
        cast(SpaceTimeBlock, block).modulation.data[:, 6:] = 0
    before = velocity(model, video())
    for block in model.blocks:
        for parameter in cast(SpaceTimeBlock, block).time_attention.parameters():
            parameter.data.mul_(-3)
    assert torch.equal(velocity(model, video()), before)
    x = video()
    x[:, :, 2] += 1
    assert torch.equal(velocity(model, x)[:, :, :2], before[:, :, :2]), "no frame knows of another"


@SPECS
def test_guests_are_seen_and_a_gated_reference_begins_unseen(spec: DiTSpec) -> None:
    streams = (*spec.context, ReferenceContext(width=7))
    model = built(replace(spec, context=streams, branches=(InContextImages(),)))
    alone = velocity(model, video())
    image = (drawn(5, 1, 4, 1, 4, 4),)
    assert (velocity(model, video(), branches={"references": image}) - alone).abs().max() > 1e-3
    rows = {"reference": drawn(6, 2, 3, 7)}
    assert (velocity(model, video(), context=rows) - alone).abs().max() > 1e-3
    for block in model.blocks:
        gate = cast(SpaceTimeBlock, block).cross_attention.source("reference").gate
        assert gate is not None
        gate.data.zero_()
    assert torch.equal(velocity(model, video(), context=rows), alone)


def test_full_weights_run_under_alternating_attention() -> None:
    full = replace(BETWEEN, block=FullBlock())
    model, other = built(full), built(replace(full, block=FullBlock(attention=Alternating())))
    other.load_state_dict(model.state_dict())
    assert (velocity(model, video()) - velocity(other, video())).abs().max() > 1e-3
    x = video()
    x[:, :, 2] += 1
    one = replace(full, layers=1, block=FullBlock(attention=Alternating()))
    assert torch.equal(velocity(built(one), x)[:, :, :2], velocity(built(one), video())[:, :, :2])
