"""Few-step recipes: their values beside those of their sources, the models they are for, and what is warned of."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinoform.families.relatives import Distillation, distillation_of
from kinoform.mini.adapters import fast
from kinoform.pipelines.few_step import DistilledFile, check_few_step
from kinoform.pipelines.fit import workload_of
from kinoform.pipelines.request import Request, request
from kinoform.plan.evaluations import evaluations
from kinoform.recipe import Recipe
from kinoform.recipes.catalogue import RELEASED
from kinoform.recipes.few_step import FEW_STEP, FewStep
from kinoform.recipes.load import load
from kinoform.recipes.named import recipe_at
from kinoform.recipes.wan21 import t2v_1_3b, t2v_14b
from kinoform.recipes.wan22 import i2v_a14b, t2v_a14b
from kinoform.solvers.names import name_of
from tests.support.refusals import refused
from tests.support.unchecked import unchecked

LIGHT = [1000.0, 937.5, 833.3333, 625.0]
SOURCES = {
    "lightx2v-4step": (LIGHT, "denoise", [0, 0, 1, 1]),
    "lightx2v-4step-flf2v": ([1000.0, 979.5918, 941.1765, 842.1053], "denoise", [0, 0, 1, 1]),
    "fastwan-3step": ([1000.0, 757.0, 522.0], "renoise", [0, 0, 0]),
    "fastwan-3step-mlx": ([1000.0, 939.6724, 845.2073], "renoise", [0, 0, 0]),
    "rcm": ([988.0, 932.0, 852.0, 608.0], "rcm", [0, 0, 0, 0]),
    "rcm-i2v": ([996.0, 932.0, 852.0, 608.0], "rcm", [0, 0, 1, 1]),
    "rcm-i2v-ode": ([996.0, 932.0, 852.0, 608.0], "rcm(ode=True)", [0, 0, 1, 1]),
    "self-forcing-4step": (LIGHT, "renoise", [0, 0, 0, 0]),
    "self-forcing-index": ([999.0, 957.0, 899.0, 702.0], "index-renoise", [0, 0, 0, 0]),
    "causal-wan22": (
        [1000.0, 985.5073, 965.5172, 936.1702, 865.9794, 819.8758, 750.0, 631.5789],
        "renoise(boundary=0.8748018741607666)",
        [0, 0, 0, 0, 1, 1, 1, 1],
    ),
}
"""Timesteps that the network is told, the rule, and the expert of each step, of the last of the models."""


@pytest.mark.parametrize("name", FEW_STEP)
def test_levels_rule_and_experts_are_those_of_the_source(name: str) -> None:
    timesteps, rule, experts = SOURCES[name]
    for model in FEW_STEP[name].models:
        recipe = FEW_STEP[name].applied(RELEASED[model]())
        asked = request(recipe, "a cat", 1)
        assert (recipe.few_step, recipe.name, recipe.fast_steps) == (name, model, None)
        assert [level.timestep for level in asked.levels[:-1]] == pytest.approx(timesteps, abs=1e-3)
        assert name_of(asked.sampler) == rule and not asked.reads_negative
        alone = len(recipe.transformers) == 1
        assert [*map(asked.expert_choice, asked.levels[:-1])] == ([0] * len(timesteps) if alone else experts)
        counted = evaluations(workload_of(asked), None)
        assert [each.together.forwards for each in counted] == [
            ([0] * len(timesteps) if alone else experts).count(index) for index in range(len(recipe.transformers))
        ]


def test_a_model_that_a_recipe_was_not_made_for_is_refused() -> None:
    with refused("recipe_of_other_model", "fastwan-3step", "i2v-a14b", "lightx2v-4step"):
        FEW_STEP["fastwan-3step"].applied(i2v_a14b())
    with refused("recipe_of_other_model", "rcm-i2v", "t2v-1.3b"):
        FEW_STEP["rcm-i2v"].applied(t2v_1_3b())


def test_it_is_refused_before_a_lora_is_read(tmp_path: Path) -> None:
    (tmp_path / "lightx2v.safetensors").write_bytes(b"no LoRA")
    with refused("recipe_of_other_model", "rcm", "mini"):
        load("mini", recipe="rcm", loras=[(tmp_path / "lightx2v.safetensors", 1.0)], device="cpu")


@pytest.mark.parametrize(("name", "steps"), [("lightx2v-4step", 8), ("rcm", 5), ("self-forcing-index", 3)])
def test_another_number_of_steps_is_refused(name: str, steps: int) -> None:
    recipe = FEW_STEP[name].applied(RELEASED[FEW_STEP[name].models[0]]())
    with refused("steps_not_taken", str(steps)):
        request(recipe, "a cat", 1, steps=steps)
    assert len(request(FEW_STEP["rcm"].applied(t2v_1_3b()), "a cat", 1, steps=1).levels) == 2


def own() -> FewStep:
    """A few-step recipe outside the package."""
    return replace(FEW_STEP["lightx2v-4step"], name="own", models=("tiny",))


def nothing() -> int:
    return 4


def test_recipes_are_found_by_name_and_by_address() -> None:
    assert recipe_at("rcm") is FEW_STEP["rcm"] and recipe_at(f"{__name__}:own") == own()
    assert isinstance(recipe_at("kinoform.recipes.wan22:t2v_a14b"), Recipe)
    with refused("recipe_invalid", "lightx2v-4step"):
        recipe_at("lightx2v-4steps")
    with unchecked(), refused("recipe_invalid", "int"):
        recipe_at(f"{__name__}:nothing")


LIGHTNING = "Wan2.2-Lightning_T2V-v1.1-A14B-4steps-lora_HIGH_fp16.safetensors"


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("wan2.2_t2v_A14b_high_noise_lora_rank64_lightx2v_4step_1217.safetensors", "lightx2v-4step"),
        (LIGHTNING, "lightx2v-4step"),
        ("Wan22_A14B_T2V_HIGH_Lightning_4steps_lora_250928_rank128.safetensors", "lightx2v-4step"),
        ("Wan2.2_I2V_A14B_HIGH_4steps_lora_rank64_Seko_V1_forKJ.safetensors", "lightx2v-4step"),
        ("wan2.2_flf2v_A14b_high_noise_lightx2v_4step.safetensors", "lightx2v-4step-flf2v"),
        ("FastWan2.2-TI2V-5B-FullAttn-Diffusers", "fastwan-3step"),
        ("TurboWan2.2-I2V-A14B-high-720P.pth", "rcm"),
        ("self_forcing_dmd.pt", "self-forcing-4step"),
    ],
)
def test_names_of_files_tell_their_recipe(name: str, recipe: str) -> None:
    found = distillation_of(name)
    assert found is not None and found.recipes[0] == recipe and {*found.recipes} <= {*FEW_STEP}
    assert f"--recipe {recipe}" in found.note


def light(*experts: int, name: str = LIGHTNING) -> DistilledFile:
    found = distillation_of(name)
    assert found is not None
    return DistilledFile(name=name, distillation=found, experts=experts)


def told(asked: Request, recipe: Recipe, *files: DistilledFile) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_few_step(asked, recipe, files)
    return [str(item.message) for item in caught]


def test_distilled_weights_without_their_settings_are_warned_of_by_name() -> None:
    recipe = t2v_a14b()
    (both,) = told(request(recipe, "a cat", 1), recipe, light(0, 1))
    assert all(part in both for part in (LIGHTNING, "40 steps", "guidance", "--recipe lightx2v-4step"))
    (guided,) = told(request(recipe, "a cat", 1, steps=8), recipe, light(0, 1))
    assert "guidance" in guided and "8 steps" not in guided
    one = {"high": 3.5, "low": 1.0}
    assert not told(request(recipe, "a cat", 1, steps=8, guidance_scale=one), recipe, light(1))
    (high,) = told(request(recipe, "a cat", 1, steps=8, guidance_scale=one), recipe, light(0))
    assert LIGHTNING in high
    assert not told(request(recipe, "a cat", 1, steps=8, guidance_scale=1.0), recipe, light(0, 1))
    unnamed = Distillation(pattern="", name="8 steps", steps=8)
    file = DistilledFile(name="my_8steps.safetensors", distillation=unnamed, experts=(0,))
    assert "--steps 8" in told(request(t2v_14b(), "a cat", 1), t2v_14b(), file)[0]


def test_few_steps_without_distilled_weights_are_warned_of() -> None:
    for model, steps, warned in (("t2v-14b", 4, True), ("t2v-14b", 10, False), ("t2v-a14b", 4, True)):
        recipe = RELEASED[model]()
        assert bool(told(request(recipe, "a cat", 1, steps=steps), recipe)) == warned
    recipe = FEW_STEP["lightx2v-4step"].applied(t2v_14b())
    (alone,) = told(request(recipe, "a cat", 1), recipe)
    assert "lightx2v-4step" in alone and "--lora" in alone
    assert not told(request(recipe, "a cat", 1), recipe, light(0))


def test_a_few_step_recipe_with_other_settings_or_weights_is_warned_of() -> None:
    recipe = FEW_STEP["lightx2v-4step"].applied(t2v_14b())
    (guided,) = told(request(recipe, "a cat", 1, guidance_scale=5.0), recipe, light(0))
    assert "lightx2v-4step" in guided and "guidance" in guided
    (bent,) = told(request(recipe, "a cat", 1, shift=8.0), recipe, light(0))
    assert "--shift 8" in bent
    (other,) = told(request(recipe, "a cat", 1), recipe, light(0, name="FastWan2.1-T2V-14B.safetensors"))
    assert "FastWan2.1" in other and "fastwan-3step" in other


def test_a_student_with_settings_of_its_teacher_is_warned_of() -> None:
    (both,) = told(request(fast(), "a cat", 1, steps=16, guidance_scale=3.0), fast())
    assert all(part in both for part in ("mini:fast", "4 steps", "16 steps", "guidance"))
    assert not told(request(fast(), "a cat", 1, steps=2), fast())


def test_recipes_and_loras_of_other_types_are_refused() -> None:
    changes: tuple[Any, ...] = ({"recipe": 5}, {"loras": ["style.safetensors"]}, {"loras": [("style.safetensors",)]})
    for change in changes:
        with refused("wrong_type"), unchecked():
            load("mini", **change)
    name: Any = "t2v-1.3b"
    with refused("wrong_type"), unchecked():
        replace(FEW_STEP["rcm"], models=name)
