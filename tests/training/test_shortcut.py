"""The closed-form shortcut: the best linear codec of its size, with latents that suit flow matching."""

import numpy as np
import pytest
import torch
from einops import rearrange

from kinoform.mini.training.autoencoder_stage import fit_shortcut
from kinoform.mini.training.dataset import Videos
from kinoform.models.shortcut import LinearShortcut, whole_patches
from kinoform.models.vae import VAESpec
from kinoform.world.sampling import L1

VIDEOS = Videos(level=L1, num_frames=9, height=32, width=32, seed=5)
STRIDE = (4, 8, 8)


@pytest.fixture(scope="module")
def videos() -> torch.Tensor:
    return VIDEOS.pixels(VIDEOS.scenes(0, 40)[0])


@pytest.fixture(scope="module")
def shortcut(videos: torch.Tensor) -> LinearShortcut:
    module = LinearShortcut(12, STRIDE)
    fit_shortcut(module, lambda: videos.split(10))
    return module.requires_grad_(False)


def test_no_projection_of_its_size_loses_less(videos: torch.Tensor, shortcut: LinearShortcut) -> None:
    """What cannot be restored is exactly the energy of the components left out (Eckart and Young, 1936)."""
    still = videos[:, :, :1].expand(-1, -1, 3, -1, -1)
    rows = whole_patches(torch.cat([still, videos], dim=2), STRIDE).flatten(0, 3).double()
    centred = rows - rows.mean(0)
    energy = torch.linalg.svdvals(centred).square()
    latents = centred @ shortcut.analysis.double().T
    restored = latents @ torch.linalg.lstsq(latents, centred).solution
    lost = (restored - centred).square().sum()
    assert lost.item() == pytest.approx(energy[12:].sum().item(), rel=1e-3)


def test_neighbours_help_to_restore(videos: torch.Tensor, shortcut: LinearShortcut) -> None:
    """The convolution restores more than any patch-by-patch map, on the videos it was fitted to."""
    latents = shortcut.encode(videos, first=True)
    restored, _ = shortcut.decode(latents, None)
    rows = rearrange(latents[:, :, 1:], "b c t h w -> (b t h w) c")
    wanted = whole_patches(videos[:, :, 1:], STRIDE).flatten(0, 3)
    with_constant = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    alone = with_constant @ torch.linalg.lstsq(with_constant, wanted).solution
    assert (restored[:, :, 1:] - videos[:, :, 1:]).square().sum() < 0.95 * (alone - wanted).square().sum()


def test_latents_have_unit_mean_square_and_the_strongest_first(videos: torch.Tensor, shortcut: LinearShortcut) -> None:
    latents = shortcut.encode(videos, first=True)
    assert latents.square().mean().item() == pytest.approx(1, rel=0.02)
    deviation = latents.std(dim=(0, 2, 3, 4))
    assert deviation[0] > deviation[5] > deviation[11] > 0


def test_a_still_video_has_the_same_latents_at_every_time(shortcut: LinearShortcut, videos: torch.Tensor) -> None:
    still = videos[:1, :, :1].expand(-1, -1, 9, -1, -1)
    latents = shortcut.encode(still, first=True)
    assert torch.allclose(latents, latents[:, :, :1].expand_as(latents), atol=1e-5)


def test_the_same_videos_give_the_same_codec(videos: torch.Tensor, shortcut: LinearShortcut) -> None:
    again = LinearShortcut(12, STRIDE)
    fit_shortcut(again, lambda: videos.flip(0).split(8))
    assert torch.allclose(again.analysis, shortcut.analysis, atol=1e-3)


def test_the_autoencoder_begins_as_its_shortcut() -> None:
    from kinoform.mini.training.autoencoder_stage import AutoencoderConfig, new_autoencoder

    spec = VAESpec(dim=4, channels=12, residual_blocks=1, mean=(), std=(), shortcut=True)
    vae = new_autoencoder(AutoencoderConfig(codec=spec, videos=VIDEOS, fit_videos=50))
    pixels = VIDEOS.pixels(VIDEOS.scenes(1, 2)[0])
    assert vae.shortcut is not None
    with torch.no_grad():
        latents, _ = vae.encode(pixels)
        drawn, _ = vae.decode(latents)
        assert torch.equal(drawn, vae.shortcut.decode(latents, None)[0])
    assert not any(p.requires_grad for p in vae.shortcut.parameters())


def test_training_videos_are_a_function_of_seed_and_step() -> None:
    first, again = (VIDEOS.pixels(VIDEOS.scenes(7, 3)[0]) for _ in range(2))
    other = VIDEOS.pixels(VIDEOS.scenes(8, 3)[0])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    objects = VIDEOS.objects(VIDEOS.scenes(7, 3)[0])
    assert objects.shape == (3, 1, 9, 32, 32)
    assert 0.02 < objects.float().mean().item() < 0.4
    assert np.isfinite(first.numpy()).all() and first.min() >= -1 and first.max() <= 1
