"""The lesson beside denoising: facts are those of the scene, and asking changes no velocity."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kinoform.mini.training.dataset import Videos
from kinoform.mini.training.probe_loss import CELL, CHOICES, FeatureTap, ProbeHead, ProbeLoss, probe_targets
from kinoform.models.context import TextContext
from kinoform.models.dit import DiTSpec, initialise
from kinoform.types import Conditions, Grid
from kinoform.world.motions import MOTIONS
from kinoform.world.palette import BACKGROUND_COLOURS
from kinoform.world.parse import parse
from kinoform.world.portrait import recoloured
from kinoform.world.render import coverage
from kinoform.world.sampling import L1, L3, place, scene_from_seed
from kinoform.world.scene import Scene
from kinoform.world.shapes import SHAPES

VIDEOS = Videos(level=L3, num_frames=9, height=64, width=64)
STRIDE, PATCH = (4, 8, 8), (1, 2, 2)
SPEC = DiTSpec(
    dim=24, ffn_dim=32, heads=2, layers=3, in_channels=2, out_channels=2, context=(TextContext(width=8, length=4),)
)


def scene(prompt: str) -> Scene:
    return place(parse(prompt), np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(8))
def test_cover_is_the_share_of_each_cell_that_objects_cover(seed: int) -> None:
    found = scene_from_seed(seed, L1)
    (cover,), _ = probe_targets([found], VIDEOS, STRIDE, PATCH, 0.05)
    pixels = coverage(found, num_frames=9, height=64, width=64)[0]
    of_first = pixels[0].reshape(16, CELL, 16, CELL).mean((1, 3))
    of_last = pixels[5:].reshape(4, 16, CELL, 16, CELL).mean((0, 2, 4))
    cells = cover.reshape(3, 4, 4, 4, 4).permute(0, 1, 3, 2, 4).reshape(3, 16, 16).numpy()
    assert np.abs(cells[0] - of_first).mean() < 0.01 and np.abs(cells[2] - of_last).mean() < 0.01
    assert np.abs(cells[0] - of_last[::-1, ::-1]).mean() > 0.01 or found.story.subjects[0].motion.name in (
        "still",
        "spin",
    )


def test_answers_are_those_of_the_object_that_is_there() -> None:
    two = scene("a red ball rests and a blue star rests on a white background")
    _, (answers,) = probe_targets([two], VIDEOS, STRIDE, PATCH, 0.05)
    named = [
        None if colour < 0 else (BACKGROUND_COLOURS[colour].name, SHAPES[shape].name, MOTIONS[motion].name)
        for _, colour, shape, motion in answers.tolist()
    ]
    left, right = ({named[4 * row + column] for row in range(4)} for column in (0, 3))
    assert left == {None, ("red", "ball", "still")} and right == {None, ("blue", "star", "still")}
    assert set(answers[:, 0].tolist()) == {[colour.name for colour in BACKGROUND_COLOURS].index("white")}


def test_a_token_without_an_object_is_not_asked_for_one() -> None:
    cover, answers = probe_targets([scene("a red ball rests on a white background")], VIDEOS, STRIDE, PATCH, 0.05)
    there = cover.mean(-1) > 0.05
    assert there.any() and not there.all()
    assert torch.equal(answers[..., 1] >= 0, there)


def test_a_colour_that_no_word_tells_is_not_asked_for() -> None:
    found = scene("a red ball rests on a white background")
    (answers,), (of_dyed,) = (
        probe_targets([each], VIDEOS, STRIDE, PATCH, 0.05)[1] for each in (found, recoloured(found, (0, 99, 0)))
    )
    assert (answers[:, 1] >= 0).any() and (of_dyed[:, 1] == -1).all()
    assert torch.equal(answers[:, [0, 2, 3]], of_dyed[:, [0, 2, 3]])


def test_asking_leaves_weights_and_velocity_alone() -> None:
    plain, tapped = SPEC.build(), replace(SPEC, branches=(FeatureTap(layer=1),)).build()
    initialise(plain, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(plain.head.linear.weight)
    tapped.load_state_dict(plain.state_dict())
    x, level, text = torch.randn(1, 2, 2, 4, 4), torch.tensor([500.0]), {"text": torch.randn(1, 4, 8)}
    grid, seen = Grid(frames=2, height=2, width=2), []
    expected = plain(x, level, plain.prepare(Conditions(context=text), grid))
    asked = tapped.prepare(Conditions(context=text, branches={"tap": seen}), grid)
    assert torch.equal(tapped(x, level, asked), expected)
    assert [tokens.shape for tokens in seen] == [(1, 8, 24)]


def test_the_loss_of_a_probe_that_says_nothing() -> None:
    """Zero everywhere: the squared cover, and the logarithm of the number of choices wherever it is asked."""
    targets = probe_targets([scene_from_seed(3, L3), scene_from_seed(4, L3)], VIDEOS, STRIDE, PATCH, 0.05)
    probe, spec = ProbeHead(24, STRIDE, PATCH, 1e-6), ProbeLoss()
    for parameter in probe.parameters():
        torch.nn.init.zeros_(parameter)
    asked = (targets.answers >= 0).double().mean((0, 1))
    expected = (
        spec.cover * targets.cover.double().square().mean() + spec.answers * (asked * torch.tensor(CHOICES).log()).sum()
    )
    assert probe(torch.randn(2, 48, 24), targets, spec).item() == pytest.approx(expected.item(), rel=1e-5)
