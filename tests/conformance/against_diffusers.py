"""Tiny models of every kind with random weights, on their way to diffusers and transformers; how near is the same.

What disagrees by design, and why:

* diffusers computes the sinusoid of the time in float32, the official code and kinoform in float64: up to
  4e-5 in the sinusoid, up to 2.5e-5 of the RMS in the output, growing with the time. `with_exact_times`
  puts a float64 sinusoid into diffusers' model, after which the two agree to SAME.
* Its schedulers walk other noise levels than the official ones; see test_diffusers_pipeline.py.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiT, DiTSpec
from kinoform.ops.patch import grid_of
from kinoform.types import Conditions
from tests.models.recorded import spread
from tests.support.narrowing import of_type
from tests.support.official_folder import official_tensors

SAME = 5e-6
"""Bound over the RMS: the order of sums in float32."""

FLOAT32_TIMES = 5e-5
"""Bound over the RMS with diffusers' own sinusoid."""

TEXT_WIDTH, IMAGE_WIDTH, IMAGE_ROWS = 24, 20, 257
SPEC = DiTSpec(dim=256, ffn_dim=96, heads=2, layers=2, context=(TextContext(width=TEXT_WIDTH),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of transformer: its official `model_type`, and how many images its image rows come from."""

    model_type: str
    spec: DiTSpec
    images: int = 0


def _with_image(positions: int) -> DiTSpec:
    streams = (*SPEC.context, ImageContext(width=IMAGE_WIDTH, positions=positions))
    return replace(SPEC, in_channels=36, context=streams)


KINDS: Mapping[str, Kind] = {
    "t2v": Kind(model_type="t2v", spec=SPEC),
    "i2v": Kind(model_type="i2v", spec=_with_image(0), images=1),
    "flf2v": Kind(model_type="flf2v", spec=_with_image(2 * IMAGE_ROWS), images=2),
    "expert-i2v": Kind(model_type="i2v", spec=replace(SPEC, in_channels=36)),
    "ti2v": Kind(model_type="ti2v", spec=replace(SPEC, in_channels=48, out_channels=48)),
}


def tiny_transformer(kind: Kind) -> DiT:
    model = kind.spec.build()
    spread(model, seed=3)
    return model.requires_grad_(False).eval()


def write_official_transformer(folder: Path, kind: Kind, model: nn.Module) -> Path:
    spec = kind.spec
    folder.mkdir()
    save_file(official_tensors(model, DIT), folder / "diffusion_pytorch_model.safetensors")
    config = {
        "_class_name": "WanModel", "dim": spec.dim, "eps": spec.eps, "ffn_dim": spec.ffn_dim,
        "freq_dim": spec.frequency_width, "in_dim": spec.in_channels, "model_type": kind.model_type,
        "num_heads": spec.heads, "num_layers": spec.layers, "out_dim": spec.out_channels, "text_len": 512,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def question(kind: Kind, time: float) -> tuple[Tensor, Tensor, Conditions]:
    """Noisy latents, their time and the conditions of one sample."""
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(1, kind.spec.out_channels, 3, 8, 6, generator=draw)
    extra = kind.spec.in_channels - kind.spec.out_channels
    context = {"text": torch.randn(1, 11, TEXT_WIDTH, generator=draw)}
    if kind.images:
        context["image"] = torch.randn(1, kind.images * IMAGE_ROWS, IMAGE_WIDTH, generator=draw)
    channels = torch.randn(1, extra, 3, 8, 6, generator=draw) if extra else None
    return x, torch.tensor([time]), Conditions(context=context, channels=channels)


@torch.inference_mode()
def ours(model: DiT, x: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
    return model(x, time, model.prepare(conditions, grid_of(x, model.spec.patch)))


@torch.inference_mode()
def theirs(model: Any, x: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
    """diffusers wants the channels joined, the text padded, and a row of the batch for each image."""
    rows = conditions.context["text"]
    image = conditions.context.get("image")
    return model(
        hidden_states=x if conditions.channels is None else torch.cat([x, conditions.channels], dim=1),
        timestep=time,
        encoder_hidden_states=nn.functional.pad(rows, (0, 0, 0, 512 - rows.shape[1])),
        encoder_hidden_states_image=None if image is None else image.unflatten(1, (-1, IMAGE_ROWS))[0],
        return_dict=False,
    )[0]


class ExactTimes(nn.Module):
    """cos(t f), sin(t f) with f = 10000^(-i / half), in float64."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, times: Tensor) -> Tensor:
        half = of_type(int, self.width) // 2
        falling = torch.arange(half, dtype=torch.float64) / half
        angles = times.double()[:, None] * torch.exp(-math.log(10000) * falling)
        return torch.cat([angles.cos(), angles.sin()], dim=1).float()


def with_exact_times(model: Any) -> Any:
    model.condition_embedder.timesteps_proj = ExactTimes(model.config.freq_dim)
    return model


def gap(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the RMS."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.square().mean().sqrt()).item()
