"""The pixel model of examples/ideas: no autoencoder is trained, saved or loaded; volumes of video are its tokens."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from kinoform.errors import UsageError
from kinoform.families.identify import inspect_path
from kinoform.loading.own import Modules, open_own, read_manifest, save_own
from kinoform.loading.parts import own_parts
from kinoform.loading.verify import verify_path
from kinoform.mini.training.plan import Plan, Trained, prepare_tokenizer, train_plan
from kinoform.mini.training.probe_loss import ProbeLoss
from kinoform.mini.training.transformer_stage import TransformerStage
from kinoform.models.codec import IdentityCodec
from kinoform.models.vae import VAESpec
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipes.load import load
from kinoform.training.frozen import FrozenParts
from kinoform.training.optimizer import Schedule
from kinoform.training.stage import RunOptions, TrainingSpec
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, write_tiny_folder

IDEAS = Path(__file__).parents[1] / "examples" / "ideas"
PROMPT = "a red ball moves left"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pixels() -> Iterator[ModuleType]:
    sys.path.insert(0, str(IDEAS))
    yield importlib.import_module("pixels")
    sys.path.remove(str(IDEAS))


def short(plan: Plan, steps: int = 3) -> Plan:
    def cut(training: TrainingSpec) -> TrainingSpec:
        return replace(training, schedule=Schedule(warmup=1, total=steps))

    return replace(
        plan,
        text_training=cut(plan.text_training),
        transformer=replace(plan.transformer, batch=2),
        transformer_training=cut(plan.transformer_training),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def trained(pixels: ModuleType, run: Path) -> Trained:
    return train_plan(short(pixels.plan()), run, RunOptions(show_progress=False))


@pytest.fixture(scope="module")
def folder(trained: Trained, run: Path) -> Path:
    modules = Modules(transformer=trained.transformer, autoencoder=trained.codec, text_encoder=trained.text_encoder)
    save_own(run / "model", modules, tokenizer_json=trained.tokenizer_json, recipe="pixels:recipe", made=trained.report)
    return run / "model"


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return load(folder, recipe="pixels:recipe", device="cpu")


def test_no_autoencoder_is_trained_or_saved(trained: Trained, folder: Path, run: Path) -> None:
    assert trained.codec is None and set(trained.report) == {"text_encoder", "transformer"}
    assert all(report["steps"] == 3 for report in trained.report.values())  # type: ignore[index]
    assert not (run / "autoencoder").exists()
    weights = {name for name in read_manifest(folder).parts if name.endswith(".safetensors")}
    assert weights == {"transformer.safetensors", "text_encoder.safetensors"}
    assert {part.part for part in inspect_path(folder)} == {"transformer", "text_encoder"}
    assert not verify_path(folder).faults


def test_it_makes_the_video_of_its_seed(pipe: Pipeline) -> None:
    video, again, other = (pipe(PROMPT, seed=seed, num_inference_steps=2) for seed in (1, 1, 2))
    assert video.frames.shape == (16, 32, 32, 3)
    assert np.array_equal(video.frames, again.frames) and not np.array_equal(video.frames, other.frames)


def test_it_learns_to_denoise_pixels(pixels: ModuleType, tmp_path: Path) -> None:
    plan: Plan = pixels.plan()
    frozen = FrozenParts(
        codec=plan.recipe.codec.build(),
        tokenizer=prepare_tokenizer(plan, tmp_path),
        text_encoder=plan.recipe.text.build().eval(),
    )
    alone = ProbeLoss(layer=0, cover=0.0, answers=0.0)
    stage = TransformerStage(replace(plan.transformer, batch=4, probe_loss=alone), frozen)
    batches = [stage.batch(step) for step in range(4)]
    for batch in batches:
        assert torch.equal(batch.x0.abs().clamp(max=1), batch.x0.abs()) and batch.x0.shape == (4, 3, 16, 32, 32)
    optimizer = torch.optim.Adam(stage.modules().parameters(), 3e-3)
    losses = []
    for step in range(24):
        loss = stage.loss(batches[step % len(batches)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_what_is_denoised_are_the_pixels(pipe: Pipeline) -> None:
    asked = pipe.request(PROMPT, seed=1, steps=1)
    found = next(pipe.latents([asked], lambda progress: None))
    assert found.shape == (1, 3, 16, 32, 32)
    frames = pipe.frames(torch.linspace(-1, 1, found.numel()).reshape(found.shape), lambda progress: None)
    assert frames[0, 0, 0, 0] == 0 and frames[-1, -1, -1, -1] == 255


def test_tokens_are_volumes_of_four_frames_and_eight_pixels(pipe: Pipeline) -> None:
    model = pipe.parts.transformer(torch.float32, CPU)
    assert model.patch_embedding.weight.shape[1:] == (3, 4, 8, 8)
    seen: list[tuple[int, ...]] = []
    hook = model.head.register_forward_hook(lambda head, args, out: seen.append(tuple(out.shape)))
    pipe(PROMPT, seed=1, num_inference_steps=1, num_frames=8, width=24, height=16, guidance_scale=1.0)
    hook.remove()
    assert set(seen) == {(1, 8 // 4 * (16 // 8) * (24 // 8), 4 * 8 * 8 * 3)}


@pytest.mark.parametrize(
    ("change", "near"),
    [({"num_frames": 17}, "16 and 20"), ({"num_frames": 1}, "4"), ({"width": 30}, "24 and 32"), ({"height": 7}, "8")],
)
def test_sizes_that_the_volumes_do_not_divide_are_told_the_nearest(
    pipe: Pipeline, change: dict[str, int], near: str
) -> None:
    with pytest.raises(UsageError) as caught:
        pipe.request(PROMPT, seed=1, **change)
    assert str(caught.value).endswith(f" {near}")


def test_a_codec_and_its_file_belong_together(folder: Path, pipe: Pipeline, tmp_path: Path) -> None:
    spec, text = pipe.recipe.transformer, pipe.recipe.text
    with refused("recipe_contradicts_weights"):
        own_parts(open_own(folder), (spec,), VAESpec(channels=3), text)
    other, made = write_tiny_folder(tmp_path / "tiny"), tiny()
    with refused("recipe_contradicts_weights"):
        own_parts(open_own(other), (made.transformer,), IdentityCodec(), made.text)
    with refused("parts_mismatch", "4", "3"):
        own_parts(open_own(folder), (made.transformer,), IdentityCodec(), text)


def test_a_plan_trains_an_autoencoder_exactly_where_there_is_one(pixels: ModuleType) -> None:
    plan: Plan = pixels.plan()
    with refused("plan_invalid", "autoencoder_training"):
        replace(plan, autoencoder_training=plan.text_training)
    with refused("plan_invalid"):
        replace(plan, recipe=replace(plan.recipe, codec=VAESpec()))
