"""Reference images as guests: where they stand, that they are clean, and that they leave no trace in the video."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kinoform.models.dit import DiT
from kinoform.models.in_context import InContextBranch, InContextImages
from kinoform.models.protocols import Branch, BranchSpec, InContextTokens
from kinoform.ops.rope import grid_positions
from kinoform.types import Conditions, Grid, Level
from tests.models.recorded import gap
from tests.models.toys import GRID, TINY, TOLD, noise, random_dit, run, video
from tests.support.refusals import refused

SPEC = replace(TINY, branches=(InContextImages(),))
LEVEL = Level(sigma=0.6, timestep=600.0)


def model(seed: int = 1) -> DiT:
    return random_dit(SPEC, seed)


def images(count: int, seed: int = 20) -> tuple[Tensor, ...]:
    return tuple(noise(seed + number, 1, 4, 1, GRID.height, GRID.width) for number in range(count))


def invited(*latents: Tensor) -> Conditions:
    return replace(TOLD, branches={"references": latents})


def guests_of(*latents: Tensor, grid: Grid = GRID, gap: int = 8) -> InContextTokens:
    spec = InContextImages(gap=gap)
    branch = spec.build(TINY)
    assert isinstance(branch, InContextBranch) and isinstance(branch, Branch) and isinstance(spec, BranchSpec)
    return branch.prepare(latents, {}, grid)


@pytest.mark.parametrize("frames", [1, 3, 200])
@pytest.mark.parametrize("gap", [1, 8])
def test_no_two_tokens_share_a_place(frames: int, gap: int) -> None:
    grid = replace(GRID, frames=frames)
    own = guests_of(*images(4), grid=grid, gap=gap).positions
    places = [tuple(row) for row in torch.cat([grid_positions(grid), own]).tolist()]
    assert len(set(places)) == len(places) == grid.tokens + 4 * GRID.height * GRID.width


def test_a_gap_that_leads_into_the_video_is_refused() -> None:
    with refused("value_out_of_range", "0"):
        InContextImages(gap=0)


def test_places_are_before_the_video_one_frame_apart_and_do_not_depend_on_its_length() -> None:
    short, long = (guests_of(*images(3), grid=replace(GRID, frames=frames)).positions for frames in (1, 50))
    assert torch.equal(short, long)
    times = short[:: GRID.height * GRID.width, 0].tolist()
    assert times == [-8, -9, -10]
    assert short[:, 1].unique().tolist() == list(range(GRID.height))
    assert short[:, 2].unique().tolist() == list(range(GRID.width))


def test_images_may_have_sizes_of_their_own() -> None:
    small, large = noise(1, 1, 4, 1, 2, 2), noise(2, 1, 4, 1, 5, 7)
    found = guests_of(small, large)
    assert found.tokens.shape == (1, 4 + 35, TINY.dim) and len(found.positions) == 4 + 35
    assert run(model(), video(), invited(small, large)).shape == video().shape


def test_guests_are_as_clean_frames_of_the_video_at_their_places() -> None:
    """The strongest check of embedding, place and level together: the same tokens, entering by the front door."""
    first, base = model(), random_dit(TINY)
    base.load_state_dict(first.state_dict(), strict=False)
    for own, name in InContextImages().copies.items():
        first.branches["references"].get_parameter(own).copy_(first.get_parameter(name))
    guest, *_ = images(1)
    x = video()
    longer = torch.cat([guest, x], dim=2)
    prepared = base.prepare(TOLD, replace(GRID, frames=4))
    times = torch.where(torch.arange(4 * 15) < 15, 0.0, 600.0)[None]
    near = replace(SPEC, branches=(InContextImages(gap=1),)).build().requires_grad_(False)
    near.load_state_dict(first.state_dict())
    # Rotary attention sees differences of places alone, so frames -1, 0, 1, 2 are as good as 0, 1, 2, 3.
    assert gap(run(near, x, invited(guest)), base(longer, times, prepared)[:, :, 1:]) < 1e-5
    assert gap(run(first, x, invited(guest)), run(near, x, invited(guest))) > 1e-3


def test_the_video_keeps_its_size_and_every_image_counts() -> None:
    shown, first = images(4), model()
    videos = [run(first, video(), invited(*shown[:count]) if count else TOLD) for count in range(5)]
    assert all(each.shape == video().shape for each in videos)
    assert all(gap(more, fewer) > 1e-3 for fewer, more in pairwise(videos))
    assert gap(run(first, video(), invited(*shown[::-1])), videos[4]) > 1e-3, "which is first matters"


def test_without_images_the_model_is_the_one_without_the_branch() -> None:
    first, base = model(), random_dit(TINY)
    base.load_state_dict(first.state_dict(), strict=False)
    assert torch.equal(run(first, video()), run(base, video()))


def test_the_level_of_the_video_does_not_reach_the_guests() -> None:
    """Their modulation is that of timestep 0 at every step; so a video at timestep 0 has one level throughout."""
    first = model()
    prepared = first.prepare(invited(*images(2)), GRID)
    stream, _ = first._begin(video(), torch.tensor([600.0]), prepared)
    index = stream.modulation.index
    assert index is not None
    video_level, guest_level = index[0, : GRID.tokens].unique(), index[0, GRID.tokens :].unique()
    assert len(video_level) == len(guest_level) == 1 and video_level != guest_level
    alone = first.modulation(torch.tensor([0.0]))
    assert gap(stream.modulation.rows[0, guest_level], alone.rows[0]) < 1e-6


def test_a_batch_of_videos_sees_the_same_images() -> None:
    first, both = model(), torch.cat([video(2), video(3)])
    told = invited(*images(2))
    rows = {"text": told.context["text"].expand(2, -1, -1)}
    together = first.velocities(both, LEVEL, (first.prepare(replace(told, context=rows), GRID),))[0]
    for place in range(2):
        alone = first.velocities(both[place : place + 1], LEVEL, (first.prepare(told, GRID),))[0]
        assert gap(together[place : place + 1], alone) < 1e-5


def test_both_prompts_of_guidance_see_them_each_as_if_alone() -> None:
    first, other = model(), replace(invited(*images(2)), context={"text": noise(30, 1, 4, 10)})
    prepared = [first.prepare(each, GRID) for each in (invited(*images(2)), other)]
    together = first.velocities(video(), LEVEL, prepared)
    for each, velocity in zip(prepared, together, strict=True):
        assert torch.equal(velocity, first.velocities(video(), LEVEL, (each,))[0])


def test_the_embedding_of_the_images_learns() -> None:
    first = model().requires_grad_(False)
    learning = dict(first.branches.named_parameters())
    for parameter in learning.values():
        parameter.requires_grad_(True)
    run(first, video(), invited(*images(1))).square().sum().backward()
    assert set(learning) == {"references.patch_embedding.weight", "references.patch_embedding.bias"}
    for name, parameter in learning.items():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
