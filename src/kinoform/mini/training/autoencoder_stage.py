"""Stage one: the autoencoder learns to redraw videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.mini.training.dataset import Videos
from kinoform.mini.training.fit_linear_codec import fit_shortcut
from kinoform.models.vae import VAE, VAESpec
from kinoform.models.vae_blocks import CausalConv3d, ResidualBlock
from kinoform.ops.drawing import seeded
from kinoform.ops.flops import count_flops
from kinoform.training.rng import step_generator


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderConfig:
    """Settings of the autoencoder's stage.

    `noise` is added to the latents, as the transformer's videos will not lie exactly on them; `foreground` is the
    weight of an object's pixels, which are few, against 1 elsewhere.
    """

    codec: VAESpec
    videos: Videos
    batch: int = 4
    fit_videos: int = 800
    noise: float = 0.05
    foreground: float = 4.0
    seed: int = 1


class AutoencoderBatch(NamedTuple):
    pixels: Float[Tensor, "b 3 t height width"]
    weight: Float[Tensor, "b 1 t height width"]
    noise: Float[Tensor, "b c f h w"]


class AutoencoderStage:
    """Weighted |error| + error^2 of the reconstruction; the linear shortcut is fitted first, then kept."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        self._vae = new_autoencoder(config)
        x = config.videos.pixels(config.videos.scenes(0, 1)[0])
        latents, _ = self._vae.encode(x)
        self._shape = latents.shape[1:]
        self.samples_per_step = config.batch
        self.flops_per_step = 3.0 * config.batch * count_flops(lambda: self._vae.decode(latents))

    def modules(self) -> nn.Module:
        return self._vae

    def batch(self, step: int) -> AutoencoderBatch:
        config = self.config
        scenes, _ = config.videos.scenes(step, config.batch)
        objects = config.videos.objects(scenes).float()
        noise = torch.randn(config.batch, *self._shape, generator=step_generator(config.seed, step))
        return AutoencoderBatch(
            pixels=config.videos.pixels(scenes),
            weight=1 + (config.foreground - 1) * objects,
            noise=config.noise * noise,
        )

    def loss(self, batch: AutoencoderBatch) -> Float[Tensor, ""]:
        latents, _ = self._vae.encode(batch.pixels)
        pixels, _ = self._vae.decode(latents + batch.noise)
        error = pixels - batch.pixels
        return (batch.weight * (error.abs() + error.square())).mean() / batch.weight.mean()


def new_autoencoder(config: AutoencoderConfig) -> VAE:
    """The shortcut fitted, the networks beside it adding nothing yet: their last layers are zero."""
    with seeded(config.seed):
        vae = config.codec.build()
    generator = torch.Generator().manual_seed(config.seed)
    for module in vae.modules():
        if isinstance(module, nn.Conv3d | nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=fan_in**-0.5, generator=generator)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    for module in vae.modules():
        if isinstance(module, ResidualBlock):
            module.conv2.weight.data *= 0.3
    if vae.shortcut is not None:
        fit_shortcut(vae.shortcut, lambda: _fitting_videos(config), noise=config.noise)
        vae.shortcut.requires_grad_(False)
        _silence(vae.decoder.conv_out)
        if vae.encoder is not None:
            _silence(vae.encoder.conv_out)
    return vae


def _silence(conv: CausalConv3d) -> None:
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def _fitting_videos(config: AutoencoderConfig) -> Iterator[Tensor]:
    portion = 50
    for step in range(config.fit_videos // portion):
        scenes, _ = config.videos.scenes(1_000_000_000 + step, portion)
        yield config.videos.pixels(scenes)
