"""Several transformers make one video, each at its noise levels, and are in memory one after the other."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.references import InContextReferences
from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, SOURCE_PROMPT, STRENGTH, VIDEO
from kinoform.conditions.video_to_video import StartVideo
from kinoform.loading.additions import Additions, with_additions
from kinoform.loading.lora import with_loras
from kinoform.loading.own import open_own
from kinoform.loading.parts import Parts, own_parts
from kinoform.media.types import InputVideo, Mask
from kinoform.models.in_context import InContextImages
from kinoform.models.lora import adapters_of
from kinoform.pipelines.experts import in_memory
from kinoform.pipelines.generate import Progress, encode_inputs, encode_prompts, noise_of, text_field
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from kinoform.recipe import Recipe
from kinoform.solvers.base import sample, velocity_at
from kinoform.solvers.by_expert import PerExpert
from kinoform.solvers.cache import FixedIntervalCache, cached
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.field import StatefulField
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.guidance.interval import Interval
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Scales
from kinoform.solvers.guidance.zero_star import ZeroStar
from kinoform.solvers.levels import noised
from kinoform.solvers.predictions import Predict
from kinoform.solvers.sampler import first_step
from kinoform.types import Level
from tests.conditions.in_hand import image, random_module
from tests.support.narrowing import of_type
from tests.support.refusals import refused
from tests.support.tiny_recipe import by_expert, tiny, tiny_of_two, write_tiny_folder
from tests.support.unchecked import unchecked

PROMPT, STEPS, BOUNDARY = "a red ball", 6, 0.6
CPU = torch.device("cpu")
HERE = Machine(device=CPU, dtype=torch.float32)


def two(**changes: Any) -> Recipe:
    """A recipe of two transformers; with shift 3 the first makes 4 of 6 steps."""
    return replace(tiny_of_two(), **changes)


@pytest.fixture(scope="module")
def each(tmp_path_factory: pytest.TempPathFactory) -> tuple[Parts, Parts]:
    """Two models of other weights, whose parts are loaded anew at each use."""
    made, root = tiny(), tmp_path_factory.mktemp("experts")
    folders = [write_tiny_folder(root / str(seed), seed=seed) for seed in (0, 1)]
    first, second = (own_parts(open_own(folder), (made.transformer,), made.codec, made.text) for folder in folders)
    return first, second


def joined(each: tuple[Parts, Parts], *loaders: Any) -> Parts:
    first, second = each
    return replace(
        first,
        transformers=loaders or (first.transformer, second.transformer),
        transformer_specs=(first.transformer_spec, second.transformer_spec),
    )


@pytest.fixture
def pipe(each: tuple[Parts, Parts]) -> Pipeline:
    return Pipeline(recipe=two(), parts=joined(each), machine=HERE)


def quiet(progress: Progress) -> None: ...


def by_hand(pipe: Pipeline, asked: Request, period: int = 1) -> torch.Tensor:
    """Latents by a loop with both transformers in memory, each of which is evaluated every `period` of its steps."""
    (rows,) = encode_prompts(pipe.parts, [asked], HERE, quiet)
    (given,) = encode_inputs(pipe.parts, [asked], HERE, quiet)
    noise, levels = noise_of(pipe.parts.codec_spec, asked)(), asked.solver.levels(STEPS, asked.shift)
    models = [load(torch.float32, CPU) for load in pipe.parts.transformers]
    constraints, calls, velocities = given.constraints, [0, 0], [noise, noise]
    with torch.no_grad():
        fields = [
            text_field(model, rows[:2], noise, scale, given) for model, scale in zip(models, (4.0, 2.0), strict=True)
        ]

        def velocity(x: torch.Tensor, level: Level) -> torch.Tensor:
            index = int(level.timestep < 1000 * of_type(float, asked.boundaries[0]))
            if calls[index] % period == 0:
                velocities[index] = velocity_at(x, fields[index], level)
            calls[index] += 1
            return velocities[index]

        first = first_step(STEPS, constraints.strength)
        x = noise if constraints.init_latents is None else noised(constraints.init_latents, noise, levels[first].sigma)
        known = constraints.inpainting
        kept = None if known is None else lambda x, level: known.impose(x, level, noise)
        *_, last = sample(asked.solver, velocity, x, levels, start=first, constrain=kept)
    return last.x


@dataclass(frozen=True, slots=True, kw_only=True)
class EverySecond(PlainGuidance):
    """Plain guidance whose velocity is kept for a second step."""

    def guide(self, predict: Predict, scales: Scales, levels: tuple[Level, ...]) -> StatefulField:
        return cached(PlainGuidance.guide(self, predict, scales, levels), FixedIntervalCache(period=2))


def test_a_cache_is_of_each_expert(pipe: Pipeline) -> None:
    for boundary in (BOUNDARY, 0.8):  # the first makes 4 steps, or 3: the velocity of its last is not the second's
        asked = pipe.request(PROMPT, seed=1, guidance_rule=EverySecond(), boundaries=(boundary,))
        assert torch.equal(next(pipe.latents([asked], quiet)), by_hand(pipe, asked, period=2))
    assert not torch.equal(by_hand(pipe, asked, period=2), by_hand(pipe, asked))


def test_a_part_that_is_kept_is_kept_by_both(pipe: Pipeline) -> None:
    seeing = replace(pipe, recipe=replace(pipe.recipe, conditioners=(StartVideo(),)))
    hole = Mask(values=np.pad(np.full((1, 16, 8), 255, np.uint8), ((0, 0), (0, 0), (8, 0))))
    asked = seeing.request(PROMPT, seed=1, inputs=SHOWN | {MASK: hole, STRENGTH: 0.7})
    found = next(seeing.latents([asked], quiet))
    assert torch.equal(found, by_hand(seeing, asked))
    free = next(seeing.latents([seeing.request(PROMPT, seed=1, inputs=SHOWN | {STRENGTH: 0.7})], quiet))
    assert not torch.equal(found, free)


def test_known_frames_are_read_by_both(each: tuple[Parts, Parts]) -> None:
    spec = replace(tiny().transformer, in_channels=4 + 2 + 4)
    recipe = two(transformers=(spec, spec), conditioners=(KnownFrames(impose=True),))
    models = [random_module(spec, seed) for seed in (1, 2)]
    loaders = tuple(lambda dtype, device, model=model: model for model in models)
    parts = replace(joined(each, *loaders), transformer_specs=(spec, spec))
    pipe = Pipeline(recipe=recipe, parts=parts, machine=HERE)
    for seed in (1, 2):
        asked = pipe.request(PROMPT, seed=seed, inputs=Inputs({FRAMES: {0: image(3, 16, 16)}}))
        assert torch.equal(next(pipe.latents([asked], quiet)), by_hand(pipe, asked))


def test_additions_go_onto_both(each: tuple[Parts, Parts]) -> None:
    additions, bases = Additions(branches=(InContextImages(),)), two().transformers
    recipe = two(additions=additions, conditioners=(InContextReferences(),))
    parts = with_additions(joined(each), additions, bases)
    assert parts.transformer_specs == tuple(map(additions.to, bases))
    pipe, plain = (Pipeline(recipe=recipe, parts=each, machine=HERE) for each in (parts, joined(each)))
    asked = pipe.request(PROMPT, seed=1, inputs=Inputs({REFERENCE_IMAGES: (image(3, 16, 16),)}))
    found = next(pipe.latents([asked], quiet))
    assert torch.equal(found, by_hand(pipe, asked))
    alone = pipe.request(PROMPT, seed=1)
    assert torch.equal(*(next(one.latents([alone], quiet)) for one in (pipe, plain)))
    assert not torch.equal(found, next(pipe.latents([alone], quiet)))


def test_steps_are_those_of_one_transformer_and_then_of_the_other(pipe: Pipeline, each: tuple[Parts, Parts]) -> None:
    asked = pipe.request(PROMPT, seed=1)
    levels = asked.solver.levels(STEPS, asked.shift)
    above = [level.timestep >= 1000 * BOUNDARY for level in levels[:-1]]
    assert above == [True] * 4 + [False] * 2
    heard: list[Progress] = []
    latents = next(pipe.latents([asked], heard.append))
    assert torch.equal(latents, by_hand(pipe, asked))
    steps = [progress for progress in heard if progress.stage == "denoise"]
    assert [(step.done, step.expert) for step in steps] == [
        (done, "high" if done <= 4 else "low") for done in range(1, 7)
    ]


@pytest.mark.parametrize(("boundary", "alone"), [(0.001, 0), (0.9999, 1)])
def test_an_expert_that_no_step_reaches_is_not_loaded(each: tuple[Parts, Parts], boundary: float, alone: int) -> None:
    def never(*words: object) -> Any:
        raise AssertionError("an expert was loaded that makes no step")

    loaders = [parts.transformer if index == alone else never for index, parts in enumerate(each)]
    recipe = two(boundaries=(boundary,), guidance_scale=4.0)
    found = Pipeline(recipe=recipe, parts=joined(each, *loaders), machine=HERE)
    transformer = each[alone].transformer
    parts = replace(joined(each), transformers=(transformer,), transformer_specs=tiny().transformers)
    single = Pipeline(recipe=replace(tiny(), steps=STEPS), parts=parts, machine=HERE)
    (latents,), (expected,) = (each.latents([each.request(PROMPT, seed=2)], quiet) for each in (found, single))
    assert torch.equal(latents, expected)


def test_each_is_loaded_once_for_all_videos_and_dropped_before_the_other_comes(each: tuple[Parts, Parts]) -> None:
    held: list[tuple[int, weakref.ref]] = []
    beside: list[list[int]] = []

    def watched(index: int) -> Callable[..., Any]:
        def load(*words: Any) -> Any:
            beside.append([other for other, model in held if model() is not None])
            model = each[index].transformer(*words)
            held.append((index, weakref.ref(model)))
            return model

        return load

    pipe = Pipeline(recipe=two(), parts=joined(each, watched(0), watched(1)), machine=HERE)
    asked = [pipe.request(PROMPT, seed=seed) for seed in (1, 2, 3)]
    heard: list[Progress] = []
    made = list(pipe.latents(asked, heard.append))
    assert [index for index, _ in held] == [0, 1] and beside == [[], []]
    assert not [index for index, model in held if model() is not None], "gone when the last latents are handed out"
    turns = [(step.expert, step.video) for step in heard if step.stage == "denoise"]
    assert list(dict.fromkeys(turns)) == [(expert, video) for expert in ("high", "low") for video in (0, 1, 2)]
    alone = Pipeline(recipe=two(), parts=joined(each), machine=HERE)
    for request, latents in zip(asked, made, strict=True):
        assert torch.equal(latents, next(alone.latents([request], quiet)))


SHOWN = Inputs({VIDEO: InputVideo(frames=np.full((3, 16, 16, 3), 90, np.uint8))})
WAYS: dict[str, dict[str, Any]] = {
    "from noise": {},
    "another solver": {"solver": DPMSolver(order=3)},
    "from a video": {"inputs": SHOWN | {STRENGTH: 0.7}},
    "below the boundary": {"inputs": SHOWN | {STRENGTH: 0.2}},
    "changing a video": {"inputs": SHOWN | {SOURCE_PROMPT: "a cat"}, "sampler": FlowEdit(averages=2, plain_steps=1)},
}


@pytest.mark.parametrize("changes", WAYS.values(), ids=list(WAYS))
def test_two_of_the_same_weights_are_one(each: tuple[Parts, Parts], changes: dict[str, Any]) -> None:
    one = each[0]
    both = replace(one, transformers=2 * one.transformers, transformer_specs=2 * one.transformer_specs)
    pipes = [
        Pipeline(recipe=replace(recipe, conditioners=(StartVideo(),)), parts=parts, machine=HERE)
        for recipe, parts in ((two(guidance_scale=4.0), both), (replace(tiny(), steps=STEPS), one))
    ]
    (found,), (expected,) = (pipe.latents([pipe.request(PROMPT, seed=3, **changes)], quiet) for pipe in pipes)
    assert torch.equal(found, expected)


def test_guidance_is_of_each_expert(pipe: Pipeline) -> None:
    def latents(**changes: Any) -> torch.Tensor:
        return next(pipe.latents([pipe.request(PROMPT, seed=1, **changes)], quiet))

    both, other = latents(guidance_scale={"low": 2, "high": 4}), latents(guidance_scale=by_expert(4, 3))
    assert torch.equal(both, latents()) and not torch.equal(both, other)
    assert torch.equal(latents(guidance_scale=3.0), latents(guidance_scale={"high": 3.0, "low": 3.0}))
    unread = pipe.request(PROMPT, seed=1, guidance_scale=by_expert(1, 1))
    assert not unread.reads_negative and pipe.request(PROMPT, seed=1, guidance_scale=by_expert(1, 2)).reads_negative
    for rule in (Interval(low=0.3, high=0.9), ZeroStar()):
        assert torch.isfinite(latents(guidance_rule=rule)).all()


def test_a_lora_goes_onto_those_that_are_said(each: tuple[Parts, Parts], tmp_path: Path) -> None:
    dim, heard = tiny().transformer.dim, []
    file, name = tmp_path / "style.safetensors", "diffusion_model.blocks.0.self_attn.q"
    matrices = {"A": torch.full((2, dim), 0.1), "B": torch.full((dim, 2), 0.1)}
    save_file({f"{name}.lora_{letter}.weight": values for letter, values in matrices.items()}, file)

    def adapted(strength: PerExpert) -> tuple[Parts, list[bool]]:
        parts = with_loras(joined(each), [(file, strength)], heard.append)
        return parts, [bool(adapters_of(load(torch.float32, CPU))) for load in parts.transformers]

    said = ({"high": 0.8, "low": 0.8}, {"high": 0.8}, {"low": 0.8})
    (all_of_them, on_all), (only_first, on_first), (only_second, _) = map(adapted, said)
    assert [[len(held) for held in parts.loras] for parts in (all_of_them, only_first)] == [[1, 1], [1, 0]]
    assert all_of_them.lora_strengths == ({"high": 0.8, "low": 0.8},) and only_second.lora_strengths == ({"low": 0.8},)
    assert (on_all, on_first) == ([True, True], [True, False])
    told = [line.partition(":")[0] for line in heard if "tensors applied" in line]
    assert told == ["high", "low", "high", "low"]
    hashes = {parts.fingerprint() for parts in (joined(each), all_of_them, only_first, only_second)}
    assert len(hashes) == 4
    with refused("unknown_expert"):
        with_loras(joined(each), [(file, {"high": 1.0, "lwo": 1.0})], heard.append)


def test_metadata_tell_both_and_are_taken_back(pipe: Pipeline) -> None:
    asked = pipe.request(PROMPT, seed=1)
    params = pipe.params(asked)
    assert (params["guidance_scale"], params["boundaries"]) == ({"high": 4.0, "low": 2.0}, [BOUNDARY])
    again = pipe.request(PROMPT, seed=1, guidance_scale={"high": 4.0, "low": 2.0}, boundaries=[BOUNDARY])
    assert again == asked
    moved = pipe.request(PROMPT, seed=1, boundaries=(0.9,))
    assert not torch.equal(*(next(pipe.latents([request], quiet)) for request in (asked, moved)))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"guidance_scale": (4.0, 3.0)}, "expert_not_said"),
    ({"guidance_scale": [4.0]}, "expert_not_said"),
    ({"guidance_scale": {"high": 4.0}}, "expert_missing"),
    ({"guidance_scale": {}}, "expert_missing"),
    ({"guidance_scale": {"high": 4.0, "low": 3.0, "1": 3.0}}, "unknown_expert"),
    ({"guidance_scale": {0: 4.0, 1: 3.0}}, "unknown_expert"),
    ({"guidance_scale": by_expert(4.0, 101.0)}, "value_out_of_range"),
    ({"guidance_scale": {"high": 4.0, "low": "3"}}, "wrong_type"),
    ({"boundaries": ()}, "boundary_invalid"),
    ({"boundaries": (), "guidance_scale": 4.0}, "boundary_invalid"),
    ({"boundaries": (0.9, 0.5), "guidance_scale": 4.0}, "boundary_invalid"),
    ({"boundaries": (1.0,)}, "boundary_invalid"),
    ({"boundaries": (0.0,)}, "boundary_invalid"),
    ({"boundaries": (875,)}, "value_out_of_range"),
    ({"boundaries": 0.875}, "wrong_type"),
]


@pytest.mark.parametrize(("changes", "code"), WRONG, ids=str)
def test_numbers_that_no_model_of_two_has_are_refused(pipe: Pipeline, changes: dict[str, Any], code: str) -> None:
    with refused(code):
        pipe.request(PROMPT, seed=1, **changes)


def test_a_recipe_whose_transformers_are_no_tuple_is_refused() -> None:
    transformers: Any = tiny().transformer
    with unchecked(), refused("wrong_type"):
        replace(tiny(), transformers=transformers)


def test_a_recipe_of_transformers_that_do_not_belong_together_is_refused() -> None:
    (spec,) = tiny().transformers
    for changes, code in [
        ({"boundaries": ()}, "boundary_invalid"),
        ({"boundaries": (0.9, 0.5)}, "boundary_invalid"),
        ({"transformers": (spec, spec, spec), "boundaries": (0.5, 0.9)}, "boundary_invalid"),
        ({"transformers": (spec, replace(spec, in_channels=8))}, "transformers_differ"),
        ({"transformers": (spec, replace(spec, patch=(1, 1, 1)))}, "transformers_differ"),
    ]:
        with refused(code):
            two(**changes)
    with refused("several_transformers"):
        _ = two().transformer
    three = two(transformers=(spec, replace(spec, layers=2), spec), boundaries=(0.9, 0.5), guidance_scale=4.0)
    assert len(three.transformers) == 3


def test_a_model_of_one_is_the_tuple_of_length_one(each: tuple[Parts, Parts]) -> None:
    pipe = Pipeline(recipe=replace(tiny(), steps=STEPS), parts=each[0], machine=HERE)
    assert pipe.params(pipe.request(PROMPT, seed=1))["boundaries"] == []
    for both in ({"high": 4.0, "low": 3.0}, (4.0, 3.0)):
        with refused("one_transformer"):
            pipe.request(PROMPT, seed=1, guidance_scale=both)
    assert len(in_memory(each[0].transformer(torch.float32, CPU))) == 1
