"""A training step on the meta device: its operations are those of a real step, and those of arithmetic."""

from dataclasses import replace

import pytest
import torch

from kinoform.mini import mini
from kinoform.models.dit import DiTSpec
from kinoform.models.lora import LoRASpec, attach
from kinoform.ops.flops import flop_counter
from kinoform.ops.patch import grid_of
from kinoform.plan.training_step import step_cost
from kinoform.recipes.catalogue import RELEASED
from kinoform.types import Conditions

LATENTS = (2, 4, 6)
PROMPT = 512


def attention(spec: DiTSpec, tokens: int, prompt: int, batch: int) -> int:
    """Operations of all attentions forward: two products a head, with the video's tokens and with the prompt's."""
    return spec.layers * batch * 4 * tokens * (tokens + prompt) * spec.dim


@pytest.mark.parametrize("lora", [LoRASpec(rank=4), None])
def test_a_step_counts_as_one_that_is_run(lora: LoRASpec | None) -> None:
    recipe = mini()
    spec, batch = replace(recipe.transformers[0], layers=3), 2
    cost = step_cost(spec, lora, recipe.text, LATENTS, batch, torch.float32)
    model = spec.build()
    if lora is not None:
        model = attach(model.requires_grad_(False), lora, generator=torch.Generator())
    x, levels = torch.randn(batch, spec.out_channels, *LATENTS), torch.full((batch,), 500.0)
    text = torch.randn(batch, recipe.text.length, recipe.text.dim)
    with flop_counter() as counter:
        prepared = model.prepare(Conditions(context={"text": text}), grid_of(x, spec.patch))
        loss = model(x, levels, prepared).square().mean()
        forward = counter.get_total_flops()
        loss.backward()
    assert cost.forward == forward
    assert cost.backward == counter.get_total_flops() - forward
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert cost.learning == sum(parameter.numel() for parameter in learning)
    assert cost.state == 5 * 4 * cost.learning
    assert cost.weights == 4 * (sum(parameter.numel() for parameter in model.parameters()) - cost.learning)


def test_memory_grows_with_layers_unless_their_activations_are_made_again() -> None:
    recipe, latents = mini(), (4, 16, 16)
    spec, lora = recipe.transformers[0], LoRASpec(rank=4)
    three, six = (step_cost(replace(spec, layers=n), lora, recipe.text, latents, 1, torch.float32) for n in (3, 6))
    layer, kept = (six.activations - three.activations) / 3, 4 * six.tokens * spec.dim
    assert 0.95 < six.activations / (6 * layer) < 1.2
    assert kept < (six.recomputed - three.recomputed) / 3 < 0.1 * layer
    assert six.flops_recomputed - six.flops == six.blocks < six.forward


@pytest.mark.parametrize(
    ("name", "latents", "tokens", "petaflops", "recomputed", "million"),
    [
        ("t2v-1.3b", (21, 60, 104), 32_760, 0.874, 1.160, 43.75),
        ("t2v-1.3b", (21, 90, 160), 75_600, 4.106, 5.362, 43.75),
        ("t2v-14b", (21, 60, 104), 32_760, 4.714, 6.400, 153.35),
        ("t2v-14b", (21, 90, 160), 75_600, 20.161, 26.704, 153.35),
    ],
)
def test_steps_of_released_models(
    name: str, latents: tuple[int, int, int], tokens: int, petaflops: float, recomputed: float, million: float
) -> None:
    recipe = RELEASED[name]()
    spec, lora = recipe.transformers[0], LoRASpec()
    cost = step_cost(spec, lora, recipe.text, latents, 1, torch.bfloat16)
    assert (cost.tokens, cost.learning / 1e6) == (tokens, pytest.approx(million, abs=0.01))
    assert cost.flops / 1e15 == pytest.approx(petaflops, abs=6e-4)
    assert cost.flops_recomputed / 1e15 == pytest.approx(recomputed, abs=6e-4)
    # By arithmetic: products with frozen weights cost one more forward in the backward, attention two and a half.
    attended = attention(spec, tokens, PROMPT, 1)
    products = 2 * tokens * spec.layers * (6 * spec.dim**2 + 2 * spec.dim * spec.ffn_dim)
    assert 2 * products + 3.5 * attended == pytest.approx(cost.flops, rel=0.03)
