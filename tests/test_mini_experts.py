"""Two experts of the embedded model's size, from one adapter file to a video: each makes its own steps alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.conversion.convert import convert_lora
from kinoform.families.identify import inspect_path
from kinoform.loading.lora import save_lora
from kinoform.mini.experts_recipe import BOUNDARY, mini_experts
from kinoform.mini.recipe import mini
from kinoform.models.dit import DiT
from kinoform.models.lora import LoRASpec, adapters_of, attach, bare, merge
from kinoform.pipelines.fit import sizes_of, workload_of
from kinoform.pipelines.generate import Progress, encode_prompts, noise_of, silent, text_field
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.plan.transformer import transformer_count
from kinoform.plan.video_plan import plan_video
from kinoform.recipes.load import load
from kinoform.solvers.base import sample, velocity_at
from kinoform.types import Level
from tests.support.expert_recipes import ADDRESS, CPU, changed, write_experts
from tests.support.refusals import refused

PROMPT = "a red ball bounces on a blue background"
HERE = Machine(device=CPU, dtype=torch.float32)
STEPS = 8
"""Numbers of steps of which each expert makes half."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experts(tmp_path_factory.mktemp("experts") / "experts.safetensors")


@pytest.fixture(scope="module")
def pipe(file: Path) -> Pipeline:
    return load(file, recipe=ADDRESS, device="cpu")


@pytest.fixture(scope="module")
def plain(pipe: Pipeline) -> list[Tensor]:
    return predicted(pipe)


@pytest.fixture(scope="module")
def base() -> DiT:
    return load("mini", device="cpu").parts.transformer(torch.float32, CPU)


def predicted(pipe: Pipeline, **changes: Any) -> list[Tensor]:
    """The latents that each step predicts."""
    heard: list[Progress] = []
    asked = pipe.request(PROMPT, seed=3, steps=STEPS, **changes)
    list(pipe.latents([asked], heard.append))
    return [progress.x0 for progress in heard if progress.stage == "denoise" and progress.x0 is not None]


def equal(one: list[Tensor], two: list[Tensor]) -> list[bool]:
    return [torch.equal(*pair) for pair in zip(one, two, strict=True)]


def by_hand(pipe: Pipeline, models: tuple[DiT, DiT], scales: tuple[float, float]) -> Tensor:
    """Latents by a loop over the models with their changes merged, each for its range of timesteps."""
    asked = pipe.request(PROMPT, seed=3, steps=STEPS)
    (rows,) = encode_prompts(pipe.parts, [asked], HERE, silent)
    noise, levels = noise_of(pipe.parts.codec_spec, asked)(), asked.solver.levels(STEPS, asked.shift)
    with torch.no_grad():
        high, low = (text_field(model, rows[:2], noise, scale) for model, scale in zip(models, scales, strict=True))

        def velocity(x: Tensor, level: Level) -> Tensor:
            return velocity_at(x, high if level.timestep >= 1000 * BOUNDARY else low, level)

        *_, last = sample(asked.solver, velocity, noise, levels)
    return last.x


def merged(base: DiT, seed: int) -> DiT:
    model = changed(base, seed)
    merge(model)
    return bare(model)


def test_each_expert_makes_half_of_the_steps_fast_or_not() -> None:
    made = mini_experts()
    assert made.fast_steps is not None and isinstance(made.shift, float)
    for count in (made.steps, made.fast_steps):
        above = [level.timestep >= 1000 * BOUNDARY for level in made.solver.levels(count, made.shift)[:-1]]
        assert above == [True] * (count // 2) + [False] * (count // 2)


def test_a_video_is_that_of_the_two_merged_by_hand(pipe: Pipeline, base: DiT) -> None:
    high, low, scale = merged(base, 1), merged(base, 2), pipe.recipe.guidance_scale
    assert isinstance(scale, float)
    found = next(pipe.latents([pipe.request(PROMPT, seed=3, steps=STEPS)], silent))
    assert torch.equal(found, by_hand(pipe, (high, low), (scale, scale)))
    assert not torch.equal(found, by_hand(pipe, (low, high), (scale, scale)))


def test_guidance_of_one_expert_changes_its_steps_alone(pipe: Pipeline, base: DiT, plain: list[Tensor]) -> None:
    same, other = ({"high": 2.5, "low": low} for low in (2.5, 1.0))
    assert all(equal(plain, predicted(pipe, guidance_scale=same)))
    assert equal(plain, predicted(pipe, guidance_scale=other)) == [True] * 4 + [False] * 4
    latents = next(pipe.latents([pipe.request(PROMPT, seed=3, steps=STEPS, guidance_scale=other)], silent))
    assert torch.equal(latents, by_hand(pipe, (merged(base, 1), merged(base, 2)), (2.5, 1.0)))


@pytest.mark.parametrize(
    ("strength", "differ"),
    [({"low": 1.0}, 4), ({"high": 1.0}, 8)],
    ids=["on low", "on high"],
)
def test_a_lora_on_one_expert_changes_its_steps_alone(
    pipe: Pipeline,
    base: DiT,
    file: Path,
    plain: list[Tensor],
    tmp_path: Path,
    strength: Mapping[str, float],
    differ: int,
) -> None:
    """A LoRA on `high` changes all steps, since low noise goes on from what high noise decided."""
    generator, path = torch.Generator().manual_seed(5), tmp_path / "style.safetensors"
    model = attach(base, LoRASpec(patterns=("feed_forward.*",), rank=2), generator=generator)
    for adapter in adapters_of(model)["lora"].values():
        adapter.up.data = 0.02 * torch.randn(adapter.up.shape, generator=generator)
    save_lora(path, model)
    worn = load(file, recipe=ADDRESS, loras=[(path, strength)], device="cpu")
    assert equal(plain, predicted(worn)) == [True] * (STEPS - differ) + [False] * differ
    found, without = (
        [dict(read(torch.float32, CPU).named_parameters()) for read in each.parts.transformers] for each in (worn, pipe)
    )
    adapted = [values.keys() != usual.keys() for values, usual in zip(found, without, strict=True)]
    assert adapted == ["high" in strength, "low" in strength]


def rewritten(file: Path, path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """The file with other tensors under the same header."""
    with safe_open(file, "pt") as opened:
        save_file(dict(tensors), path, metadata=opened.metadata())
    return path


def test_an_expert_without_changes_is_the_base(file: Path, base: DiT, tmp_path: Path) -> None:
    only_high = {name: value for name, value in load_file(file).items() if name.startswith("high.")}
    path = rewritten(file, tmp_path / "high.safetensors", only_high)
    high, low = (
        dict(read(torch.float32, CPU).named_parameters())
        for read in load(path, recipe=ADDRESS, device="cpu").parts.transformers
    )
    plain = dict(base.named_parameters())
    assert all(torch.equal(low[name], value) for name, value in plain.items())
    assert not all(torch.equal(high[name], value) for name, value in plain.items())


def test_a_file_of_experts_is_for_a_recipe_of_experts(file: Path, tmp_path: Path) -> None:
    with refused("adapter_wrong_recipe", "high."):
        load(file, recipe="kinoform.mini.recipe:mini", device="cpu")
    tensors = load_file(file)
    alone = {name.removeprefix("high."): value.clone() for name, value in tensors.items() if name.startswith("high.")}
    for number, wrong in enumerate((alone, tensors | alone)):
        path = rewritten(file, tmp_path / f"{number}.safetensors", wrong)
        with refused("adapter_wrong_recipe", "high, low"):
            load(path, recipe=ADDRESS, device="cpu")


def test_it_is_known_and_stays_an_adapter(file: Path, tmp_path: Path) -> None:
    (found,) = inspect_path(file)
    assert found.sizes["experts"] == 2 and found.sizes["changed"] == 2 * 3 * mini().transformer.layers
    with refused("adapter_not_lora", "high and low"):
        convert_lora(file, tmp_path / "lora.safetensors", "diffusers")


def test_the_plan_counts_both_for_their_own_steps(pipe: Pipeline) -> None:
    asked = pipe.request(PROMPT, seed=3, steps=STEPS, guidance_scale={"high": 2.5, "low": 1.0})
    plan = plan_video(sizes_of(pipe.parts), workload_of(asked), dtype=torch.float32, device="cpu")
    assert [(each.together.of_forwards(2), each.together.of_forwards(1)) for each in plan.asked] == [(4, 0), (0, 4)]
    assert plan.parameters["transformer"].parameters == 2 * transformer_count(mini().transformer).parameters
