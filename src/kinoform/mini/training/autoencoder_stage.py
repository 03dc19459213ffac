"""Stage one: the autoencoder learns to reconstruct videos, beside a linear codec that is fitted in closed form."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.conditions.protocols import VideoSize
from kinoform.mini.training.dataset import Videos
from kinoform.models.shortcut import REACH, LinearShortcut, video_patches
from kinoform.models.vae import VAE, VAESpec
from kinoform.models.vae22 import VAE22, VAE22Spec
from kinoform.models.vae_blocks import CausalConv3d, ResidualBlock
from kinoform.ops.drawing import seeded
from kinoform.ops.flops import count_flops
from kinoform.training.rng import step_generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """Parts of videos, one of each, instead of whole ones: many small steps teach more than few large ones.

    `size` is theirs; the share `near` of them has an object's pixel not far from its middle. `reuse` steps cut theirs
    from the same videos, since rendering takes longer than a step.
    """

    size: VideoSize
    near: float = 0.7
    reuse: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderConfig:
    """Settings of the autoencoder's stage.

    `noise` is added to the latents, as the transformer's videos will not lie exactly on them; `foreground` is the
    weight of an object's pixels, which are few, against 1 elsewhere. `precision` is that of the products while it
    learns; `crops` are learnt from instead of whole videos.
    """

    codec: VAESpec | VAE22Spec
    videos: Videos
    batch: int = 4
    fit_videos: int = 800
    noise: float = 0.05
    foreground: float = 4.0
    seed: int = 1
    crops: Crops | None = None
    precision: torch.dtype = torch.float32


class AutoencoderBatch(NamedTuple):
    pixels: Float[Tensor, "b 3 t height width"]
    weight: Float[Tensor, "b 1 t height width"]
    noise: Float[Tensor, "b c f h w"]


class AutoencoderStage:
    """Weighted |error| + error^2 of the reconstruction; the linear shortcut is fitted first, then kept."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        self._vae = new_autoencoder(config)
        self._last: tuple[int, Tensor, Tensor] | None = None
        latents, _ = self._vae.encode(self.batch(0).pixels)
        self._flops = 3.0 * count_flops(lambda: self._vae.decode(latents))

    def samples(self, step: int) -> int:
        return self.config.batch

    def modules(self) -> nn.Module:
        return self._vae

    def flops(self, step: int) -> float:
        return self._flops

    def batch(self, step: int) -> AutoencoderBatch:
        config, generator = self.config, step_generator(self.config.seed, step)
        pixels, objects = self._videos(step) if config.crops is None else self._crops(step, config.crops)
        time, height, width = self._vae.stride
        b, _, t, h, w = pixels.shape
        noise = torch.randn(b, self._vae.channels, 1 + (t - 1) // time, h // height, w // width, generator=generator)
        return AutoencoderBatch(pixels=pixels, weight=1 + (config.foreground - 1) * objects, noise=config.noise * noise)

    def loss(self, batch: AutoencoderBatch) -> Float[Tensor, ""]:
        latents, _ = self._vae.encode(batch.pixels)
        precision = self.config.precision
        with nullcontext() if precision == torch.float32 else torch.autocast(latents.device.type, precision):
            pixels, _ = self._vae.decode(latents + batch.noise)
        error = pixels.float() - batch.pixels
        return (batch.weight * (error.abs() + error.square())).mean() / batch.weight.mean()

    def _videos(self, step: int) -> tuple[Float[Tensor, "b 3 t h w"], Float[Tensor, "b 1 t h w"]]:
        videos = self.config.videos.at(step)
        scenes, _ = videos.scenes(step, self.config.batch)
        return videos.pixels(scenes), videos.objects(scenes).float()

    def _crops(self, step: int, crops: Crops) -> tuple[Float[Tensor, "b 3 t h w"], Float[Tensor, "b 1 t h w"]]:
        """Cut the crops of a step; the videos of the last ones are kept, for the next steps."""
        turn = step // crops.reuse
        if self._last is None or self._last[0] != turn:
            self._last = turn, *self._videos(turn)
        _, pixels, objects = self._last
        generator = np.random.default_rng([self.config.seed, step])
        cuts = [_cut(item[0], crops, generator) for item in objects]
        return (
            torch.stack([item[(slice(None), *cut)] for item, cut in zip(pixels, cuts, strict=True)]),
            torch.stack([item[(slice(None), *cut)] for item, cut in zip(objects, cuts, strict=True)]),
        )


def _cut(objects: Float[Tensor, "t h w"], crops: Crops, generator: np.random.Generator) -> tuple[slice, slice, slice]:
    """Draw where a crop is; most often a pixel of an object in its middle frame lies in its inner half."""
    size = crops.size.num_frames, crops.size.height, crops.size.width
    starts = [int(generator.integers(all_ - part + 1)) for all_, part in zip(objects.shape, size, strict=True)]
    pixels = objects[starts[0] + size[0] // 2].nonzero().tolist()
    if pixels and generator.random() < crops.near:
        pixel = pixels[int(generator.integers(len(pixels)))]
        for axis, at in enumerate(pixel, start=1):
            part = size[axis]
            start = at - part // 4 - int(generator.integers(part // 2 + 1))
            starts[axis] = min(max(start, 0), objects.shape[axis] - part)
    first, second, third = (slice(start, start + part) for start, part in zip(starts, size, strict=True))
    return first, second, third


def new_autoencoder(config: AutoencoderConfig) -> VAE | VAE22:
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
        videos = config.videos.at(1_000_000_000 + step)
        scenes, _ = videos.scenes(1_000_000_000 + step, portion)
        yield videos.pixels(scenes)


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
