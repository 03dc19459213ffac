"""Stage one: the autoencoder learns to reconstruct videos, beside a linear codec that is fitted in closed form."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.mini.training.dataset import Videos
from kinoform.models.shortcut import REACH, LinearShortcut, video_patches
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
    """Build the autoencoder, its shortcut fitted; the networks beside it add nothing yet: their last layers are 0."""
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


@torch.no_grad()
def fit_shortcut(shortcut: LinearShortcut, videos: Callable[[], Iterable[Tensor]], *, noise: float = 0.0) -> None:
    """Fit in closed form the best projection to latents, then the best pixels from latents and their neighbours.

    `videos` gives the same videos, in portions, every time it is called. `noise` is the standard deviation of the
    error that latents are expected to have when decoded.
    """
    _fit_analysis(shortcut, videos)
    _fit_synthesis(shortcut, videos, noise)


def _fit_analysis(shortcut: LinearShortcut, videos: Callable[[], Iterable[Tensor]]) -> None:
    """Store the principal components of whole-depth patches, the first frame as a patch that stands still.

    Component i with standard deviation s_i is stored as a latent of standard deviation sqrt(s_i) / k, with
    k^2 = mean(s): between whitening, which lifts nearly empty channels to the level of full ones, and no
    scaling at all; over all channels the mean square is 1, which the noise of flow matching expects.
    """
    width = len(shortcut.centre)
    count, total, outer = 0, torch.zeros(width).double(), torch.zeros(width, width).double()
    for pixels in videos():
        rows = video_patches(pixels, shortcut.stride).flatten(0, 3)
        count, total, outer = count + len(rows), total + rows.double().sum(0), outer + (rows.T @ rows).double()
    centre = total / count
    values, vectors = torch.linalg.eigh(outer / count - centre[:, None] * centre)
    channels = len(shortcut.analysis)
    deviation, basis = values.flip(0)[:channels].clamp_min(1e-12).sqrt(), vectors.flip(1)[:, :channels]
    # A sign of its own for every component, so that the same videos give the same latents everywhere.
    basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    scale = (deviation * deviation.mean()).sqrt()
    shortcut.centre.copy_(centre)
    shortcut.analysis.copy_((basis / scale).T)


def _fit_synthesis(shortcut: LinearShortcut, videos: Callable[[], Iterable[Tensor]], noise: float) -> None:
    """Solve W = (X^T X + n noise^2)^-1 X^T Y over latents in reach (X, with a constant) and patches (Y)."""
    width, channels = len(shortcut.centre), len(shortcut.analysis)
    inputs = channels * REACH[0] * REACH[1] * REACH[2] + 1
    count, within, across = 0, torch.zeros(inputs, inputs).double(), torch.zeros(inputs, width).double()
    for pixels in videos():
        seen = _in_reach(shortcut.encode(pixels, first=True))
        seen = torch.cat([seen, torch.ones(len(seen), 1)], dim=1)
        count, within = count + len(seen), within + (seen.T @ seen).double()
        across = across + (seen.T @ video_patches(pixels, shortcut.stride).flatten(0, 3)).double()
    ridge = torch.full((inputs,), count * max(noise, 1e-3) ** 2).double()
    ridge[-1] = 0
    weights = torch.linalg.solve(within + ridge.diag(), across)
    shortcut.synthesis.copy_(rearrange(weights[:-1], "(c t h w) p -> p c t h w", c=channels, t=2, h=3, w=3))
    shortcut.offset.copy_(weights[-1])


def _in_reach(latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "n r"]:
    """Return the values on which the decoded patch of each latent position depends, 0 beyond the edges."""
    time, height, width = REACH
    padded = F.pad(latents, (width // 2, width // 2, height // 2, height // 2, time - 1, 0))
    windows = padded.unfold(2, time, 1).unfold(3, height, 1).unfold(4, width, 1)
    return rearrange(windows, "b c f h w rt rh rw -> (b f h w) (c rt rh rw)")
