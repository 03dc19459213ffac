"""Side blocks: hints made one by one equal all of them made first; prompts, guests, batches and ranks stay apart."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.models.dit import DiT, initialise
from kinoform.models.protocols import Branch, BranchSpec, Mesh, Modulation, Stream
from kinoform.models.vace_blocks import VaceBlocks, VaceBranch, VaceContext
from kinoform.ops.patch import unpatch
from kinoform.ops.rope import grid_positions, rotary
from kinoform.types import Conditions, Level
from tests.models.recorded import gap
from tests.models.test_mesh import on_two_ranks
from tests.models.toys import GRID, TIMES, TINY, TOLD, GuestBranch, GuestSpec, Images, noise, random_dit, run, video
from tests.support.refusals import refused

SIDE = VaceBlocks(channels=5, layers=(0, 2))
SPEC = replace(TINY, branches=(SIDE,))
BY_TOKEN = torch.where(torch.arange(GRID.tokens) % 2 == 0, 100.0, 600.0)[None]
LEVEL = Level(sigma=0.6, timestep=600.0)


def controlled(seed: int = 12, scale: float = 1.0, told: Conditions = TOLD) -> Conditions:
    return replace(told, branches={"vace": VaceContext(latents=video(seed, channels=5), scale=scale)})


def other_prompt(told: Conditions) -> Conditions:
    return replace(told, context={"text": noise(14, 1, 3, 10)})


def side_of(model: DiT) -> VaceBranch:
    branch = model.branches["vace"]
    assert isinstance(branch, VaceBranch)
    return branch


def stacked(model: DiT, x: Tensor, control: VaceContext, times: Tensor) -> Tensor:
    """The official order, written plainly: every hint first, held together, then the main blocks."""
    side: Any = side_of(model)
    blocks: list[Any] = list(model.blocks)
    embed = model.patch_embedding
    start = embed.part(x, 0) + embed.bias
    context = {"text": model.context["text"](TOLD.context["text"])}
    shared: dict[str, Any] = {
        "start": start,
        "rotary": rotary(grid_positions(GRID), TINY.dim // TINY.heads),
        "grid": GRID,
        "modulation": model.modulation(times),
        "context": context,
    }
    seen = side.patch_embedding.part(control.latents, 0) + side.patch_embedding.bias
    row = Stream(tokens=side.before(seen) + start, **shared)
    hints: dict[int, Tensor] = {}
    for layer, block, after in zip(SIDE.layers, side.blocks, side.after, strict=True):
        row = block(row, block.keys(context))
        hints[layer] = after(row.tokens)
    main = Stream(tokens=start, **shared)
    for layer, block in enumerate(blocks):
        main = block(main, block.keys(context))
        if layer in hints:
            main = main.add(hints[layer] * control.scale)
    modulation: Modulation = shared["modulation"]
    return unpatch(model.head(main.tokens, modulation), GRID, TINY.patch)


def test_it_keeps_the_protocol():
    assert isinstance(SIDE, BranchSpec) and isinstance(SIDE.build(TINY), Branch)


@pytest.mark.parametrize("times", [TIMES, BY_TOKEN], ids=["one level", "levels by token"])
def test_hints_one_by_one_equal_all_hints_first(times: Tensor):
    model, control = random_dit(SPEC), VaceContext(latents=video(12, channels=5), scale=0.6)
    ours = run(model, video(), replace(TOLD, branches={"vace": control}), times)
    assert torch.equal(ours, stacked(model, video(), control, times))


def test_a_hint_is_made_when_its_layer_is_reached():
    model, order = random_dit(SPEC), []
    for layer, block in enumerate(model.blocks):
        block.get_submodule("feed_forward").register_forward_hook(lambda *_, layer=layer: order.append(f"main {layer}"))
    for place, after in enumerate(side_of(model).after):
        after.register_forward_hook(lambda *_, place=place: order.append(f"hint {place}"))
    run(model, video(), controlled())
    assert order == ["main 0", "hint 0", "main 1", "main 2", "hint 1"]


def test_a_fresh_branch_has_no_effect_and_then_counts_as_much_as_it_is_told():
    model = SPEC.build().requires_grad_(False)
    initialise(model, torch.Generator().manual_seed(4))
    model.head.linear.weight.normal_(generator=torch.Generator().manual_seed(5))
    alone = run(model, video())
    assert alone.abs().max() > 0.1
    assert torch.equal(run(model, video(), controlled()), alone)
    side_of(model).get_parameter("after.1.weight").fill_diagonal_(0.5)
    assert torch.equal(run(model, video(), controlled(scale=0.0)), alone)
    moved = [gap(run(model, video(), controlled(scale=scale)), alone) for scale in (0.1, 0.5, 1.0)]
    assert 1e-3 < moved[0] < moved[1] < moved[2]


def test_every_weight_learns():
    model = random_dit(SPEC).requires_grad_(True)
    run(model, video(), controlled()).square().sum().backward()
    for name, weight in model.branches.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_each_prompt_has_side_blocks_of_its_own():
    """Guidance evaluates both prompts at once; each is what it is alone, and the side blocks read the prompt."""
    model = random_dit(SPEC)
    told = [controlled(), other_prompt(controlled())]
    prepared = [model.prepare(each, GRID) for each in told]
    both = model.velocities(video(), LEVEL, prepared)
    assert torch.equal(both[0], model(video(), TIMES, prepared[0]))
    assert torch.equal(both[1], model(video(), TIMES, prepared[1]))
    again = model.velocities(video(), LEVEL, prepared)
    assert all(torch.equal(a, b) for a, b in zip(both, again, strict=True)), "nothing is kept from step to step"
    mixed = prepared[0]._replace(payloads=prepared[1].payloads)
    assert gap(model(video(), TIMES, mixed), both[0]) > 1e-2


def test_samples_of_a_batch_have_their_own_control():
    model = random_dit(SPEC)
    x, controls = torch.cat([video(2), video(3)]), torch.cat([video(seed, channels=5) for seed in (12, 13)])
    told = Conditions(
        context={"text": TOLD.context["text"].expand(2, -1, -1)}, branches={"vace": VaceContext(latents=controls)}
    )
    together = model(x, TIMES.expand(2), model.prepare(told, GRID))
    for place, seed in enumerate((12, 13)):
        assert gap(together[place : place + 1], run(model, x[place : place + 1], controlled(seed))) < 1e-5


# InContextTokens and ranks

CROWDED = replace(TINY, branches=(GuestSpec(), SIDE, GuestSpec(name="more")))


def crowd(seed: int, told: Conditions) -> Conditions:
    """InContextTokens that are invited before the side blocks open, and after."""
    before, after = Images(video(seed, frames=1), -1.0, 0.0), Images(video(seed + 1, frames=2), 7.5, 250.0)
    return replace(told, branches={"guests": before, **told.branches, "more": after})


def test_side_blocks_do_not_see_guests():
    """The first hint is the same whoever is invited; from there on guests act through the main blocks."""
    model, heard = random_dit(CROWDED), []
    side_of(model).after[0].register_forward_hook(lambda module, given, out: heard.append(out))
    videos = [run(model, video(), told) for told in (controlled(), crowd(9, controlled()), crowd(20, controlled()))]
    assert all(hint.shape == heard[0].shape and gap(hint, heard[0]) < 1e-5 for hint in heard)
    assert gap(videos[1], videos[0]) > 1e-2 and gap(videos[2], videos[1]) > 1e-2


def test_hints_change_no_guest(monkeypatch: pytest.MonkeyPatch):
    """After the one block whose hint is large, the video's tokens have moved and the guests' have not."""
    model = random_dit(replace(CROWDED, layers=1, branches=(GuestSpec(), replace(SIDE, layers=(0,)))))
    ends: list[Tensor] = []

    def close(self: GuestBranch, stream: Stream, state: None) -> Stream:
        ends.append(stream.tokens)
        return stream

    monkeypatch.setattr(GuestBranch, "close", close)
    for scale in (0.0, 10.0):
        guests = {"guests": Images(video(9, frames=1), -1.0, 0.0)}
        told = controlled(scale=scale)
        run(model, video(), replace(told, branches={**guests, **told.branches}))
    moved = (ends[1] - ends[0]).abs().amax((0, 2))
    assert (moved[: GRID.tokens] > 1e-2).all() and (moved[GRID.tokens :] == 0).all() and len(moved) > GRID.tokens


@pytest.mark.parametrize("share", [0.5, 0.3, 0.8])
@pytest.mark.parametrize("guests", [False, True], ids=["video alone", "with guests"])
def test_two_ranks_give_what_one_gives(guests: bool, share: float):
    spec = CROWDED if guests else SPEC
    model, told = random_dit(spec), crowd(9, controlled()) if guests else controlled()

    def step(mesh: Mesh | None) -> Tensor:
        prepared = [model.prepare(each, GRID, mesh) for each in (told, other_prompt(told))]
        return torch.stack(model.velocities(video(), LEVEL, prepared))

    alone = step(None)
    assert all(gap(found, alone) < 1e-5 for found in on_two_ranks(share, step))


# Refusals


@pytest.mark.parametrize("layers", [(), (-1, 0), (2, 0), (0, 0)])
def test_layers_that_do_not_ascend_are_refused(layers: tuple[int, ...]):
    with refused("spec_inconsistent"):
        VaceBlocks(layers=layers)


def test_a_layer_that_the_model_lacks_is_refused():
    with refused("spec_inconsistent", "layer 3"):
        VaceBlocks(layers=(0, 3)).build(TINY)


@pytest.mark.parametrize("latents", [video(1, channels=4), video(1, channels=5, frames=4), noise(1, 1, 5, 3, 3, 4)])
def test_a_control_of_another_size_is_refused(latents: Tensor):
    told = replace(TOLD, branches={"vace": VaceContext(latents=latents)})
    with refused("wrong_shape", "5 channels"):
        random_dit(SPEC).prepare(told, GRID)
