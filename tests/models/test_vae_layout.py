"""The autoencoder with channels innermost in memory: the same codec, its doors unchanged."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinoform.models.vae import VAESpec, channels_last
from models.recorded import gap, spread

SPEC = VAESpec(dim=4, channels=3, multipliers=(1, 2, 2, 2), residual_blocks=1, mean=(), std=())


@pytest.mark.parametrize("batch", [1, 2])
def test_layout_changes_rounding_only(batch: int):
    plain, laid = (SPEC.build().eval().requires_grad_(False) for _ in range(2))
    spread(plain, seed=1)
    laid.load_state_dict(plain.state_dict())
    assert channels_last(laid) is laid
    film = torch.rand(batch, 3, 9, 16, 24, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latents, history = laid.encode(film[:, :, :5])
    later, _ = laid.encode(film[:, :, 5:], history)
    wanted, _ = plain.encode(film)
    assert gap(torch.cat([latents, later], dim=2), wanted) < 1e-5
    first, history = laid.decode(wanted[:, :, :1])
    rest, _ = laid.decode(wanted[:, :, 1:], history)
    assert gap(torch.cat([first, rest], dim=2), plain.decode(wanted)[0]) < 1e-5
    assert all(x.is_contiguous() for x in (latents, later, first, rest)), "outside, no one need know"


def test_all_between_lies_as_the_weights_do(monkeypatch: pytest.MonkeyPatch):
    """With convolutions that keep the layout; those which PyTorch chooses for tiny inputs do not."""
    found = []
    for kind, layout in ((nn.Conv3d, torch.channels_last_3d), (nn.Conv2d, torch.channels_last)):
        plain = kind._conv_forward

        def watched(self: Any, x: Tensor, *rest: Any, plain: Any = plain, layout: Any = layout) -> Tensor:
            found.append(x.is_contiguous(memory_format=layout))
            return plain(self, x, *rest).contiguous(memory_format=layout)

        monkeypatch.setattr(kind, "_conv_forward", watched)
    laid = channels_last(SPEC.build().eval().requires_grad_(False))
    latents, history = laid.encode(torch.rand(1, 3, 5, 16, 24))
    laid.encode(torch.rand(1, 3, 4, 16, 24), history)
    laid.decoder(latents.contiguous(memory_format=torch.channels_last_3d), None)
    assert len(found) > 50
    assert all(found)
