"""Videos by few-step recipes: noise of each request's own generator, what is recorded, and other inputs."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kinoform.conditions.video_to_video import StartVideo
from kinoform.media.types import InputVideo, Mask
from kinoform.pipelines.generate import Progress
from kinoform.pipelines.part_cache import PartEncoders
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipes.few_step import FEW_STEP
from kinoform.recipes.load import load
from kinoform.solvers.experts import AtStep, BelowSigma
from kinoform.solvers.field import StatefulField, stateful
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.types import Latents, Level, Velocity
from tests.support.named_inputs import named
from tests.support.refusals import refused
from tests.support.tiny_recipe import write_tiny_of_two

PROMPTS = ("a red ball", "a blue cat")
TWO = "tests.support.tiny_recipe:tiny_of_two"
RULES = ("lightx2v-4step-flf2v", "fastwan-3step", "rcm-i2v", "rcm-i2v-ode", "self-forcing-index", "causal-wan22")
"""Recipes of which each has a rule or a switch of its own."""

EXPERTS = {"lightx2v-4step-flf2v": [0, 0, 1, 1], "rcm-i2v": [0, 0, 1, 1], "causal-wan22": [0] * 4 + [1] * 4}
"""Experts of the steps where they are those of the recipe; the others take those of the tiny model, at 0.6."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_of_two(tmp_path_factory.mktemp("two") / "model")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Pipeline:
    return load(folder, recipe=TWO, device="cpu")


def with_recipe(plain: Pipeline, name: str) -> Pipeline:
    """The pipeline with a few-step recipe as if that were made for its model."""
    return replace(plain, recipe=replace(FEW_STEP[name], models=("tiny",)).applied(plain.recipe))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(PlainGuidance):
    """Guidance that notes the timesteps which the networks are told."""

    timesteps: list[float]

    def guide(self, *arguments: object, **named: object) -> StatefulField:
        field = PlainGuidance.guide(self, *arguments, **named)  # type: ignore[arg-type]

        def noted(x: Latents, level: Level) -> Velocity:
            self.timesteps.append(level.timestep)
            assert x.dtype == torch.float32
            return field(x, level)

        return stateful(noted)


@pytest.mark.filterwarnings("ignore:the recipe")
@pytest.mark.parametrize("name", RULES)
def test_a_seed_is_a_video_alone_and_among_others(plain: Pipeline, name: str) -> None:
    pipe, timesteps, experts = with_recipe(plain, name), list[float](), list[str | None]()

    def note(progress: Progress) -> None:
        if progress.stage == "denoise":
            assert progress.x0 is not None and progress.x0.dtype == torch.float32
            experts.append(progress.expert)

    rule = Told(timesteps=timesteps)
    requests = [pipe.request(text, seed=seed, guidance_rule=rule) for seed, text in enumerate(PROMPTS)]
    together = list(pipe.latents(requests, note))
    asked = requests[-1]
    alone = next(pipe.latents([asked], note))
    assert torch.equal(alone, together[-1]) and alone.dtype == torch.float32
    assert not torch.equal(*together)
    assert timesteps[-asked.steps :] == [level.timestep for level in asked.levels[:-1]]
    if name in EXPERTS:
        assert experts[-asked.steps :] == [("high", "low")[index] for index in EXPERTS[name]]


def test_the_timestep_is_not_truncated(plain: Pipeline) -> None:
    timesteps: list[float] = []
    pipe = with_recipe(plain, "lightx2v-4step")
    with pytest.warns(UserWarning, match="lightx2v-4step"):
        pipe(PROMPTS[0], seed=1, guidance_rule=Told(timesteps=timesteps))
    assert timesteps == [1000.0, 937.5, pytest.approx(2500 / 3), 625.0]


@pytest.mark.filterwarnings("ignore:the recipe")
def test_boundaries_of_all_kinds_and_levels_are_recorded(plain: Pipeline) -> None:
    pipe = with_recipe(plain, "rcm-i2v")
    params = pipe.params(pipe.request(PROMPTS[0], seed=1))
    assert params["boundaries"] == [{"sigma": 0.9}] and params["sampler"] == "rcm"
    assert params["level_grid"] == "trigflow(sigma_max=200.0)"
    moved = pipe.request(PROMPTS[0], seed=1, boundaries=(AtStep(step=1),))
    assert pipe.params(moved)["boundaries"] == [{"step": 1}]
    with refused("boundary_invalid"):
        pipe.request(PROMPTS[0], seed=1, boundaries=(AtStep(step=4),))
    assert pipe.recipe.boundaries == (BelowSigma(sigma=0.9),)
    assert "level_grid" not in plain.params(plain.request(PROMPTS[0], seed=1))


@pytest.mark.filterwarnings("ignore:the recipe")
@pytest.mark.parametrize("name", ["fastwan-3step", "rcm"])
def test_a_video_to_begin_from_is_redone_and_none_is_edited_by_its_source_prompt(plain: Pipeline, name: str) -> None:
    pipe = with_recipe(replace(plain, recipe=replace(plain.recipe, conditioners=(StartVideo(),))), name)
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    clip = InputVideo(frames=frames)
    asked = pipe.request(PROMPTS[0], seed=1, inputs=named(video=clip))
    assert torch.isfinite(next(pipe.latents([asked], lambda progress: None))).all()
    with refused("sampler_of_other_recipe", name, "flow-edit"):
        pipe.request(PROMPTS[0], seed=1, inputs=named(video=clip, source_prompt="a cat"))


def test_names_of_files_and_folders_are_heard(plain: Pipeline, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "wan2.2_low_noise_lightx2v_4step.safetensors"
    draw, name = torch.Generator().manual_seed(3), "diffusion_model.blocks.0.self_attn.k.lora"
    save_file({f"{name}_A.weight": torch.randn(2, 24, generator=draw), f"{name}_B.weight": torch.zeros(24, 2)}, file)
    pipe = load(folder, recipe=TWO, loras=[(file, 1.0)], device="cpu")
    with pytest.warns(UserWarning, match=file.name):
        pipe.request(PROMPTS[0], seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.request(PROMPTS[0], seed=1, guidance_scale={"high": 4.0, "low": 1.0})
        with_recipe(pipe, "lightx2v-4step").request(PROMPTS[0], seed=1)
    other = copytree(folder, tmp_path / "FastWan-3steps")
    with pytest.warns(UserWarning, match="FastWan-3steps.*--recipe fastwan-3step"):
        load(other, recipe=TWO, device="cpu").request(PROMPTS[0], seed=1)


@pytest.mark.filterwarnings("ignore:the recipe")
def test_one_step_begins_from_no_video(plain: Pipeline) -> None:
    pipe = with_recipe(replace(plain, recipe=replace(plain.recipe, conditioners=(StartVideo(),))), "rcm")
    clip = InputVideo(frames=np.zeros((3, 16, 16, 3), dtype=np.uint8))
    with refused("video_not_begun_from", "rcm"):
        pipe.request(PROMPTS[0], seed=1, steps=1, inputs=named(video=clip))


@pytest.mark.filterwarnings("ignore:the recipe")
@pytest.mark.parametrize("name", ["fastwan-3step", "rcm"])
def test_what_a_mask_keeps_stays(plain: Pipeline, name: str) -> None:
    pipe = with_recipe(replace(plain, recipe=replace(plain.recipe, conditioners=(StartVideo(),))), name)
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    half = Mask(values=np.pad(np.full((1, 16, 8), 255, dtype=np.uint8), ((0, 0), (0, 0), (8, 0))))
    asked = pipe.request(PROMPTS[0], seed=1, inputs=named(video=InputVideo(frames=frames), mask=half))
    encoders = PartEncoders(pipe.parts, torch.device("cpu"), torch.float32)
    start = StartVideo().encode(asked.inputs, asked.video, encoders).constraints.init_latents
    latents = next(pipe.latents([asked], lambda progress: None))
    assert start is not None and latents.dtype == torch.float32
    columns = latents.shape[-1] // 2
    assert torch.equal(latents[..., : columns - 1], start[..., : columns - 1])
    assert not torch.equal(latents[..., columns:], start[..., columns:])
