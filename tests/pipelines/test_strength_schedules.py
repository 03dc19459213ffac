"""A LoRA whose strength changes during a run: absent where it is 0, alone in what it changes, and recorded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoform.loading.lora import with_loras
from kinoform.loading.own import open_own
from kinoform.loading.parts import Parts, own_parts
from kinoform.models.dit import DiT
from kinoform.pipelines.experts import Experts
from kinoform.pipelines.generate import Progress, encode_prompts, noise_of, prepare_run, text_field
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from kinoform.solvers.base import Solver, Step, sample
from kinoform.solvers.by_expert import PerExpert, read_written
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.experts import switched
from kinoform.solvers.unipc import UniPC
from kinoform.types import Level
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, tiny_of_two, write_tiny_folder

PROMPT, CPU = "a red ball", torch.device("cpu")
HERE = Machine(device=CPU, dtype=torch.float32)


def quiet(progress: Progress) -> None: ...


def strength(text: str) -> PerExpert:
    return read_written("strength", text)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Parts, Parts]:
    """The parts of two models of other weights."""
    made, root = tiny(), tmp_path_factory.mktemp("plain")
    folders = [write_tiny_folder(root / str(seed), seed=seed) for seed in (0, 1)]
    first, second = (own_parts(open_own(folder), (made.transformer,), made.codec, made.text) for folder in folders)
    return first, second


def lora(folder: Path, seed: int = 0) -> Path:
    """A file that changes two layers; q of the prompt's attention is read in each step, k and v are prepared."""
    dim, draw, path = tiny().transformer.dim, torch.Generator().manual_seed(seed), folder / f"style{seed}.safetensors"
    matrices: dict[str, Tensor] = {}
    for layer in ("self_attn.q", "cross_attn.k", "cross_attn.v"):
        for letter, shape in (("A", (2, dim)), ("B", (dim, 2))):
            values = 0.2 * torch.randn(*shape, generator=draw)
            matrices[f"diffusion_model.blocks.0.{layer}.lora_{letter}.weight"] = values
    save_file(matrices, path)
    return path


def one(parts: Parts, path: Path | None = None, value: Any = 1.0, **changes: Any) -> Pipeline:
    adapted = parts if path is None else with_loras(parts, [(path, value)], lambda line: None)
    return Pipeline(recipe=replace(tiny(), steps=6, **changes), parts=adapted, machine=HERE)


def steps_of(pipe: Pipeline, asked: Request) -> list[Step]:
    (rows,) = encode_prompts(pipe.parts, [asked], HERE, quiet)
    loaders = [lambda load=load: load(HERE.dtype, CPU) for load in pipe.parts.transformers]
    experts = Experts(loaders, CPU, pipe.parts.adapter_strengths)
    with torch.no_grad():
        return [*asked.sampler.steps(prepare_run(experts, asked, rows, noise_of(pipe.parts.codec_spec, asked)))]


@pytest.mark.parametrize("solver", [UniPC(order=3), DPMSolver(order=3)])
def test_a_change_joins_two_runs(plain: tuple[Parts, Parts], tmp_path: Path, solver: Solver) -> None:
    path = lora(tmp_path)
    scheduled = one(plain[0], path, strength("0@0-0.5,0.8@0.5-1"), solver=solver)
    without, with_it = one(plain[0], solver=solver), one(plain[0], path, 0.8, solver=solver)
    asked = scheduled.request(PROMPT, seed=1)
    steps, before = steps_of(scheduled, asked), steps_of(without, asked)[:3]
    (rows,) = encode_prompts(with_it.parts, [asked], HERE, quiet)
    with torch.no_grad():
        field = text_field(with_it.parts.transformer(HERE.dtype, CPU), rows[:2], before[-1].x, 4.0)
        after = [*sample(solver, field, before[-1].x, asked.levels, start=3)]
    assert all(torch.equal(step.x, joined.x) for step, joined in zip(steps, [*before, *after], strict=True))
    assert not torch.equal(steps[-1].x, steps_of(with_it, asked)[-1].x)


@pytest.mark.parametrize("value", ["0", "0@0-1", "0@t500-1000,0@t0-500"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strength_0_is_the_absence_of_the_file(
    plain: tuple[Parts, Parts], tmp_path: Path, value: str, dtype: torch.dtype
) -> None:
    machine = Machine(device=CPU, dtype=dtype)
    both = one(plain[0]), one(plain[0], lora(tmp_path), strength(value))
    pipes = [replace(pipe, machine=machine) for pipe in both]
    base, absent = (next(pipe.latents([pipe.request(PROMPT, seed=1)], quiet)) for pipe in pipes)
    assert torch.equal(base, absent)


def test_nothing_is_loaded_again_and_several_videos_have_their_own_steps(
    plain: tuple[Parts, Parts], tmp_path: Path
) -> None:
    pipe, loads = one(plain[0], lora(tmp_path), strength("0@0-0.3,1@0.3-0.6,0.5@0.6-1")), list[DiT]()

    def load(dtype: torch.dtype, device: torch.device) -> DiT:
        loads.append(pipe.parts.transformer(dtype, device))
        return loads[-1]

    counted = replace(pipe, parts=replace(pipe.parts, transformers=(load,)))
    asked = [pipe.request(PROMPT, seed=1, steps=steps) for steps in (6, 4, 6)]
    made = [*counted.latents(asked, quiet)]
    assert len(loads) == 1
    assert torch.equal(made[0], made[2]) and torch.equal(made[1], next(pipe.latents([asked[1]], quiet)))


def test_a_function_of_the_level_is_recorded_as_the_schedule_that_it_was(
    plain: tuple[Parts, Parts], tmp_path: Path
) -> None:
    path = lora(tmp_path)

    def late(level: Level) -> float:
        return 1.0 if level.timestep < 700 else 0.0

    pipe = one(plain[0], path, late)
    params = pipe.params(pipe.request(PROMPT, seed=1))
    asked = pipe.request(PROMPT, seed=1)
    same = one(plain[0], path, strength("0@0-0.66,1@0.66-1"))
    assert [late(level) for level in asked.levels[:-1]] == [0, 0, 0, 0, 1, 1]
    assert torch.equal(steps_of(pipe, asked)[-1].x, steps_of(same, asked)[-1].x)
    assert pipe.parts.fingerprint() == same.parts.fingerprint() != one(plain[0], path).parts.fingerprint()
    assert params["model"] == same.params(asked)["model"]
    with refused("value_out_of_range", "step 5", "101"):
        one(plain[0], path, lambda level: 101.0 if level.timestep < 700 else 0.0).request(PROMPT, seed=1)


def test_each_expert_has_its_own_strengths(plain: tuple[Parts, Parts], tmp_path: Path) -> None:
    first, second = plain
    path, other = lora(tmp_path), lora(tmp_path, seed=1)
    both = replace(
        first,
        transformers=(first.transformer, second.transformer),
        transformer_specs=(first.transformer_spec, second.transformer_spec),
    )
    adapted = with_loras(
        both, [(path, strength("high=0@0-0.3,high=1@0.3-1,low=0.5")), (other, strength("low=1"))], lambda line: None
    )
    pipe = Pipeline(recipe=tiny_of_two(), parts=adapted, machine=HERE)
    asked = pipe.request(PROMPT, seed=1)

    def field(index: int, *files: tuple[Path, PerExpert]) -> Callable[[Tensor, Level], Tensor]:
        parts = with_loras(plain[index], files, lambda line: None)
        (rows,) = encode_prompts(first, [asked], HERE, quiet)
        return text_field(parts.transformer(HERE.dtype, CPU), rows[:2], noise, (4.0, 2.0)[index])

    noise, levels = noise_of(first.codec_spec, asked)(), asked.levels
    with torch.no_grad():
        begun = [*sample(asked.solver, field(0), noise, levels)][1]
        later = switched([field(0, (path, 1.0)), field(1, (path, 0.5), (other, 1.0))], asked.expert_choice)
        joined = [*sample(asked.solver, later, begun.x, levels, start=2)]
    assert torch.equal(joined[-1].x, next(pipe.latents([asked], quiet)))
