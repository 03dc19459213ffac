"""Parts are in memory one after the other, each does only what is needed, and numbers that fail are named."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import SOURCE_PROMPT, VIDEO
from kinoform.conditions.video_to_video import StartVideo
from kinoform.loading.own import open_own
from kinoform.loading.parts import own_parts
from kinoform.media.types import InputVideo
from kinoform.pipelines import generate
from kinoform.pipelines.fit import sizes_of, workload_of
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.plan.video_plan import plan_video
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.guidance.interval import Interval
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Scales
from kinoform.solvers.guidance.skip_layers import SkipNegativeLayers
from kinoform.solvers.guidance.zero_star import ZeroStar
from kinoform.solvers.predictions import POSITIVE, Prediction
from kinoform.types import Level
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny

PROMPT = "a red ball"
HERE = Machine(device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture
def fresh(folder: Path) -> Pipeline:
    """A pipeline that loads its parts anew each time, as those of large models are."""
    recipe = tiny()
    return Pipeline(
        recipe=recipe, parts=own_parts(open_own(folder), (recipe.transformer,), recipe.codec, recipe.text), machine=HERE
    )


def with_transformer(pipe: Pipeline, change: Callable[[Any], None]) -> Pipeline:
    """The pipeline whose transformer passes through `change` after it is loaded."""

    def load(dtype: torch.dtype, device: torch.device) -> Any:
        model = pipe.parts.transformer(dtype, device)
        change(model)
        return model

    return replace(pipe, parts=replace(pipe.parts, transformers=(load,)))


def test_only_one_network_is_in_memory_at_a_time(fresh: Pipeline) -> None:
    loaded: list[tuple[str, weakref.ref]] = []
    beside: list[list[str]] = []

    def watched(name: str) -> Callable[..., Any]:
        load = getattr(fresh.parts, name)

        def loading(*words: Any) -> Any:
            beside.append([earlier for earlier, part in loaded if part() is not None])
            part = load(*words)
            loaded.append((name, weakref.ref(part)))
            return part

        return loading

    parts = replace(
        fresh.parts,
        text_encoder=watched("text_encoder"), transformers=(watched("transformer"),), codec=watched("codec"),
    )  # fmt: skip
    watching = replace(fresh, parts=parts)
    asked = [watching.request(PROMPT, seed=seed) for seed in (1, 2)]
    for each, latents in zip(asked, watching.latents(asked, lambda progress: None), strict=True):
        watching.video(each, latents, lambda progress: None)
    assert [name for name, _ in loaded] == ["text_encoder", "transformer", "codec", "codec"]
    assert beside == [[], [], ["transformer"], []], "the transformer stays for the second video, and for no longer"


@pytest.mark.parametrize(("guidance_scale", "branches"), [(1.0, 1), (0.0, 1), (4.0, 2)])
def test_guidance_1_evaluates_the_prompt_alone(fresh: Pipeline, guidance_scale: float, branches: int) -> None:
    calls = []

    def count(model: Any) -> None:
        model.head.register_forward_hook(lambda *_: calls.append(1))

    with_transformer(fresh, count)(PROMPT, seed=1, num_inference_steps=3, guidance_scale=guidance_scale)
    assert len(calls) == 3 * branches


@dataclass(frozen=True)
class Lying(PlainGuidance):
    """A rule that says that it does not read the negative prompt, and reads it."""

    def predictions(self, scales: Scales, levels: tuple[Level, ...]) -> frozenset[Prediction]:
        return frozenset({POSITIVE})


CLIP = InputVideo(frames=np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8))
FROM = {"inputs": Inputs({VIDEO: CLIP, SOURCE_PROMPT: "a blue cat"})}
READ = [
    ({"guidance_scale": 4.0}, 2, 2),
    ({"guidance_scale": 1.0}, 1, 1),
    ({"guidance_scale": 0.0}, 2, 1),
    ({"guidance_scale": 1.0, "guidance_rule": ZeroStar()}, 1, 1),
    ({"guidance_scale": 1.0, "guidance_rule": Interval(low=0.2)}, 1, 1),
    ({"guidance_scale": 4.0, "guidance_rule": Interval(low=0.2)}, 2, 2),
    ({"guidance_scale": 4.0, "guidance_rule": Interval(low=0.9999)}, 1, 1),
    ({"guidance_scale": 1.0, **FROM}, 3, 3),
    ({"guidance_scale": 1.0, "sampler": FlowEdit(source_guidance=1.0), **FROM}, 2, 2),
    ({"guidance_scale": 4.0, "sampler": FlowEdit(source_guidance=1.0), **FROM}, 3, 3),
]
"""Changes of a request, the texts that are encoded for it, and the conditions that are prepared."""


@pytest.mark.parametrize(("changes", "texts", "prepared"), READ, ids=lambda each: str(each)[:40])
def test_the_negative_prompt_is_encoded_and_prepared_only_where_it_is_read(
    fresh: Pipeline, monkeypatch: pytest.MonkeyPatch, changes: dict, texts: int, prepared: int
) -> None:
    calls: list[str] = []

    def watched(name: str, method: str) -> Callable[..., Any]:
        load = getattr(fresh.parts, name)

        def loading(dtype: torch.dtype, device: torch.device) -> Any:
            part = load(dtype, device)
            call = getattr(part, method)
            monkeypatch.setattr(
                part, method, lambda *words, **named: (calls.append(name), call(*words, **named))[1], raising=False
            )
            return part

        return loading

    parts = replace(
        fresh.parts, text_encoder=watched("text_encoder", "forward"), transformers=(watched("transformer", "prepare"),)
    )
    watching = replace(fresh, parts=parts, recipe=replace(fresh.recipe, conditioners=(StartVideo(),)))
    asked = watching.request(PROMPT, seed=1, **changes)
    next(watching.latents([asked], lambda progress: None))
    assert (calls.count("text_encoder"), calls.count("transformer")) == (texts, prepared)
    plan = plan_video(sizes_of(fresh.parts), workload_of(asked), dtype=torch.float32, device="cpu")
    (asked_of_one,) = plan.asked
    together = asked_of_one.together
    assert plan.workload.prompts == texts and sum(together.prepared.values()) == prepared


def test_layers_that_are_not_there_are_refused_before_anything_is_read(fresh: Pipeline) -> None:
    with refused("layer_missing"):
        fresh.request(PROMPT, seed=1, guidance_scale=4.0, guidance_rule=SkipNegativeLayers(layers=(99,)))


def test_a_rule_that_reads_what_it_says_it_does_not_is_refused(fresh: Pipeline) -> None:
    with refused("negative_prompt_unread"):
        fresh(PROMPT, seed=1, guidance_scale=4.0, guidance_rule=Lying())


def test_each_text_is_encoded_once(fresh: Pipeline) -> None:
    calls = []

    def load(dtype: torch.dtype, device: torch.device) -> Any:
        encoder = fresh.parts.text_encoder(dtype, device)
        encoder.register_forward_hook(lambda *_: calls.append(1))
        return encoder

    counting = replace(fresh, parts=replace(fresh.parts, text_encoder=load))
    asked = [counting.request(PROMPT, seed=seed) for seed in range(5)]
    generate.encode_prompts(counting.parts, asked, HERE, lambda progress: None)
    assert len(calls) == 2, "the prompt and the negative prompt"


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_fail_are_named_with_their_step(fresh: Pipeline, step: int, value: float) -> None:
    calls = []

    def spoil(model: Any) -> None:
        def spoiled(module: Any, given: Any, found: torch.Tensor) -> torch.Tensor | None:
            calls.append(1)
            return torch.full_like(found, value) if len(calls) == step else None

        model.head.register_forward_hook(spoiled)

    with refused("not_finite", f"{step} of 4"):
        with_transformer(fresh, spoil)(PROMPT, seed=1, num_inference_steps=4, guidance_scale=1.0)
    assert len(calls) == step, "nothing is computed on"


def test_weights_that_go_bad_after_loading_make_no_video(pipe: Pipeline, folder: Path) -> None:
    broken = replace(pipe, parts=replace(pipe.parts, transformers=(lambda *_: model,)))
    model = own_parts(open_own(folder), (pipe.recipe.transformer,), pipe.recipe.codec, pipe.recipe.text).transformer(
        torch.float32, HERE.device
    )
    broken(PROMPT, seed=1)
    model.head.linear.weight.data[0, 0] = torch.nan
    with refused("not_finite", "1 of 3"):
        broken(PROMPT, seed=1)


def test_frames_that_are_no_numbers_make_no_video(fresh: Pipeline) -> None:
    def load(device: torch.device) -> Any:
        codec: Any = fresh.parts.codec(device)
        codec.expand.bias.data[:] = torch.nan
        return codec

    with refused("not_finite", "1 of 2"):
        replace(fresh, parts=replace(fresh.parts, codec=load))(PROMPT, seed=1)


OUT_OF_MEMORY = [
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("part", ["text_encoder", "transformers", "codec"])
def test_running_out_of_memory_is_explained(fresh: Pipeline, part: str, error: Exception) -> None:
    def load(*words: Any) -> Any:
        raise error

    with refused("out_of_memory") as caught:
        loaders: Any = (load,) if part == "transformers" else load
        replace(fresh, parts=replace(fresh.parts, **{part: loaders}))(PROMPT, seed=1)
    assert ("--dtype" in str(caught.value)) == (part != "codec"), "which is float32 whatever the dtype"


def test_other_errors_are_not_taken_for_a_lack_of_memory(fresh: Pipeline) -> None:
    def load(*words: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        replace(fresh, parts=replace(fresh.parts, transformers=(load,)))(PROMPT, seed=1)


def test_a_batch_makes_the_videos_that_are_made_alone(pipe: Pipeline) -> None:
    words = ("a red ball", "a blue cat moves left", "a red ball")
    asked = [pipe.request(prompt, seed=seed) for seed, prompt in enumerate(words)]
    together = list(pipe.latents(asked, lambda progress: None))
    for request, latents in zip(asked, together, strict=True):
        alone = next(pipe.latents([request], lambda progress: None))
        assert torch.equal(latents, alone)
    assert not torch.equal(together[0], together[2])
