"""Clips of a dataset by way of the cache: a training learns from it what it would learn from its memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinoform.cli.clip_options import ClipOptions, clip_plan
from kinoform.cli.engine_options import EngineOptions
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.training.clip_cache import CacheSettings
from kinoform.training.clip_plan import ClipPlan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, ClipPlan]:
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate(("ball", "star", "ring")):
        frames = np.random.default_rng(seed).integers(0, 256, (9, 48, 64, 3), np.uint8)
        Video(frames=frames, fps=8.0).save(folder / f"{name}.mkv")
        (folder / f"{name}.txt").write_text(f"a {name}")
    options = ClipOptions(clip_frames="9", clip_size="64x64", batch_size=2, no_cache=True)
    return clip_plan(folder, ModelOptions(), MachineOptions(), options, EngineOptions(), 1)


def test_a_cache_gives_the_examples_of_the_memory(planned: tuple[Pipeline, ClipPlan], tmp_path: Path) -> None:
    pipeline, plan = planned
    parts, told = pipeline.parts, list[tuple[str, int, int]]()
    inside = plan.examples(parts, CPU, lambda *stage: None)
    for dtype in (torch.float32, torch.bfloat16):
        settings = CacheSettings(folder=tmp_path / str(dtype), dtype=dtype)
        cached = replace(plan, cache=settings).examples(parts, CPU, lambda *stage: told.append(stage))
        for step in range(4):
            assert cached.names(step) == inside.names(step) and cached.count(step) == inside.count(step)
            for one, other in zip(cached.draw(step, slice(0, 2)), inside.draw(step, slice(0, 2)), strict=True):
                assert torch.equal(one.latents, other.latents.to(dtype).float())
                assert (one.name, one.prompt, one.condition) == (other.name, other.prompt, other.condition)
            prompts = [item.prompt for item in inside.draw(step, slice(0, 2))]
            assert torch.equal(cached.rows(prompts), inside.rows(prompts))
    assert ("clips", 3, 3) in told


def test_rounding_makes_another_training_and_float32_does_not(planned: tuple[Pipeline, ClipPlan]) -> None:
    _, plan = planned
    in_float32, rounded = (
        replace(plan, cache=CacheSettings(folder=Path("c"), dtype=dtype)).deciding
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert plan.deciding == in_float32 and plan.deciding["rounded"] is None and rounded["rounded"] == torch.bfloat16


def test_a_model_with_other_encoders_shares_no_cache(planned: tuple[Pipeline, ClipPlan], tmp_path: Path) -> None:
    pipeline, plan = planned
    cached = replace(plan, cache=CacheSettings(folder=tmp_path))
    cached.examples(pipeline.parts, CPU, lambda *stage: None)
    same = replace(pipeline.parts, fingerprint=lambda: "another transformer")
    other = replace(same, encoder_files={**same.encoder_files, "codec": same.encoder_files["text_encoder"]})
    assert not cached.filling(same, CacheSettings(folder=tmp_path), CPU).cache.stale()
    with pytest.warns(UserWarning, match="3 clips .* were encoded otherwise and are not read: codec: saved"):
        contents = cached.filling(other, CacheSettings(folder=tmp_path), CPU)
    assert len(contents.cache.missing(contents.keys)) == 3 and contents.cache.has_rows("a ball")


def test_a_shard_that_was_damaged_meanwhile_is_made_again(planned: tuple[Pipeline, ClipPlan], tmp_path: Path) -> None:
    pipeline, plan = planned
    cached = replace(plan, cache=CacheSettings(folder=tmp_path))
    before = cached.examples(pipeline.parts, CPU, lambda *stage: None).draw(0, slice(0, 2))
    (shard,) = tmp_path.glob("clips-*")
    content = bytearray(shard.read_bytes())
    content[-9] ^= 3
    shard.write_bytes(content)
    with pytest.warns(UserWarning, match="encoded again"):
        after = cached.examples(pipeline.parts, CPU, lambda *stage: None).draw(0, slice(0, 2))
    assert all(torch.equal(one.latents, other.latents) for one, other in zip(before, after, strict=True))
