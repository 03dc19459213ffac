"""LoRA files are planned with the transformer that they go onto: weights, operations and memory."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinoform.models.dit import DiTSpec
from kinoform.models.lora import LoRARanks, LoRASpec, attach
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import grid_of
from kinoform.pipelines.fit import sizes_of
from kinoform.plan.memory import needs
from kinoform.plan.transformer import transformer_count
from kinoform.plan.workload import Sizes, Workload, adapted_specs
from kinoform.recipes.load import load
from kinoform.recipes.wan21 import t2v_14b
from kinoform.types import Conditions
from tests.plan.planned_videos import BASE, ROWS, TEXT, pipeline_of, run_of
from tests.plan.planned_videos import sizes_of as sizes_of_recipe
from tests.weights.lora_fixtures import pair, written

RANK, LATENTS = 5, (2, 4, 6)
LAYERS = ("blocks.0.self_attention.q", "blocks.1.feed_forward.0", "blocks.2.cross_attention.streams.text.k")
LORA = LoRARanks(ranks=tuple((name, RANK) for name in LAYERS))
SPEC = BASE.transformer


def adapted(*loras: LoRARanks, spec: DiTSpec = SPEC) -> DiTSpec:
    (result,) = adapted_specs([spec], [loras])
    return result


def test_operations_are_those_of_a_model_with_adapters() -> None:
    """Operations of 2 * 2 * 3 tokens, or of the rows of a prompt, 2 * RANK * (inputs + outputs) each."""
    model = attach(SPEC.build(), LoRASpec(patterns=LAYERS, rank=RANK), generator=torch.Generator())
    x = torch.randn(1, SPEC.out_channels, *LATENTS)
    conditions = Conditions(context={"text": torch.randn(1, ROWS, TEXT.width)})
    grid = grid_of(x, SPEC.patch)
    counted = count_flops(lambda: model(x, torch.tensor([500.0]), model.prepare(conditions, grid)))
    planned, without = run_of(adapted(LORA), LATENTS).prompt, run_of(SPEC, LATENTS).prompt
    assert counted == planned.forward
    assert planned.velocity - without.velocity == 2 * RANK * 12 * ((384 + 384) + (384 + 512))
    assert planned.prepare - without.prepare == 2 * RANK * ROWS * (384 + 384)
    assert planned.parts.keys() == without.parts.keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matrices_are_weights_in_the_dtype_of_their_layers(dtype: torch.dtype) -> None:
    values = RANK * ((384 + 384) + (384 + 512) + (384 + 384))
    plain, both = transformer_count(SPEC), transformer_count(adapted(LORA, LORA))
    assert both.parameters - plain.parameters == 2 * values
    assert both.bytes(dtype) - plain.bytes(dtype) == 2 * values * dtype.itemsize


def test_a_lora_without_strength_is_held_and_not_computed() -> None:
    silent = adapted(replace(LORA, strength=0.0))
    assert run_of(silent, LATENTS).prompt.forward == run_of(SPEC, LATENTS).prompt.forward
    assert transformer_count(silent) == transformer_count(adapted(LORA))


def test_layers_that_other_blocks_lack_are_left_out() -> None:
    elsewhere = LoRARanks(ranks=(("blocks.0.time_attention.q", RANK),))
    assert transformer_count(adapted(elsewhere)) == transformer_count(SPEC)


def test_denoising_holds_the_matrices() -> None:
    """Rank 32 on q of the 40 layers of T2V-14B: 32 * (5120 + 5120) values each, in two bytes."""
    recipe = t2v_14b()
    lora = LoRARanks(ranks=tuple((f"blocks.{layer}.self_attention.q", 32) for layer in range(40)))
    work = Workload(width=832, height=480, num_frames=81, steps=50, guidance_scale=5.0)
    sizes = Sizes(transformers=(recipe.transformer,), codec=recipe.codec, text=recipe.text)
    with_lora = replace(sizes, transformers=(adapted(lora, spec=recipe.transformer),))
    plain, more = (
        {peak.stage: peak.weights for peak in needs(each, work, torch.bfloat16, "cuda").peaks}
        for each in (sizes, with_lora)
    )
    assert more["denoise"] - plain["denoise"] == 40 * 32 * (5120 + 5120) * 2
    assert more["text"] == plain["text"]


def test_parts_without_lora_are_planned_as_they_are() -> None:
    assert sizes_of(pipeline_of(BASE, torch.float32).parts).transformers == sizes_of_recipe(BASE).transformers


def test_a_pipeline_knows_its_files(tmp_path: Path) -> None:
    """mini is 192 wide. So the check before a video counts them."""
    file = written(tmp_path, pair(into=192, out=192, rank=4))
    plain, more = (sizes_of(load("mini", loras=files).parts).transformer for files in ((), [(file, 1.0)]))
    assert transformer_count(more).parameters - transformer_count(plain).parameters == 4 * (192 + 192)
