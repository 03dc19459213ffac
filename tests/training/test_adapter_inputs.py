"""What an adapter learns from is what a request gives, tensor by tensor, when the same material is handed as files."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import kinoform
from kinoform.conditions.coerce import to_inputs
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import ConditionerOutput
from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, STANDARD_INPUTS, VIDEO
from kinoform.datasets.sample import Sample
from kinoform.loading.additions import with_additions
from kinoform.media.types import InputVideo
from kinoform.mini import plans
from kinoform.pipelines.generate import encode_inputs, encode_prompts
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from kinoform.training.adapter import AdapterPlan
from kinoform.training.examples import DrawnExamples
from kinoform.training.frozen import FrozenParts
from kinoform.training.tuning_stage import AdapterStage
from tests.support.narrowing import some
from tests.support.refusals import refused

PLANS = {
    plan.name: plan
    for plan in (
        plans.frames(),
        plans.vace(),
        plans.in_context_references(),
        plans.reference_context(),
        plans.reference_pseudo_words(),
    )
} | {"edits": plans.context()}
CPU = torch.device("cpu")
MACHINE = Machine(device=CPU, dtype=torch.float32)


@cache
def base() -> Pipeline:
    return kinoform.load("mini", device="cpu")


@cache
def plan_of(name: str) -> AdapterPlan:
    return replace(PLANS[name], batch=2, dropout=0.0, segment_dropout=0.0, precision=torch.float32)


@cache
def examples(name: str) -> DrawnExamples:
    parts = base().parts
    frozen = FrozenParts(
        codec=parts.codec(CPU), tokenizer=parts.tokenizer(), text_encoder=parts.text_encoder(torch.float32, CPU)
    )
    return plan_of(name).examples(frozen)


@cache
def stage(name: str) -> AdapterStage:
    parts = base().parts
    transformer = parts.transformer(torch.float32, CPU)
    return AdapterStage(plan_of(name), transformer, examples(name), base_hash=parts.fingerprint())


@cache
def samples(name: str) -> dict[tuple[str, ...], Sample]:
    """By what is given: the first of each kind in a batch. A sample of nothing is one whose inputs were left out."""
    plan, found = PLANS[name], {}
    for sample in plan.samples.draw(0, plan.batch, PLANS[name].video):
        found.setdefault(tuple(item.said for item in sample.inputs), sample)
    return found


def requested(name: str, sample: Sample, inputs: Inputs) -> Request:
    """A request of the recipe, with all of its checks."""
    recipe = PLANS[name].recipe
    parts = with_additions(base().parts, recipe.additions, base().recipe.transformers)
    return replace(base(), recipe=recipe, parts=parts).request(sample.prompt, seed=1, inputs=inputs)


def encoded(request: Request) -> ConditionerOutput:
    return encode_inputs(base().parts, [request], MACHINE, lambda progress: None)[0]


def test_every_way_in_is_drawn_and_left_out() -> None:
    taken = {"frames": {"frames"}, "vace": {"video", "mask", "references"}, "in_context": {"references"}}
    others = {"context": {"references"}, "pseudo_words": {"references"}, "edits": {"video", "references"}}
    for name, wanted in {**taken, **others}.items():
        assert set().union(*samples(name)) == wanted and () in samples(name)
    assert ("video", "references") in samples("edits")


@pytest.mark.parametrize("name", PLANS)
def test_a_training_sees_what_a_request_gives(name: str) -> None:
    """Of everything that is drawn, and of nothing where it was left out; the rows of the prompt too."""
    for kind, sample in samples(name).items():
        asked = requested(name, sample, as_arrays(sample.inputs))
        assert asked.video == PLANS[name].video, kind
        assert same(examples(name).condition(sample), encoded(asked)), kind
        rows = encode_prompts(base().parts, [asked], MACHINE, lambda progress: None)[0][0]
        assert torch.equal(examples(name).rows([sample.prompt]), rows), kind


@pytest.mark.parametrize("name", ["frames", "vace", "in_context"])
def test_a_training_sees_what_files_give(name: str, tmp_path: Path) -> None:
    sample = samples(name)[max(samples(name), key=len)]
    asked = requested(name, sample, from_files(sample.inputs, tmp_path))
    assert same(examples(name).condition(sample), encoded(asked))


@pytest.mark.parametrize("name", PLANS)
def test_a_batch_holds_each_sample_as_it_is_alone(name: str) -> None:
    """Groups of those that fill the same doors alike; nothing is lost between them."""
    trained, drawn = stage(name), PLANS[name].samples.draw(0, 2, PLANS[name].video)
    wanted = [list(doors(examples(name).condition(sample))) for sample in drawn]
    found = []
    for group in trained.batch(0):
        count = len(group.x)
        found += [[each[place : place + 1] for each in doors(group.condition)] for place in range(count)]
        assert group.share == count / 2
    assert len(found) == len(wanted) == 2
    for one in wanted:
        assert any(len(one) == len(other) and all(map(torch.equal, one, other)) for other in found)


def test_a_video_that_becomes_itself_is_detected() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
    with refused("sample_unchanged", "'a red ball'"):
        Sample(inputs=Inputs({VIDEO: InputVideo(frames=frames.copy())}), prompt="a red ball", video=frames)
    other = frames.copy()
    other[-1, -1, -1, -1] ^= 1
    assert Sample(inputs=Inputs({VIDEO: InputVideo(frames=other)}), prompt="a red ball", video=frames).video is frames


def doors(given: ConditionerOutput) -> Iterator[Tensor]:
    """All tensors that the transformer is given, in a fixed order."""
    named = [dict(sorted(given.context.items())), given.channels, dict(sorted(given.branches.items()))]
    yield from tensors([*named, given.segments])


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)
    elif is_dataclass(value):
        yield from tensors([getattr(value, each.name) for each in fields(value)])


def same(one: Any, other: Any) -> bool:
    """Whether two values are alike to the last bit, however deep."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)
        )
    return one == other


def as_arrays(inputs: Inputs) -> Inputs:
    given = {
        "frames": {place: image.pixels for place, image in inputs[FRAMES].items()},
        "video": None if inputs[VIDEO] is None else some(inputs[VIDEO]).frames,
        "mask": None if inputs[MASK] is None else some(inputs[MASK]).values,
        "reference_images": [each.pixels for each in inputs[REFERENCE_IMAGES]],
    }
    return to_inputs(STANDARD_INPUTS, given)


def from_files(inputs: Inputs, folder: Path) -> Inputs:
    """From png files; videos and masks from folders of them."""
    given = {
        "frames": {place: png(folder / f"frame{place}.png", image.pixels) for place, image in inputs[FRAMES].items()},
        "video": None if inputs[VIDEO] is None else pngs(folder / "video", some(inputs[VIDEO]).frames),
        "mask": None if inputs[MASK] is None else pngs(folder / "mask", some(inputs[MASK]).values),
        "reference_images": [
            png(folder / f"reference{n}.png", each.pixels) for n, each in enumerate(inputs[REFERENCE_IMAGES])
        ],
    }
    return to_inputs(STANDARD_INPUTS, given)


def pngs(folder: Path, frames: np.ndarray) -> Path:
    folder.mkdir()
    for place, frame in enumerate(frames):
        png(folder / f"{place}.png", frame)
    return folder


def png(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path
