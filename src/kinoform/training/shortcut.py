"""The linear shortcut of the autoencoder, fitted in closed form."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.models.vae_blocks import LinearShortcut, whole_patches


@torch.no_grad()
def fit_shortcut(shortcut: LinearShortcut, films: Iterable[Float[Tensor, "b 3 t height width"]]) -> None:
    """Principal components of whole-depth patches, the first frame as a patch that stands still.

    Component i with standard deviation s_i is stored as a latent of standard deviation sqrt(s_i) / k, with
    k^2 = mean(s): between whitening, which lifts nearly empty channels to the level of full ones, and no
    scaling at all; over all channels the mean square is 1, which the noise of flow matching expects.
    """
    width = len(shortcut.centre)
    count, total, outer = 0, torch.zeros(width).double(), torch.zeros(width, width).double()
    for pixels in films:
        still = pixels[:, :, :1].expand(-1, -1, shortcut.stride[0] - 1, -1, -1)
        rows = whole_patches(torch.cat([still, pixels], dim=2), shortcut.stride).flatten(0, 3)
        count, total, outer = (
            count + len(rows),
            total + rows.double().sum(0),
            outer + (rows.T @ rows).double(),
        )
    centre = total / count
    values, vectors = torch.linalg.eigh(outer / count - centre[:, None] * centre)
    channels = len(shortcut.analysis)
    deviation, basis = values.flip(0)[:channels].clamp_min(1e-12).sqrt(), vectors.flip(1)[:, :channels]
    # A sign of its own for every component, so that the same films give the same latents everywhere.
    basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    scale = (deviation * deviation.mean()).sqrt()
    shortcut.centre.copy_(centre)
    shortcut.analysis.copy_((basis / scale).T)
    shortcut.synthesis.copy_(basis * scale)
