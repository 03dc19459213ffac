"""Small LoRA files, and the tiny model that they are for."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoform.loading.lora import parameter_shapes
from kinoform.loading.lora_file import LoRAFile, Parameters, open_lora
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.lora_linear import Adapted, linear_layers
from tests.support.official_folder import TRANSFORMER, tiny_modules

Q = "blocks.0.self_attention.q"
Q_WEIGHT = f"{Q}.weight"
OFFICIAL_Q, DIFFUSERS_Q = "diffusion_model.blocks.0.self_attn.q", "transformer.blocks.0.attn1.to_q"
DIM, RANK = TRANSFORMER.dim, 4


def base(spec: DiTSpec = TRANSFORMER) -> DiT:
    model = tiny_modules(transformer=spec).transformer
    assert isinstance(model, DiT)
    return model


def pair(module: str = OFFICIAL_Q, *, into: int = DIM, out: int = DIM, rank: int = RANK) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(2)
    return {
        f"{module}.lora_A.weight": 0.15 * torch.randn(rank, into, generator=draw),
        f"{module}.lora_B.weight": 0.15 * torch.randn(out, rank, generator=draw),
    }


def written(folder: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file(dict(tensors), folder / "style.safetensors", metadata=metadata)
    return folder / "style.safetensors"


def opened(path: Path, *, ignore_unknown: bool = False) -> LoRAFile:
    return open_lora(path, layers(), ignore_unknown=ignore_unknown)


@cache
def layers() -> Parameters:
    return parameter_shapes(base())


def changes(model: DiT) -> dict[str, Tensor]:
    """Sum, by layer, what all adapters together add to its weight."""
    held = {name: each for name, each in linear_layers(model).items() if isinstance(each, Adapted)}
    return {
        name: torch.stack([a.added(each.weight) for a in each.named().values()]).sum(0) for name, each in held.items()
    }
