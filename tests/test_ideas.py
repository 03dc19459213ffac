"""The ideas outside the package: each runs from its own folder, begins as the base, and trains what it names."""

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import kinoform
from kinoform.conditions.inputs import NO_INPUTS, Inputs
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES, VIDEO
from kinoform.loading.additions import with_additions
from kinoform.media.types import InputImage, InputVideo
from kinoform.media.video import Video
from kinoform.models.dit import DiT
from kinoform.models.lora import adapters_of
from kinoform.ops.patch import grid_of
from kinoform.pipelines.part_cache import PartEncoders
from kinoform.pipelines.pipeline import Pipeline
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, tiny_pipeline, write_tiny_folder

IDEAS = Path(__file__).parents[1] / "examples" / "ideas"
NAMES = ("depth_control", "reference_branch")
PROMPT = "a red ball moves left"
CPU = torch.device("cpu")


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


INPUTS = {
    "depth_control": Inputs({VIDEO: InputVideo(frames=noise(1, 6, 20, 40, 3))}),
    "reference_branch": Inputs(
        {REFERENCE_IMAGES: (InputImage(pixels=noise(2, 30, 10, 3)), InputImage(pixels=noise(3, 9, 9, 3)))}
    ),
}


@pytest.fixture(params=NAMES)
def idea(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(IDEAS))
    return importlib.import_module(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


def on_tiny(idea: ModuleType, folder: Path) -> Pipeline:
    made, pipe = idea.put_onto(tiny()), tiny_pipeline(folder)
    return replace(pipe, recipe=made, parts=with_additions(pipe.parts, made.additions, made.transformers))


def latents(pipe: Pipeline, inputs: Inputs = NO_INPUTS, seed: int = 7) -> Tensor:
    asked = pipe.request(PROMPT, seed=seed, inputs=inputs)
    return next(pipe.latents([asked], lambda progress: None))


@pytest.fixture(scope="module")
def base_video() -> Video:
    pipe = kinoform.load("mini", device="cpu")
    return pipe(PROMPT, seed=3, num_inference_steps=1, num_frames=5, width=32, height=32)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_its_first_lines_say(name: str, tmp_path: Path, base_video: Video) -> None:
    """From its folder, with the embedded model; untrained, it makes the videos of that model."""
    words = ["--recipe", f"{name}:recipe", "--seed", "3", "--steps", "1", "--frames", "5", "--size", "32x32",
             "-o", f"{tmp_path}/video/"]  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-m", "kinoform", "generate", PROMPT, *words],
        cwd=IDEAS, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for place, frame in enumerate(base_video.frames):
        shown = np.asarray(Image.open(tmp_path / "video" / f"frame_{place:05d}.png"))[::4, ::4]
        # Another process may use another number of threads, whose sums differ in the last bit.
        assert np.abs(shown.astype(int) - frame).max() <= 1


def test_the_recipes_are_complete(idea: ModuleType) -> None:
    for made in (idea.recipe(), idea.wan()):
        assert made.additions is not None
        spec = made.additions.to(made.transformer)
        with torch.device("meta"):
            names = [name for name, _ in spec.build().named_parameters()]
        for pattern in idea.LEARNS:
            assert any(fnmatchcase(name, pattern) for name in names)


def test_step_0_is_the_base_bit_for_bit(idea: ModuleType, folder: Path) -> None:
    """A whole video, with guidance, whatever it is shown."""
    wide, base = on_tiny(idea, folder), tiny_pipeline(folder)
    for inputs in (NO_INPUTS, INPUTS[idea.__name__]):
        assert torch.equal(latents(wide, inputs), latents(base))


def test_one_step_of_training_changes_what_it_names_and_nothing_else(idea: ModuleType, folder: Path) -> None:
    pipe, inputs = on_tiny(idea, folder), INPUTS[idea.__name__]
    model = pipe.parts.transformer(torch.float32, CPU)
    assert pipe.recipe.additions is not None
    learning = pipe.recipe.additions.mark_trainable(model)
    named = {name for name, _ in model.named_parameters() if any(fnmatchcase(name, p) for p in idea.LEARNS)}
    assert learning and named == set(learning)
    assert_learns(pipe, model, learning, inputs)
    trained = replace(pipe, parts=replace(pipe.parts, transformers=(lambda dtype, device: model,)))
    with torch.no_grad():
        assert not torch.equal(latents(trained, inputs), latents(tiny_pipeline(folder)))


def test_adapters_learn_beside_what_was_added_and_nothing_else_does(idea: ModuleType, folder: Path) -> None:
    pipe, inputs = on_tiny(idea, folder), INPUTS[idea.__name__]
    assert pipe.recipe.additions is not None
    base, generator = pipe.parts.transformer(torch.float32, CPU), torch.Generator().manual_seed(0)
    model, learning = pipe.recipe.additions.trainable(base, idea.ADAPTERS, generator, name=idea.NAME)
    shown = replace(pipe, parts=replace(pipe.parts, transformers=(lambda dtype, device: model,)))
    with torch.no_grad():
        assert torch.allclose(latents(shown, inputs), latents(tiny_pipeline(folder)), atol=1e-5)
    matrices = adapters_of(model)[idea.NAME].values()
    added = {name for name in learning if any(fnmatchcase(name, p) for p in idea.LEARNS)}
    assert added and len(learning) == len(added) + 2 * len(matrices) > len(added)
    changed = assert_learns(pipe, model, learning, inputs)
    assert changed & added and changed - added


def assert_learns(pipe: Pipeline, model: DiT, learning: dict[str, nn.Parameter], inputs: Inputs) -> set[str]:
    """Two steps of training give gradients to `learning` alone; the names of what has changed."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    video = pipe.request(PROMPT, seed=1, inputs=inputs).video
    (conditioner,) = pipe.recipe.conditioners
    given = conditioner.encode(inputs, video, PartEncoders(pipe.parts, CPU, torch.float32))
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(1, 4, 2, 8, 8, generator=generator) for _ in range(2))
    told = given.conditions(torch.randn(1, 8, 16, generator=generator))
    optimizer = torch.optim.SGD(learning.values(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        prepared = model.prepare(told, grid_of(x0, model.spec.patch))
        velocity = model(0.5 * x0 + 0.5 * eps, torch.tensor([500.0]), prepared)
        (velocity - (eps - x0)).square().mean().backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == (name in learning), name
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and changed <= set(learning)
    first = model.spec.out_channels
    assert torch.equal(model.patch_embedding.weight[:, :first], before["patch_embedding.weight"][:, :first])
    return changed


def test_a_depth_video_that_is_too_short_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(IDEAS))
    pipe = on_tiny(importlib.import_module("depth_control"), folder)
    with refused("usage", "2 frames"):
        pipe.request(PROMPT, seed=1, inputs=Inputs({VIDEO: InputVideo(frames=noise(1, 2, 16, 16, 3))}))
