"""A tiny transformer with a LoRA that has an effect, which alone learns."""

from dataclasses import replace

import torch
from torch import nn

from kinoform.models.context import TextContext
from kinoform.models.dit import DiTSpec, initialise
from kinoform.models.lora import LoRASpec, attach
from kinoform.training.objective import TrainableModel

SPEC = DiTSpec(
    dim=24, ffn_dim=64, heads=2, layers=3, in_channels=4, out_channels=4, frequency_width=16,
    context=(TextContext(width=16, length=8),),
)  # fmt: skip


def adapted_model(*, layers: int) -> TrainableModel:
    """Return it with so many blocks: always the same one."""
    generator = torch.Generator().manual_seed(0)
    dit = replace(SPEC, layers=layers).build().requires_grad_(False)
    initialise(dit, generator)
    nn.init.normal_(dit.head.linear.weight, generator=generator)
    adapted = attach(dit, LoRASpec(rank=2), generator=generator)
    for name, parameter in adapted.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(parameter, generator=generator, std=0.1)
    return TrainableModel(adapted)
