"""Adapters of the tiny model with numbers that all count, without any training."""

from pathlib import Path

import torch

from kinoform.loading.adapters import save_adapter
from kinoform.loading.additions import PATCH, Additions
from kinoform.loading.parts import Parts
from kinoform.models.context import ReferenceContext
from kinoform.models.dit import DiT
from kinoform.models.lora import LoRASpec, adapters_of
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.recipe import find
from kinoform.recipes.load import load
from tests.support.tiny_recipe import ADDRESS

NAME = "learned"
ALL = Additions(
    channels={"depth": 2, "pose": 1},
    context=(ReferenceContext(width=6),),
    branches=(VaceBlocks(layers=(0,), channels=5, name="side"),),
)
LORA = LoRASpec(patterns=("feed_forward.*", "cross_attention.*"), rank=3, alpha=1.5)
"""On layers of the base, and on some that are added."""

CPU = torch.device("cpu")


def trained(base: DiT, additions: Additions | None = ALL, lora: LoRASpec | None = LORA, seed: int = 0) -> DiT:
    """The model with the additions, all of which differ from how they begin."""
    added, generator = additions or Additions(), torch.Generator().manual_seed(seed)
    model, learning = added.trainable(added.apply(base), lora, generator, name=NAME)
    for name, parameter in learning.items():
        noise = 0.3 * torch.randn(parameter.shape, generator=generator)
        if name == PATCH:
            noise[:, : base.spec.in_channels] = 0
        parameter.data = parameter.detach() + noise
    for adapter in adapters_of(model).get(NAME, {}).values():
        adapter.strength = 0.5
    return model


def write_adapter(path: Path, folder: Path, recipe: str, *, base: str = "tiny", seed: int = 0) -> Path:
    """An adapter of the model in `folder`, called `base`, with the additions of the recipe."""
    return write_adapter_of(base_parts(folder), path, recipe, base=base, seed=seed)


def write_adapter_of(parts: Parts, path: Path, recipe: str, *, base: str, seed: int = 0) -> Path:
    """An adapter of the model that has these parts."""
    additions = find(recipe).additions
    model = trained(parts.transformer(torch.float32, CPU), additions, seed=seed)
    save_adapter(
        path, (model,), additions, name=NAME, base=base, base_hash=parts.fingerprint(), recipe=recipe, made={"steps": 7}
    )
    return path


def base_parts(folder: Path) -> Parts:
    return load(folder, recipe=ADDRESS, device="cpu").parts
