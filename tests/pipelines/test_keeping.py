"""Parts that stay are loaded once and can do the same whoever asked for them first."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinoform.media.types import InputVideo
from kinoform.pipelines.part_cache import kept
from kinoform.pipelines.pipeline import Pipeline
from kinoform.solvers.field import StatefulField, stateful
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Scales
from kinoform.solvers.predictions import POSITIVE, Predict
from kinoform.types import Level
from tests.support.tiny_recipe import tiny_of_videos, tiny_pipeline

PROMPT = "a red ball"
CPU = torch.device("cpu")
CLIP = InputVideo(frames=np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8))


@pytest.fixture
def pipe(folder: Path) -> Pipeline:
    """Nothing of it is loaded yet."""
    return tiny_pipeline(folder, conditioners=tiny_of_videos().conditioners)


def words(pipe: Pipeline) -> None:
    pipe(PROMPT, seed=1)


def video(pipe: Pipeline) -> None:
    pipe(PROMPT, seed=1, video=CLIP)


def inside(pipe: Pipeline) -> None:
    with torch.inference_mode():
        pipe(PROMPT, seed=1, video=CLIP)


def one_part(pipe: Pipeline) -> None:
    with torch.inference_mode():
        pipe.parts.codec(CPU), pipe.parts.transformer(torch.float32, CPU), pipe.parts.text_encoder(torch.float32, CPU)


FIRST: dict[str, Callable[[Pipeline], None]] = {"nothing": lambda pipe: None} | {
    each.__name__: each for each in (words, video, inside, one_part)
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_gradients_pass_through_parts_whatever_was_made_first(
    pipe: Pipeline, first: Callable[[Pipeline], None]
) -> None:
    first(pipe)
    latents = torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    pixels, _ = pipe.parts.codec(CPU).decode(latents)
    pixels.square().mean().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0

    encoder, model = pipe.parts.text_encoder(torch.float32, CPU), pipe.parts.transformer(torch.float32, CPU)
    assert not any(each.is_inference() for part in (encoder, model) for each in part.parameters())
    for each in model.parameters():
        each.requires_grad_()
    asked = pipe.request(PROMPT, seed=1)
    rule = Steepest(weight=0.5)
    made = next(pipe.latents([replace(asked, guidance_rule=rule)], lambda progress: None))
    plain = next(pipe.latents([asked], lambda progress: None))
    assert not made.requires_grad and not torch.equal(made, plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steepest(PlainGuidance):
    """A rule of guidance that asks for the gradient of a velocity."""

    weight: float

    def guide(self, predict: Predict, scales: Scales, levels: tuple[Level, ...]) -> StatefulField:
        plain = PlainGuidance.guide(self, predict, scales, levels)

        def steered(x: Tensor, level: Level) -> Tensor:
            with torch.enable_grad():
                point = x.detach().requires_grad_()
                (slope,) = torch.autograd.grad(predict(point, level, [POSITIVE])[0].square().sum(), point)
            assert slope.abs().sum() > 0
            return plain(x, level) + self.weight * slope

        return stateful(steered)


def test_rules_of_guidance_may_take_gradients(pipe: Pipeline) -> None:
    plain, steered = (pipe(PROMPT, seed=1, guidance_rule=rule) for rule in (None, Steepest(weight=0.5)))
    assert not np.array_equal(plain.frames, steered.frames)


def test_threads_that_make_the_first_videos_load_each_part_once(pipe: Pipeline) -> None:
    loads: list[str] = []

    def slow(name: str) -> Callable[..., Any]:
        load = getattr(pipe.parts, name)

        def loading(*words: Any) -> Any:
            loads.append(name)
            sleep(0.05)
            return load(*words)

        return loading

    names = ("tokenizer", "text_encoder", "codec", "fingerprint")
    loaders: dict[str, Any] = {name: slow(name) for name in names} | {"transformers": (slow("transformer"),)}
    together = replace(pipe, parts=kept(replace(pipe.parts, **loaders)))
    start = Barrier(4)

    def make(seed: int) -> np.ndarray:
        start.wait(timeout=60)
        return together(PROMPT, seed=seed).frames

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(make, range(4)))
    assert sorted(loads) == sorted((*names, "transformer"))
    assert all(np.array_equal(frames, pipe(PROMPT, seed=seed).frames) for seed, frames in enumerate(made))
