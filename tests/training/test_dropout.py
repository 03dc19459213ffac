"""Dropout of inputs: what is drawn, and that a clip without an input is one that never had it, tensor by tensor."""

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
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import VideoSize, together
from kinoform.conditions.standard_inputs import FRAMES, MASK, VIDEO
from kinoform.datasets.clips import Clip
from kinoform.datasets.item import DatasetItem
from kinoform.datasets.read import read_sample
from kinoform.media.video import Video
from kinoform.pipelines.part_cache import PartEncoders
from kinoform.training.clip_cache import CacheSettings
from kinoform.training.clip_plan import ClipPlan
from kinoform.training.dropout import InputDropout, input_dropout_of
from kinoform.training.tuning_stage import AdapterStage
from tests.support.refusals import refused

CPU = torch.device("cpu")
COUNT, MINI = 4000, 16.0
ITEM = DatasetItem(name="clip", target=Path("clip.mkv"), caption="a ball")


def save_clip(folder: Path, *roles: str) -> Path:
    folder.mkdir()
    noise = np.random.default_rng(0)
    (folder / "clip.txt").write_text("a ball")
    for role in ("", ".source", ".mask"):
        pixels = noise.integers(0, 256, (9, 64, 64, 3 if role != ".mask" else 1), np.uint8).repeat(3, -1)[..., :3]
        if not role or role[1:] in roles:
            Video(frames=pixels, fps=MINI).save(folder / f"clip{role}.mkv")
    for role in ("first", "last", "reference"):
        pixels = noise.integers(0, 256, (64, 64, 3), np.uint8)
        if role in roles:
            Image.fromarray(pixels).save(folder / f"clip.{role}.png")
    return folder


def planned(folder: Path, model: str, **options: Any) -> tuple[Any, ClipPlan]:
    asked = ClipOptions(clip_frames="9", clip_size="64x64", no_cache=True, rank=2, caption_dropout=0.5, **options)
    return clip_plan(folder, ModelOptions(model=model), MachineOptions(dtype="float32"), asked, EngineOptions(), 1)


def batches(folder: Path, model: str, cache: Path | None = None, **options: Any) -> list[Any]:
    pipeline, plan = planned(folder, model, **options)
    plan = replace(plan.without_words, recipe=replace(plan.recipe, additions=None, negative_prompt=""))
    plan = plan if cache is None else replace(plan, cache=CacheSettings(folder=cache, dtype=torch.float32))
    parts = pipeline.parts
    examples = plan.examples(parts, CPU, lambda *stage: None)
    stage = AdapterStage(plan, parts.transformer(torch.float32, CPU), examples, base_hash="")
    return [stage.batch(step) for step in range(3)]


def flat(value: Any) -> list[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return [item for field in fields(value) for item in flat(getattr(value, field.name))]
    if isinstance(value, list | tuple):
        return [item for each in value for item in flat(each)]
    return [item for name in sorted(value) for item in flat(value[name])] if isinstance(value, dict) else [value]


def same(one: Any, other: Any) -> bool:
    left, right = flat(one), flat(other)
    if len(left) != len(right):
        return False
    pairs = zip(left, right, strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize(
    ("model", "given", "lost", "left"),
    [
        ("mini:frames", ("first", "last"), "first=1", ("last",)),
        ("mini:vace", ("source", "mask", "reference"), "references=1", ("source", "mask")),
        ("mini:vace", ("source", "mask", "reference"), "source=1", ("reference",)),
    ],
)
def test_a_clip_that_loses_an_input_is_one_that_never_had_it(
    tmp_path: Path, model: str, given: tuple[str, ...], lost: str, left: tuple[str, ...]
) -> None:
    every, few = save_clip(tmp_path / "every", *given), save_clip(tmp_path / "few", *left)
    assert same(batches(every, model, dropout=lost), batches(few, model))


def test_a_cache_holds_what_may_be_left_and_a_variant_is_what_a_request_without_the_input_is(tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "all", "source", "mask", "reference")
    inside = batches(folder, "mini:vace", dropout="source=0.5,references=0.5")
    assert same(batches(folder, "mini:vace", tmp_path / "cache", dropout="source=0.5,references=0.5"), inside)
    pipeline, plan = planned(folder, "mini:vace", dropout="references=0.5")
    (clip,) = plan.clips.clips
    assert plan.input_dropout is not None
    (variant,) = plan.input_dropout.variants(clip)
    examples = plan.examples(pipeline.parts, CPU, lambda *stage: None)
    asked = read_sample(clip, plan.recipe.conditioners).inputs
    request, encoders = (
        Inputs({VIDEO: asked[VIDEO], MASK: asked[MASK]}),
        PartEncoders(pipeline.parts, CPU, torch.float32),
    )
    expected = together(item.encode(request, clip.size, encoders) for item in plan.recipe.conditioners)
    whole, left = examples.encoded[clip], examples.encoded[variant]
    assert same(left.condition, expected) and not same(left.condition, whole.condition)
    assert left.latents.shape[1] == 0 and variant.key != clip.key
    assert {item.latents.shape[1] for step in range(9) for item in examples.draw(step, slice(0, 1))} == {3}


def test_each_input_is_lost_as_often_as_its_share_says_and_by_itself() -> None:
    lost = input_dropout_of("first=0.25, references=0.5").draw(COUNT, 1, 7)
    first, references = (np.array([role in roles for roles in lost]) for role in ("first", "references"))
    assert first.mean() == pytest.approx(0.25, abs=0.02) and references.mean() == pytest.approx(0.5, abs=0.02)
    assert (first & references).mean() == pytest.approx(0.125, abs=0.02)
    more = input_dropout_of("source=0.5,first=0.25").draw(COUNT, 1, 7)
    assert [("first" in roles) for roles in more] == first.tolist()
    assert input_dropout_of("first=0.25").draw(COUNT, 1, 8) != input_dropout_of("first=0.25").draw(COUNT, 1, 7)


CLIP = Clip(item=ITEM, start=0, size=VideoSize(num_frames=9, height=64, width=64), fps=16.0, hashes=("a",))
FREE = KnownFrames(required=False)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("frist=0.1", "unknown_name"),
        ("references=0.1", "unknown_name"),
        ("last=0.1", "pattern_matches_nothing"),
        ("first", "bad_value"),
        ("first=0.1,first=0.2", "bad_value"),
        ("first=1.5", "value_out_of_range"),
    ],
)
def test_what_cannot_be_left_out_is_refused(text: str, code: str) -> None:
    with refused(code):
        input_dropout_of(text).check([CLIP], (FREE,), (0,))


@pytest.mark.parametrize("item", [ITEM, replace(ITEM, first=Path("first.png"))])
def test_what_a_model_needs_is_not_left_out_and_frames_of_the_clip_are(item: DatasetItem) -> None:
    clip, dropout = replace(CLIP, item=item), InputDropout(shares=(("first", 0.5),))
    with refused("input_missing", "first"):
        dropout.check([clip], (KnownFrames(),), (0,))
    dropout.check([clip], (FREE,), (0,))
    assert [variant.lost for variant in dropout.variants(clip, (0,))] == [("first",)]


def test_a_clip_that_loses_its_own_first_frame_is_one_that_is_given_none(tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "clips")
    _, plan = planned(folder, "mini:frames")
    (clip,), lost = plan.clips.clips, CLIP.without(("first",), (0,)).lost
    shown, left = (read_sample(each, (FREE,), (0,)).inputs[FRAMES] for each in (clip, replace(clip, lost=lost)))
    assert list(shown) == [0] and not left
    assert plan.deciding["input_dropout"] is None  # so that a run of before goes on
    with refused("pattern_matches_nothing"):
        planned(folder, "mini:frames", dropout="first=0.1")
