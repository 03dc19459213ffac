"""The linear shortcut of the autoencoder, fitted in closed form."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinoform.models.shortcut import REACH, LinearShortcut, video_patches

Videos = Callable[[], Iterable[Float[Tensor, "b 3 t height width"]]]
"""Gives the same videos, in portions, every time it is called."""


@torch.no_grad()
def fit_shortcut(shortcut: LinearShortcut, videos: Videos, *, noise: float = 0.0) -> None:
    """First the best projection to latents, then the best pixels from latents and their neighbours.

    `noise` is the standard deviation of the error that latents are expected to have when decoded.
    """
    _fit_analysis(shortcut, videos)
    _fit_synthesis(shortcut, videos, noise)


def _fit_analysis(shortcut: LinearShortcut, videos: Videos) -> None:
    """Principal components of whole-depth patches, the first frame as a patch that stands still.

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


def _fit_synthesis(shortcut: LinearShortcut, videos: Videos, noise: float) -> None:
    """Least squares: W = (X^T X + n noise^2)^-1 X^T Y over latents in reach (X, with a constant) and patches (Y)."""
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
    """For each latent position the values that its decoded patch depends on, zero where there are none."""
    time, height, width = REACH
    padded = F.pad(latents, (width // 2, width // 2, height // 2, height // 2, time - 1, 0))
    windows = padded.unfold(2, time, 1).unfold(3, height, 1).unfold(4, width, 1)
    return rearrange(windows, "b c f h w rt rh rw -> (b f h w) (c rt rh rw)")
