"""Each door of the transformer, walked through by a toy that a research file could hold."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kinoform.models.block import FullBlock
from kinoform.models.dit import DiT, initialise
from kinoform.models.protocols import AttentionScheme, Block, BlockSpec, Branch, BranchSpec, ContextSpec
from kinoform.models.vace_blocks import VaceContext
from kinoform.types import Conditions, Level
from tests.models.recorded import gap, spread
from tests.models.toys import (
    FACTORISED,
    GRID,
    REFERENCES,
    SIDE,
    TEXT,
    TIMES,
    TINY,
    TOLD,
    CountSpec,
    GuestSpec,
    Images,
    NineRows,
    SpaceThenTime,
    noise,
    random_dit,
    run,
    video,
)


def reached(model: DiT, frame: int, row: int, column: int) -> Tensor:
    """Which tokens, [f, h, w], change when one token of the input changes."""
    x = video()
    other = x.clone()
    other[:, :, frame, row, column] += 1
    return (run(model, other) - run(model, x)).abs().amax((0, 1)) > 1e-6


def test_every_toy_keeps_its_protocol():
    assert isinstance(SpaceThenTime(), AttentionScheme)
    assert isinstance(REFERENCES, ContextSpec)
    assert isinstance(NineRows(), BlockSpec) and isinstance(NineRows().build(TINY, 0), Block)
    for spec in (GuestSpec(), SIDE, CountSpec()):
        assert isinstance(spec, BranchSpec) and isinstance(spec.build(TINY), Branch)


# Attention schemes


def test_a_space_layer_does_not_leak_between_frames():
    seen = reached(random_dit(replace(FACTORISED, layers=1)), 1, 2, 3)
    assert seen[1].all() and not seen[0].any() and not seen[2].any()


def test_a_time_layer_does_not_leak_between_places():
    scheme = FullBlock(attention=SpaceThenTime(first=1))
    seen = reached(random_dit(replace(FACTORISED, layers=1, block=scheme)), 1, 2, 3)
    assert seen[:, 2, 3].all() and seen.sum() == GRID.frames


def test_alternate_layers_reach_everything_and_own_no_weights():
    model, full = random_dit(replace(FACTORISED, layers=2)), random_dit(replace(TINY, layers=2))
    assert reached(model, 1, 2, 3).all()
    model.load_state_dict(full.state_dict())
    assert gap(run(model, video()), run(full, video())) > 1e-2


# Context streams


def test_a_gated_stream_begins_as_the_base_model():
    """Bit for bit, whatever it is shown; then it is admitted by its gate."""
    base = random_dit(TINY)
    model = random_dit(replace(TINY, context=(TEXT, REFERENCES)), seed=5)
    left = model.load_state_dict(base.state_dict(), strict=False).missing_keys
    assert left and all("reference" in name for name in left)
    gates = [weight for name, weight in model.named_parameters() if name.endswith("reference.gate")]
    assert len(gates) == TINY.layers
    shown = replace(TOLD, context={**TOLD.context, "reference": noise(6, 1, 7, 6)})
    for gate in gates:
        gate.zero_()
    assert torch.equal(run(model, video(), shown), run(base, video()))
    gates[1].fill_(0.5)
    assert gap(run(model, video(), shown), run(base, video())) > 1e-2
    assert torch.equal(run(model, video(), TOLD), run(base, video())), "a gated stream may be left out"


def test_a_closed_gate_learns():
    model = replace(TINY, context=(TEXT, REFERENCES)).build()
    spread(model, 5)
    shown = replace(TOLD, context={**TOLD.context, "reference": noise(6, 1, 7, 6)})
    gate = model.get_parameter("blocks.0.cross_attention.streams.reference.gate")
    gate.data.zero_()
    run(model, video(), shown).square().sum().backward()
    assert gate.grad is not None and gate.grad.abs() > 0


# Input channels


def test_channels_whose_weights_are_zero_change_nothing():
    base, model = random_dit(TINY), random_dit(replace(TINY, in_channels=8))
    weights = base.state_dict()
    narrow = weights["patch_embedding.weight"]
    weights["patch_embedding.weight"] = torch.cat([narrow, torch.zeros_like(narrow)], dim=1)
    model.load_state_dict(weights)
    for seed in (7, 8):
        assert torch.equal(run(model, video(), replace(TOLD, channels=100 * video(seed))), run(base, video()))
    model.patch_embedding.weight[:, 6] = noise(9, TINY.dim, 1, 1, 1)
    assert gap(run(model, video(), replace(TOLD, channels=video(7))), run(base, video())) > 1e-2


# Blocks


def test_a_block_with_more_rows_begins_as_the_base_model():
    base, model = random_dit(TINY), random_dit(replace(TINY, block=NineRows()), seed=5)
    assert model.get_parameter("time_projection.1.weight").shape[0] == 9 * TINY.dim
    own = model.state_dict()
    for name, value in base.state_dict().items():
        if own[name].shape == value.shape:
            own[name].copy_(value)
    for name in ("time_projection.1.weight", "time_projection.1.bias"):
        own[name].zero_()[: 6 * TINY.dim] = base.state_dict()[name]
    for layer in range(TINY.layers):
        rows = own[f"blocks.{layer}.modulation"]
        rows.zero_()[:, :6] = base.state_dict()[f"blocks.{layer}.modulation"]
    by_token = torch.where(torch.arange(GRID.tokens) % 2 == 0, 100.0, 600.0)[None]
    for times in (TIMES, by_token):
        assert torch.equal(run(model, video(), times=times), run(base, video(), times=times))
    own["blocks.1.modulation"][:, 8] = 0.5
    for times in (TIMES, by_token):
        assert gap(run(model, video(), times=times), run(base, video(), times=times)) > 1e-2


# InContextTokens


def guest_model(seed: int = 1) -> DiT:
    return random_dit(replace(TINY, branches=(GuestSpec(),)), seed)


def invited(latents: Tensor, start: float = -1.0, timestep: float = 0.0) -> Conditions:
    return replace(TOLD, branches={"guests": Images(latents, start, timestep)})


def test_guests_change_the_video_and_are_no_part_of_it():
    model, guest = guest_model(), video(9, frames=1)
    alone, shown = run(model, video()), run(model, video(), invited(guest))
    assert shown.shape == alone.shape
    assert gap(shown, alone) > 1e-2
    assert gap(run(model, video(), invited(video(10, frames=1))), shown) > 1e-2
    assert gap(run(model, video(), invited(guest, start=-4.5)), shown) > 1e-3, "their places are their own"
    assert gap(run(model, video(), invited(guest, timestep=500.0)), shown) > 1e-3, "and so is their level"


def test_a_guest_before_the_video_is_a_clean_frame_before_the_video():
    """Places are relative: a guest at time -1 and timestep 0 is frame 0 of a longer video, at timestep 0."""
    model = guest_model()
    model.get_submodule("branches.guests.embed").load_state_dict(model.patch_embedding.state_dict())
    longer = video(11, frames=4)
    times = torch.where(torch.arange(4 * 15) < 15, 0.0, 600.0)[None]
    wanted = run(model, longer, times=times)[:, :, 1:]
    assert gap(run(model, longer[:, :, 1:], invited(longer[:, :, :1])), wanted) < 1e-5


def test_guests_join_a_video_with_levels_by_token():
    model, clean = guest_model(), torch.arange(GRID.tokens) < 7
    told = replace(invited(video(9, frames=2), start=-2), clean=clean)
    prepared = model.prepare(told, GRID)
    velocity = model.velocities(video(), Level(sigma=0.6, timestep=600.0), (prepared,))[0]
    plain = model.prepare(replace(told, clean=None), GRID)
    assert torch.equal(velocity, model(video(), torch.where(clean, 0.0, 600.0)[None], plain))
    assert gap(velocity, model(video(), TIMES, plain)) > 1e-2


def test_guests_receive_gradient():
    model, guest = guest_model().requires_grad_(True), video(9, frames=1).requires_grad_(True)
    run(model, video(), invited(guest)).square().sum().backward()
    assert guest.grad is not None and guest.grad.abs().sum() > 0
    for name, weight in model.branches.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


# A branch beside the blocks


def side_model(*others: Any) -> DiT:
    return random_dit(replace(TINY, branches=(SIDE, *others)))


def controlled(seed: int = 12, scale: float = 1.0) -> Conditions:
    return replace(TOLD, branches={"vace": VaceContext(latents=video(seed, channels=5), scale=scale)})


def test_a_branch_keeps_nothing_from_run_to_run():
    model = side_model()
    first, second = (model.prepare(controlled(seed), GRID) for seed in (12, 13))
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    level = Level(sigma=0.6, timestep=600.0)
    apart = [model(video(), TIMES, prepared) for prepared in (first, second, first)]
    assert torch.equal(apart[0], apart[2])
    assert gap(apart[1], apart[0]) > 1e-2
    together = model.velocities(video(), level, (first, second))
    assert all(torch.equal(a, b) for a, b in zip(together, apart[:2], strict=True))
    after = {name: dict(vars(module)) for name, module in model.named_modules()}
    assert after.keys() == before.keys()
    for name, attributes in before.items():
        assert {key: id(value) for key, value in attributes.items()} == {
            key: id(value) for key, value in after[name].items()
        }, name


def test_a_branch_may_be_left_out_and_counts_as_much_as_it_is_told():
    model, base = side_model(), random_dit(TINY)
    base.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(run(model, video()), run(base, video()))
    assert torch.equal(run(model, video(), controlled(scale=0.0)), run(base, video()))
    assert gap(run(model, video(), controlled()), run(base, video())) > 1e-2


def test_a_branch_that_begins_without_effect_has_none_in_a_fresh_model():
    """However its weights are drawn: what it computes before its last layer is finite and is not zero."""
    model = replace(TINY, branches=(SIDE,)).build().requires_grad_(False)
    initialise(model, torch.Generator().manual_seed(4))
    model.head.linear.weight.normal_(generator=torch.Generator().manual_seed(5))
    alone = run(model, video())
    assert alone.abs().max() > 0.1
    assert torch.equal(run(model, video(), controlled()), alone)
    model.get_parameter("branches.vace.after.1.weight").fill_diagonal_(0.5)
    assert gap(run(model, video(), controlled()), alone) > 1e-2


def test_a_state_passes_through_every_block_and_reaches_the_end():
    model = random_dit(replace(TINY, branches=(CountSpec(),)))
    found = [run(model, video(), replace(TOLD, branches={"count": start})) for start in (0, 1, -TINY.layers)]
    blank = torch.zeros(1, GRID.tokens, TINY.dim)
    for velocity, count in zip(found, (TINY.layers, 1 + TINY.layers, 0), strict=True):
        tokens = blank.index_fill(2, torch.tensor([0]), count)
        wanted = model.head(tokens, model.modulation(TIMES)).transpose(1, 2).reshape(velocity.shape)
        assert gap(velocity, wanted) < 1e-6
