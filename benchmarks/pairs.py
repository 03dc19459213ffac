"""The same random weights as a model of kinoform and as one of diffusers, each as its own loader would hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from loaded import loaded
from torch import Tensor, nn

from kinoform.families.names import Names
from kinoform.families.transformer_names import DIFFUSERS_NAMES as DIFFUSERS_DIT
from kinoform.families.vae21 import diffusers_names
from kinoform.models.context import TextContext
from kinoform.models.dit import DiT, DiTSpec, keeps_float32
from kinoform.models.vae import VAE, VAESpec

HEAD_WIDTH = 128
PROMPT = 20
"""Rows of a prompt of usual length; both models read them padded to 512."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A transformer, and latents (frames, height, width)."""

    dim: int
    ffn_dim: int
    layers: int
    latents: tuple[int, int, int]
    text: int = 4096

    def spec(self) -> DiTSpec:
        heads = max(1, self.dim // HEAD_WIDTH)
        stream = TextContext(width=self.text)
        return DiTSpec(dim=self.dim, ffn_dim=self.ffn_dim, heads=heads, layers=self.layers, context=(stream,))


def transformers(size: Size, dtype: torch.dtype) -> tuple[DiT, Any]:
    """Build kinoform's and diffusers', in `dtype` but for the parts that each keeps in float32."""
    torch.manual_seed(0)
    spec = size.spec()
    theirs: Any = WanTransformer3DModel(
        num_attention_heads=spec.heads, attention_head_dim=spec.dim // spec.heads, text_dim=size.text,
        ffn_dim=spec.ffn_dim, num_layers=spec.layers,
    )  # fmt: skip
    ours = spec.build()
    fill(ours, theirs, DIFFUSERS_DIT)
    ours = loaded(spec.build, ours, dtype_of=lambda name: torch.float32 if keeps_float32(name) else dtype)
    kept = theirs._keep_in_fp32_modules
    for name, weight in theirs.named_parameters():
        weight.data = weight.data if any(part in name for part in kept) else weight.data.to(dtype)
    return ours.eval().requires_grad_(False), theirs.eval().requires_grad_(False)


def autoencoders(dim: int) -> tuple[VAE, Any]:
    """Build both in float32, kinoform's as its loader reads it."""
    torch.manual_seed(0)
    theirs: Any = AutoencoderKLWan(base_dim=dim)
    spec = VAESpec(dim=dim)
    ours = spec.build()
    fill(ours, theirs, diffusers_names())
    return loaded(spec.build, ours).eval().requires_grad_(False), theirs.eval().requires_grad_(False)


def fill(ours: nn.Module, theirs: nn.Module, names: Names) -> None:
    """Give `ours` a copy of every weight of `theirs`; both hold the same ones."""
    state = {names.ours(name) or name: value.clone() for name, value in theirs.state_dict().items()}
    wanted = ours.state_dict()
    ours.load_state_dict({name: value.view(wanted[name].shape) for name, value in state.items()})


def prompt(width: int) -> Tensor:
    return torch.randn(1, PROMPT, width, generator=torch.Generator().manual_seed(1))


def padded(rows: Tensor, length: int = 512) -> Tensor:
    """Pad rows as diffusers' pipeline does: zeros after the prompt."""
    return torch.cat([rows, rows.new_zeros(1, length - rows.shape[1], rows.shape[2])], dim=1)
