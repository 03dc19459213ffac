"""Videos from videos: what is begun from, what stays, what is changed, and what a request for it is refused for."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import VIDEO
from kinoform.conditions.video_to_video import StartVideo
from kinoform.media.types import InputVideo, Mask
from kinoform.models.dit import DiT
from kinoform.pipelines.generate import Progress, noise_of
from kinoform.pipelines.part_cache import PartEncoders
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from kinoform.solvers.base import Solver
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.guidance.interval import Interval
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.zero_star import ZeroStar
from kinoform.solvers.levels import noised
from kinoform.solvers.names import SOLVERS
from kinoform.solvers.sampler import Denoise
from kinoform.types import Level
from tests.support.named_inputs import named
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline

PROMPT, SHOWN = "a red ball moves left", "a blue cat"
CLIP = InputVideo(frames=np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))
HOLE = Mask(values=np.pad(np.full((1, 16, 8), 255, dtype=np.uint8), ((0, 0), (0, 0), (8, 0))))
"""White on the right half."""


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return tiny_pipeline(folder, conditioners=(StartVideo(),), num_frames=5)


def ask(pipe: Pipeline, prompt: str = PROMPT, *, seed: int = 7, **changes: Any) -> Request:
    """A request whose inputs and other fields stand side by side."""
    names = {"video", "mask", "strength", "source_prompt"}
    inputs = named(**{name: value for name, value in changes.items() if name in names})
    rest = {name: value for name, value in changes.items() if name not in names}
    return pipe.request(prompt, seed=seed, inputs=inputs, **{"steps": 6, **rest})


def made(pipe: Pipeline, asked: Request) -> Tensor:
    return next(pipe.latents([asked], lambda progress: None))


def start_of(pipe: Pipeline, asked: Request) -> Tensor:
    start = StartVideo().encode(asked.inputs, asked.video, PartEncoders(pipe.parts, torch.device("cpu"), torch.float32))
    assert start.constraints.init_latents is not None
    return start.constraints.init_latents


def model_of(pipe: Pipeline) -> DiT:
    """The transformer that the pipeline keeps."""
    return pipe.parts.transformer(torch.float32, torch.device("cpu"))


@pytest.fixture
def seen(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Level, int]]:
    """At which points, levels and for how many prompts the model is asked from here on."""
    found: list[tuple[Tensor, Level, int]] = []
    velocities = model_of(pipe).velocities

    def watching(x: Tensor, level: Level, prompts: tuple) -> Any:
        found.append((x.clone(), level, len(prompts)))
        return velocities(x, level, prompts)

    monkeypatch.setattr(model_of(pipe), "velocities", watching)
    return found


def test_words_alone_make_the_video_they_made_before(pipe: Pipeline, folder: Path) -> None:
    plain = tiny_pipeline(folder, num_frames=5)
    assert torch.equal(made(pipe, ask(pipe)), made(plain, ask(plain)))


def test_nothing_is_encoded_for_words_alone(pipe: Pipeline) -> None:
    def load(device: torch.device) -> Any:
        raise AssertionError("the codec is not needed")

    stages = []
    words = replace(pipe, parts=replace(pipe.parts, codec=load))
    next(words.latents([ask(words)], lambda progress: stages.append(progress.stage)))
    assert set(stages) == {"text", "denoise"}


# From a video


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_at_strength_1_it_is_the_video_of_words_alone(pipe: Pipeline, solver: Solver) -> None:
    alone, redone = (made(pipe, ask(pipe, solver=solver, **given)) for given in ({}, {"video": CLIP, "strength": 1.0}))
    assert torch.equal(alone, redone)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_inside_a_mask_at_strength_1_nothing_of_the_video_is_begun_with(
    pipe: Pipeline, seen: list[tuple[Tensor, Level, int]], solver: Solver
) -> None:
    asked = ask(pipe, video=CLIP, mask=HOLE, solver=solver)
    made(pipe, asked)
    x, level, _ = seen[0]
    noise = noise_of(pipe.parts.codec_spec, asked)()
    half = noise.shape[-1] // 2
    assert torch.equal(x[..., half:], noise[..., half:]), "white"
    assert torch.equal(x[..., :half], noised(start_of(pipe, asked), noise, level.sigma)[..., :half]), "black"


@pytest.mark.parametrize(("strength", "steps"), [(0.99, 5), (0.5, 3), (0.34, 2), (0.01, 1)])
def test_it_begins_with_the_mixture_of_video_and_noise(
    pipe: Pipeline, seen: list[tuple[Tensor, Level, int]], strength: float, steps: int
) -> None:
    asked = ask(pipe, video=CLIP, strength=strength)
    told: list[Progress] = []
    next(pipe.latents([asked], told.append))
    levels = asked.solver.levels(6, asked.shift)
    x, level, _ = seen[0]
    noise = noise_of(pipe.parts.codec_spec, asked)()
    assert level == levels[6 - steps] and torch.equal(x, noised(start_of(pipe, asked), noise, level.sigma))
    assert [level for _, level, _ in seen] == list(levels[6 - steps : 6])
    assert [(each.done, each.total) for each in told if each.stage == "denoise"] == [
        (i + 1, steps) for i in range(steps)
    ]
    assert [each.stage for each in told[:3]] == ["text", "encode", "denoise"]


def test_a_video_takes_the_length_of_a_shorter_clip(pipe: Pipeline) -> None:
    with pytest.warns(UserWarning, match="5 frames are made instead of 9"):
        asked = ask(pipe, video=CLIP, num_frames=9)
    assert asked.num_frames == 5 and made(pipe, asked).shape[2] == 3


def test_the_weaker_the_more_of_the_video_is_kept(pipe: Pipeline) -> None:
    asked = [ask(pipe, video=CLIP, strength=strength, steps=20) for strength in (0.05, 0.4, 1.0)]
    gaps = [(made(pipe, each) - start_of(pipe, each)).square().mean().item() for each in asked]
    assert gaps == sorted(gaps) and gaps[0] < gaps[2] / 4


def test_black_stays_bit_for_bit_and_white_is_made(pipe: Pipeline) -> None:
    options: tuple[dict[str, Any], ...] = ({}, {"strength": 0.5}, {"sampler": FlowEdit(), "source_prompt": SHOWN})
    for more in options:
        asked = ask(pipe, video=CLIP, mask=HOLE, **more)
        latents, start = made(pipe, asked), start_of(pipe, asked)
        half = latents.shape[-1] // 2
        assert torch.equal(latents[..., :half], start[..., :half])
        assert not torch.isclose(latents[..., half:], start[..., half:]).any()


# Changing a video


def test_one_prompt_twice_gives_the_video_back(pipe: Pipeline) -> None:
    asked = ask(pipe, video=CLIP, source_prompt=PROMPT, sampler=FlowEdit(source_guidance=3.0), guidance_scale=3.0)
    assert torch.equal(made(pipe, asked), start_of(pipe, asked))


def test_another_prompt_changes_it_the_more_the_earlier_it_begins(pipe: Pipeline) -> None:
    asked = [ask(pipe, video=CLIP, source_prompt=SHOWN, sampler=FlowEdit(), strength=each) for each in (0.2, 0.9)]
    gaps = [(made(pipe, each) - start_of(pipe, each)).square().mean().item() for each in asked]
    assert 0 < gaps[0] < gaps[1]


@pytest.mark.parametrize(
    ("sampler", "evaluations"), [(FlowEdit(), 8), (FlowEdit(averages=3), 24), (FlowEdit(plain_steps=1), 7)]
)
def test_two_velocities_for_each_noise_and_one_in_plain_steps(
    pipe: Pipeline, seen: list[tuple[Tensor, Level, int]], sampler: FlowEdit, evaluations: int
) -> None:
    asked = ask(pipe, video=CLIP, source_prompt=SHOWN, sampler=sampler)
    made(pipe, asked)
    assert len(seen) == evaluations and {prompts for *_, prompts in seen} == {2}, "four of six steps by default"


def test_progress_and_an_end_from_outside(pipe: Pipeline) -> None:
    asked = ask(pipe, video=CLIP, source_prompt=SHOWN, sampler=FlowEdit(plain_steps=2))
    told: list[Progress] = []

    def stop(progress: Progress) -> bool:
        told.append(progress)
        return (progress.stage, progress.done) != ("denoise", 3)

    with refused("interrupted", "denoise", "3 of 4"):
        next(pipe.latents([asked], stop))
    assert all(each.x0 is not None and each.x0.shape[2] == 3 for each in told if each.stage == "denoise")


def test_numbers_that_fail_are_named_with_their_step(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(x: Tensor, level: Level, prompts: tuple) -> list[Tensor]:
        return [torch.full_like(x, torch.nan) for _ in prompts]

    monkeypatch.setattr(model_of(pipe), "velocities", fail)
    with refused("not_finite", "3 of 6"):
        made(pipe, ask(pipe, video=CLIP, source_prompt=SHOWN, sampler=FlowEdit()))


# Every kind of request, in one batch


def every_kind(pipe: Pipeline) -> list[Request]:
    edit = {"video": CLIP, "source_prompt": SHOWN}
    return [
        ask(pipe),
        ask(pipe, video=CLIP, seed=8),
        ask(pipe, video=CLIP, mask=HOLE),
        ask(pipe, **edit, sampler=FlowEdit(averages=2)),
        ask(pipe, **edit, sampler=FlowEdit(plain_steps=2), mask=HOLE),
        ask(pipe, guidance_rule=Interval(low=0.3, high=0.9)),
        ask(pipe, guidance_rule=ZeroStar()),
        ask(pipe, **edit, sampler=FlowEdit(), guidance_rule=ZeroStar(zero_steps=3)),
    ]


def test_a_batch_makes_the_videos_that_are_made_alone_and_makes_them_again(pipe: Pipeline) -> None:
    asked = every_kind(pipe)
    together = list(pipe.latents(asked, lambda progress: None))
    for request, latents in zip(asked, together, strict=True):
        assert torch.equal(latents, made(pipe, request)) and torch.isfinite(latents).all()
    for i, latents in enumerate(together):
        assert not any(torch.equal(latents, other) for other in together[:i])


def test_what_several_videos_begin_from_is_encoded_once(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, encoded = Inputs({VIDEO: CLIP}), []
    encode = StartVideo.encode

    def counted(self: StartVideo, inputs: Inputs, *rest: Any) -> Any:
        encoded.append(inputs)
        return encode(self, inputs, *rest)

    alone = [made(pipe, pipe.request(PROMPT, seed=seed, inputs=shared, steps=2)) for seed in (1, 2)]
    monkeypatch.setattr(StartVideo, "encode", counted)
    asked = [pipe.request(PROMPT, seed=seed, inputs=shared, steps=2) for seed in (1, 2)]
    asked.append(pipe.request(PROMPT, seed=1, inputs=Inputs({VIDEO: CLIP}), steps=2))
    first, second, other = pipe.latents(asked, lambda progress: None)
    assert len(encoded) == 2 and encoded[0] is shared
    assert torch.equal(first, alone[0]) and torch.equal(second, alone[1]) and torch.equal(other, first)


def test_the_seed_decides_and_the_global_generator_does_not(pipe: Pipeline) -> None:
    edit: dict = {"video": CLIP, "source_prompt": SHOWN, "sampler": FlowEdit(averages=2)}
    torch.manual_seed(1)
    first = made(pipe, ask(pipe, **edit))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, made(pipe, ask(pipe, **edit))) and torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, made(pipe, ask(pipe, seed=8, **edit)))


def test_a_generator_draws_in_place_of_the_seed(pipe: Pipeline) -> None:
    asked = ask(pipe, video=CLIP, source_prompt=SHOWN, sampler=FlowEdit())
    generator = torch.Generator().manual_seed(7)
    first, second = (next(pipe.latents([asked], lambda progress: None, generator)) for _ in range(2))
    assert torch.equal(first, made(pipe, asked)) and not torch.equal(second, first)


# Guidance


def test_an_interval_asks_for_both_prompts_inside_only(pipe: Pipeline, seen: list[tuple[Tensor, Level, int]]) -> None:
    rule = Interval(low=0.3, high=0.9)
    made(pipe, ask(pipe, guidance_rule=rule))
    assert [prompts for *_, prompts in seen] == [2 if 0.3 <= level.sigma <= 0.9 else 1 for _, level, _ in seen]
    assert {prompts for *_, prompts in seen} == {1, 2}


def test_zero_steps_ask_for_nothing(pipe: Pipeline, seen: list[tuple[Tensor, Level, int]]) -> None:
    made(pipe, ask(pipe, guidance_rule=ZeroStar(zero_steps=2)))
    assert len(seen) == 4


# Refused


REFUSED = [
    ({"sampler": FlowEdit()}, "input_missing", "flow-edit"),
    ({"sampler": FlowEdit(), "video": CLIP}, "input_missing", "flow-edit"),
    ({"sampler": FlowEdit(), "source_prompt": SHOWN}, "input_missing", "flow-edit"),
    ({"video": CLIP, "source_prompt": SHOWN, "sampler": Denoise()}, "options_conflict", "flow-edit"),
    ({"source_prompt": SHOWN}, "input_missing", "flow-edit"),
    ({"video": CLIP, "source_prompt": "a\x00b", "sampler": FlowEdit()}, "character_not_allowed", "U+0000"),
    ({"video": CLIP, "source_prompt": SHOWN, "sampler": FlowEdit(plain_steps=6)}, "too_few_steps", "plain_steps"),
    ({"guidance_rule": ZeroStar(zero_steps=6)}, "too_few_steps", "zero_steps"),
    ({"sampler": FlowEdit}, "wrong_type", "FlowEdit()"),
    ({"guidance_rule": ZeroStar}, "wrong_type", "PlainGuidance()"),
    ({"strength": 0.5}, "input_missing", "strength"),
    ({"mask": HOLE}, "input_missing", "mask"),
    ({"video": CLIP, "strength": 1.5}, "value_out_of_range", "1.5"),
]


@pytest.mark.parametrize(("change", "code", "named"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_does_not_go_together_is_refused_before_any_work(
    pipe: Pipeline, change: dict, code: str, named: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with refused(code, named) as caught:
            ask(pipe, **change)
    assert "\n" not in str(caught.value)


def test_a_model_without_the_door_says_so(folder: Path) -> None:
    plain = tiny_pipeline(folder)
    with refused("input_not_taken"):
        ask(plain, video=CLIP)


def test_the_recipe_has_the_last_word_where_nothing_is_asked(pipe: Pipeline) -> None:
    changed = replace(pipe, recipe=replace(pipe.recipe, guidance_rule=ZeroStar(zero_steps=2)))
    assert ask(changed).guidance_rule == ZeroStar(zero_steps=2)
    assert torch.equal(made(changed, ask(changed, guidance_rule=PlainGuidance())), made(pipe, ask(pipe)))
