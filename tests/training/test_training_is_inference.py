"""What a transformer is given while it learns from a clip is what generation gives it at the same level and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kinoform.cli.clip_options import ClipOptions, clip_plan
from kinoform.cli.engine_options import EngineOptions
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.conditions.coerce import to_inputs
from kinoform.conditions.protocols import read_options, together
from kinoform.conditions.standard_inputs import STANDARD_INPUTS
from kinoform.media.video import Video
from kinoform.models.dit import DiT, Prepared
from kinoform.pipelines.experts import in_memory
from kinoform.pipelines.generate import encode_inputs, encode_prompts, prepare_run
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.solvers.euler import Euler
from kinoform.solvers.level_grids import Listed
from kinoform.training.clip_plan import ClipPlan
from kinoform.training.collate import collate
from kinoform.training.tuning_stage import AdapterStage
from tests.support.official_folder import TRANSFORMERS, write_official_folder

CPU = torch.device("cpu")
FRAMES, SIDE = 5, 32
CLOSE = 2e-5
"""Greatest difference of two numbers of the same size: sums in another order, and a level in float32."""

WAYS = {
    "t2v": (),
    "i2v": ("first",),
    "flf2v": ("first", "last"),
    "vace": ("source", "mask", "reference", "reference.2"),
    "ti2v": ("first",),
    "mini-factorized": ("reference", "reference.2"),
    "mini:frames": ("first",),
    "mini:reference": ("reference",),
    "mini:vace": ("source", "mask"),
    "mini:context": ("source", "reference", "reference.2"),
}
"""Files beside a clip by model: a kind of official folder, or an embedded model."""


def write_clip(folder: Path, roles: tuple[str, ...], rate: float) -> Path:
    folder.mkdir()
    noise = np.random.default_rng(0)

    def pixels(*shape: int) -> np.ndarray:
        return noise.integers(0, 256, shape, np.uint8)

    (folder / "clip.txt").write_text("a red ball")
    clip = pixels(FRAMES, SIDE, SIDE, 3)
    Video(frames=clip, fps=rate).save(folder / "clip.mkv")
    for role in roles:
        if role == "source":
            Video(frames=pixels(FRAMES, SIDE, SIDE, 3), fps=rate).save(folder / "clip.source.mkv")
        elif role == "mask":
            Image.fromarray(255 * (pixels(SIDE, SIDE) > 127).astype(np.uint8)).save(folder / "clip.mask.png")
        elif role in ("first", "last"):
            Image.fromarray(clip[0 if role == "first" else -1]).save(folder / f"clip.{role}.png")
        else:
            Image.fromarray(pixels(SIDE, SIDE, 3)).save(folder / f"clip.{role}.png")
    return folder


def asked_for(folder: Path, roles: tuple[str, ...]) -> dict[str, object]:
    """Return the files of a clip as somebody names them who generates."""
    files: dict[str, Any] = {role: folder / f"clip.{role}.{'mkv' if role == 'source' else 'png'}" for role in roles}
    given: dict[str, object] = {}
    if frames := {place: files[role] for role, place in (("first", 0), ("last", FRAMES - 1)) if role in files}:
        given["frames"] = frames
    if "source" in files:
        given["video"] = files["source"]
    if "mask" in files:
        given["mask"] = files["mask"]
    if references := [files[role] for role in files if role.startswith("reference")]:
        given["reference_images"] = references
    return given


Seen = Mapping[str, Any]


def watched(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> Seen:
    """Return what the first call of a transformer is given: latents, timesteps, and all that was prepared."""
    seen: list[Seen] = []
    begin = DiT._begin  # pyright: ignore[reportPrivateUsage]

    def watch(model: DiT, x: Tensor, timesteps: Tensor, prepared: Prepared) -> Any:
        values = prepared._asdict()
        for own in ("blocks", "mesh", "grid"):
            values.pop(own)
        values["segments"] = [replace(item, group="") for item in prepared.segments]
        seen.append({"x": x, "timesteps": timesteps, "grid": prepared.grid, **values})
        return begin(model, x, timesteps, prepared)

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(DiT, "_begin", watch)
        work()
    return seen[0]


def learnt(pipeline: Pipeline, plan: ClipPlan, monkeypatch: pytest.MonkeyPatch) -> tuple[Seen, Tensor, Tensor, float]:
    """Return what a step of the training gives the transformer, its latents, its noise and its level."""
    examples = plan.examples(pipeline.parts, CPU, lambda *stage: None)
    recipe = replace(plan.recipe, additions=None)
    stage = AdapterStage(
        replace(plan, recipe=recipe), pipeline.parts.transformer(torch.float32, CPU), examples, base_hash=""
    )
    batch = stage.batch(0)
    seen = watched(monkeypatch, lambda: stage.loss(batch))
    ((group,), (example,)) = batch, examples.draw(0, slice(0, 1))
    before = collate([example.condition]).constraints.prefix_latents
    latents = example.latents[None].float()
    whole = latents if before is None else torch.cat([before, latents], dim=2)
    return seen, latents, group.target + whole, float(group.sigma)


def generated(
    pipeline: Pipeline, given: dict[str, object], latents: Tensor, noise: Tensor, sigma: float,
    monkeypatch: pytest.MonkeyPatch,
) -> Seen:  # fmt: skip
    """Return what a step of generation at a level gives the transformer, where a video is redone from there."""
    recipe, machine = pipeline.recipe, Machine(device=CPU, dtype=torch.float32)
    options = read_options(recipe.conditioners, fps=recipe.fps, num_frames=FRAMES)
    request = pipeline.request(
        "a red ball", seed=1, inputs=to_inputs(STANDARD_INPUTS, given, options), num_frames=FRAMES, width=SIDE,
        height=SIDE, steps=2, guidance_scale=1.0, shift=1.0, solver=Euler(exact_timesteps=True),
        level_grid=Listed(entries=(1000.0, 1000 * sigma)),
    )  # fmt: skip
    (rows,) = encode_prompts(pipeline.parts, [request], machine, lambda progress: None)
    (encoded,) = encode_inputs(pipeline.parts, [request], machine, lambda progress: None)
    assert encoded.constraints.init_latents is None
    begun = replace(encoded, constraints=replace(encoded.constraints, init_latents=latents, strength=0.5))
    model = pipeline.parts.transformer(torch.float32, CPU)
    run = prepare_run(in_memory(model), request, rows, lambda: noise, together([begun]))
    return watched(monkeypatch, lambda: next(iter(request.sampler.steps(run))))


def check_alike(one: Any, other: Any, where: str) -> None:
    if isinstance(one, Tensor):
        assert isinstance(other, Tensor) and one.shape == other.shape and one.dtype == other.dtype, where
        if one.dtype == torch.bool:
            assert torch.equal(one, other), where
        else:
            assert (one - other).abs().max() <= CLOSE * max(1.0, float(one.abs().max())), where
    elif isinstance(one, Mapping):
        assert one.keys() == other.keys(), where
        for name in one:
            check_alike(one[name], other[name], f"{where}.{name}")
    elif is_dataclass(one) and not isinstance(one, type):
        assert type(one) is type(other), where
        for item in fields(one):
            check_alike(getattr(one, item.name), getattr(other, item.name), f"{where}.{item.name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            check_alike(left, right, f"{where}.{number}")
    else:
        assert one == other, where


@pytest.mark.parametrize("name", WAYS)
def test_the_transformer_is_given_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = name
    if name in TRANSFORMERS:
        write_official_folder(tmp_path / "model", kind=name)
        model = str(tmp_path / "model")
    options = ClipOptions(
        clip_frames=str(FRAMES), clip_size=f"{SIDE}x{SIDE}", no_cache=True, rank=2, caption_dropout=0.0, batch_size=1
    )
    named, machine = ModelOptions(model=model), MachineOptions(dtype="float32")
    folder = write_clip(tmp_path / "clips", WAYS[name], named.load(machine).recipe.fps)
    pipeline, plan = clip_plan(folder, named, machine, options, EngineOptions(), 1)
    seen, latents, noise, sigma = learnt(pipeline, plan, monkeypatch)
    expected = generated(pipeline, asked_for(folder, WAYS[name]), latents, noise, sigma, monkeypatch)
    for key in seen:
        check_alike(seen[key], expected[key], key)
    assert seen["x"].std() > 0.1
