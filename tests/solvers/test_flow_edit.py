"""Samplers on velocities that are known exactly: normal data, whose mean and spread a video's prompt decides."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinoform.solvers.base import Step, sample
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.levels import noised
from kinoform.solvers.names import name_of, sampler_of
from kinoform.solvers.sampler import Denoise, Run, Sampler, first_step
from kinoform.types import CLEAN, Field, Level
from tests.solvers.toy import SOLVERS, gap, noise
from tests.support.refusals import refused

SHAPE = (1, 4, 2, 3, 5)
VIDEO, FIRST_NOISE = noise(1, *SHAPE), noise(2, *SHAPE)
SHIFT = noise(3, *SHAPE)
"""From the mean of what the video shows to the mean of what the prompt says."""


def normal(mean: Tensor | float, spread: float = 0.5) -> Field:
    """E[noise - x0 | x] where x0 is normal: the velocity that a perfect network would have learned."""

    def field(x: Tensor, level: Level) -> Tensor:
        sigma, alpha = level.sigma, 1 - level.sigma
        variance = (alpha * spread) ** 2 + sigma**2
        return (sigma - alpha * spread**2) / variance * (x - alpha * mean) - mean

    return field


def draws(seed: int = 7) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(SHAPE, generator=generator)


def run_of(
    target: Field, source: Field | None = None, *, solver: str = "euler", steps: int = 10, first: int = 0, seed: int = 7
) -> Run:
    return Run(
        solver=SOLVERS[solver],
        field=target,
        levels=SOLVERS[solver].levels(steps, 3.0),
        first=first,
        noise=FIRST_NOISE,
        draw=draws(seed),
        start=VIDEO,
        source=None if source is None else lambda scale: source,
    )


def last(steps: Iterator[Step]) -> Tensor:
    *_, step = steps
    return step.x


# Denoise


def test_from_noise_it_is_the_solver() -> None:
    run = replace(run_of(normal(SHIFT)), start=None)
    expected = sample(run.solver, run.field, FIRST_NOISE, run.levels)
    for ours, theirs in zip(Denoise().steps(run), expected, strict=True):
        assert torch.equal(ours.x, theirs.x)


@pytest.mark.parametrize("name", SOLVERS)
def test_from_a_video_that_is_redone_wholly_it_begins_with_the_noise_itself(name: str) -> None:
    run = run_of(normal(SHIFT), solver=name)
    alone = replace(run, start=None)
    for with_video, without in zip(Denoise().steps(run), Denoise().steps(alone), strict=True):
        assert torch.equal(with_video.x, without.x)


@pytest.mark.parametrize("steps", [1, 7, 10, 16, 50, 100, 1000])
def test_a_strength_is_a_share_of_the_steps(steps: int) -> None:
    for left in range(1, steps + 1):
        exact = left / steps
        single = float(torch.tensor(exact, dtype=torch.float32))
        assert first_step(steps, exact) == first_step(steps, single) == steps - left
    assert first_step(100, 0.29) == 71 and first_step(10, 0.299) == 8, "what is not a whole step is left out"
    assert first_step(steps, 1e-9) == steps - 1


@pytest.mark.parametrize("first", [1, 4, 9])
def test_from_a_video_it_begins_with_the_mixture_of_its_level(first: int) -> None:
    seen: list[tuple[Tensor, Level]] = []

    def watched(x: Tensor, level: Level) -> Tensor:
        seen.append((x, level))
        return normal(0.0)(x, level)

    run = run_of(watched, first=first, solver="unipc2")
    steps = list(Denoise().steps(run))
    x, level = seen[0]
    assert level == run.levels[first] and torch.equal(x, noised(VIDEO, FIRST_NOISE, level.sigma))
    assert [step.index for step in steps] == list(range(first, 10))


def test_the_later_it_begins_the_more_of_the_video_is_kept() -> None:
    gaps = [
        gap(last(Denoise().steps(run_of(normal(SHIFT), steps=100, first=first))), VIDEO) for first in (0, 50, 90, 99)
    ]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 0.1 < gaps[0]


def test_kept_values_stay_and_the_rest_moves() -> None:
    place = torch.zeros(SHAPE, dtype=torch.bool)
    place[..., 0] = True

    def constrain(x: Tensor, level: Level) -> Tensor:
        return torch.where(place, noised(VIDEO, FIRST_NOISE, level.sigma), x)

    for sampler in (Denoise(), FlowEdit(), FlowEdit(plain_steps=4)):
        made = last(sampler.steps(replace(run_of(normal(SHIFT), normal(0.0), first=2), constrain=constrain)))
        assert torch.equal(made[place], VIDEO[place])
        assert not torch.isclose(made[~place], VIDEO[~place]).any()


# FlowEdit


@pytest.mark.parametrize("averages", [1, 3])
@pytest.mark.parametrize("first", [0, 6])
def test_one_prompt_twice_gives_the_video_back(averages: int, first: int) -> None:
    sampler = FlowEdit(averages=averages)
    for step in sampler.steps(run_of(normal(SHIFT), normal(SHIFT), first=first)):
        assert torch.equal(step.x, VIDEO) and torch.equal(step.x0, VIDEO)


@pytest.mark.parametrize("averages", [1, 3])
@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_between_videos_of_one_spread_the_video_moves_by_the_difference_of_means(averages: int, spread: float) -> None:
    """z - x = (1 - sigma) shift solves the equation whatever the noise, and Euler follows a straight line exactly."""
    mean = noise(4, *SHAPE)
    run = run_of(normal(mean + SHIFT, spread), normal(mean, spread))
    steps = list(FlowEdit(averages=averages).steps(run))
    for step in steps:
        assert gap(step.x, VIDEO + (1 - step.level.sigma) * SHIFT) < 1e-5
        assert gap(step.x0, VIDEO + SHIFT) < 1e-5
    assert steps[-1].level == CLEAN


def test_beginning_later_changes_the_video_less() -> None:
    sizes = []
    for first in (0, 3, 6, 9):
        made = last(FlowEdit().steps(run_of(normal(SHIFT), normal(0.0), first=first)))
        sizes.append(((made - VIDEO) / SHIFT).mean().item())
    assert sizes == sorted(sizes, reverse=True) and 0 < sizes[-1] < sizes[0] == pytest.approx(1, abs=1e-4)


def test_more_noises_a_step_make_the_change_more_certain() -> None:
    """Where the spreads differ the change depends on the noise; a mean over n noises varies like 1/n."""

    def variance(averages: int) -> float:
        videos = [
            last(FlowEdit(averages=averages).steps(run_of(normal(0.0, 0.2), normal(0.0, 1.0), seed=seed, steps=5)))
            for seed in range(40)
        ]
        return torch.stack(videos).var(dim=0).mean().item()

    assert 5 < variance(1) / variance(8) < 12


def test_the_noise_is_what_is_drawn_and_another_at_every_evaluation() -> None:
    def video(seed: int) -> Tensor:
        return last(FlowEdit(averages=2).steps(run_of(normal(0.0, 0.2), normal(0.0), seed=seed)))

    assert torch.equal(video(7), video(7)) and not torch.equal(video(7), video(8))
    seen: list[Tensor] = []

    def watched(x: Tensor, level: Level) -> Tensor:
        seen.append((x - (1 - level.sigma) * VIDEO) / level.sigma)
        return normal(0.0)(x, level)

    list(FlowEdit(averages=2).steps(run_of(normal(SHIFT), watched, steps=4)))
    assert len(seen) == 8
    expected = draws()
    assert all(gap(each, expected()) < 1e-5 for each in seen)


def test_both_prompts_are_asked_with_one_noise_at_one_level() -> None:
    asked: dict[str, list[tuple[Tensor, Level]]] = {"target": [], "source": []}

    def watched(name: str, field: Field) -> Field:
        def watching(x: Tensor, level: Level) -> Tensor:
            asked[name].append((x, level))
            return field(x, level)

        return watching

    target, source = watched("target", normal(SHIFT)), watched("source", normal(0.0))
    edited = VIDEO
    for step in FlowEdit().steps(run_of(target, source)):
        (beside, level), (noisy, same) = asked["target"][-1], asked["source"][-1]
        assert level == same and torch.allclose(beside - noisy, edited - VIDEO, atol=1e-5)
        edited = step.x
    assert len(asked["target"]) == len(asked["source"]) == 10


def test_the_source_is_guided_by_a_scale_of_its_own() -> None:
    scales: list[float] = []

    def source(scale: float) -> Field:
        scales.append(scale)
        return normal(0.0)

    list(FlowEdit(source_guidance=2.5).steps(replace(run_of(normal(SHIFT)), source=source)))
    assert scales == [2.5]


@pytest.mark.parametrize("solver", ["euler", "unipc2", "dpmpp2"])
def test_plain_steps_follow_the_prompt_alone(solver: str) -> None:
    asked: list[str] = []

    def target(x: Tensor, level: Level) -> Tensor:
        asked.append("v")
        return normal(SHIFT)(x, level)

    def source(x: Tensor, level: Level) -> Tensor:
        asked.append("u")
        return normal(0.0)(x, level)

    steps = list(FlowEdit(plain_steps=4).steps(run_of(target, source, solver=solver, first=3)))
    assert [step.index for step in steps] == [3, 4, 5, 6, 7, 8, 9]
    assert "".join(asked) == "vu" * 3 + "v" * 4
    assert steps[-1].level == CLEAN and torch.isfinite(steps[-1].x).all()


def test_all_plain_it_is_a_start_from_the_video() -> None:
    run = run_of(normal(SHIFT), normal(0.0), first=6)
    pairs = zip(FlowEdit(plain_steps=8).steps(run), Denoise().steps(run), strict=True)
    assert all(torch.equal(ours.x, theirs.x) for ours, theirs in pairs)


@pytest.mark.parametrize("missing", ["start", "source"])
def test_without_a_video_there_is_nothing_to_change(missing: str) -> None:
    run = replace(run_of(normal(SHIFT), normal(0.0)), **{missing: None})
    with refused("input_missing"):
        next(FlowEdit().steps(run))


@pytest.mark.parametrize(
    "options", [{"averages": 0}, {"averages": 101}, {"plain_steps": -1}, {"source_guidance": -1.0}]
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with refused("value_out_of_range"):
        FlowEdit(**options)
    for number in (float("nan"), float("inf")):
        with refused("value_out_of_range"):
            FlowEdit(source_guidance=number)


NAMED = {
    "denoise": Denoise(),
    "flow-edit": FlowEdit(),
    "flow-edit(source_guidance=2.0, averages=2, plain_steps=3)": FlowEdit(
        source_guidance=2.0, averages=2, plain_steps=3
    ),
}


@pytest.mark.parametrize(("name", "sampler"), NAMED.items(), ids=str)
def test_a_name_gives_the_sampler_back(name: str, sampler: Sampler) -> None:
    assert name_of(sampler) == name and sampler_of(name) == sampler
    assert isinstance(sampler, Sampler)


@pytest.mark.parametrize(
    ("name", "code", "named"),
    [
        ("flowedit", "unknown_name", "'flow-edit'"),
        ("flow-edit(averages=1.5)", "unknown_option", "averages=1.5"),
        ("flow-edit(averages=0)", "value_out_of_range", "averages"),
        ("denoise(steps=3)", "unknown_option", "steps=3"),
        ("flow-edit(2)", "bad_value", "flow-edit(averages=2)"),
    ],
)
def test_other_text_is_refused_in_a_sentence(name: str, code: str, named: str) -> None:
    with refused(code, named):
        sampler_of(name)
