"""The embedded autoencoder gives videos back: readable, steady, and the same in pieces as whole."""

import numpy as np
import pytest
import torch

import kinoform
from kinoform.evaluation.tasks import LEVELS
from kinoform.models.codec import to_uint8
from kinoform.models.vae import VAE
from kinoform.world.backgrounds import PLAIN
from kinoform.world.constancy import background_drift
from kinoform.world.fidelity import foreground_psnr, psnr
from kinoform.world.reader import read
from kinoform.world.render import coverage, render
from kinoform.world.sampling import scene_from_seed
from kinoform.world.score import compare
from tests.support.narrowing import of_type

SCENES = 20
MOST_DRIFT = 6


@pytest.fixture(scope="module")
def codec() -> VAE:
    return of_type(VAE, kinoform.load("mini", device="cpu").parts.codec(torch.device("cpu")))


def pixels_of(video: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(video).movedim(-1, 0)[None].float() / 127.5 - 1


@pytest.mark.parametrize("level", LEVELS)
@torch.inference_mode()
def test_videos_are_readable_and_their_backgrounds_steady(codec: VAE, level: str) -> None:
    right, whole, objects = 0, [], []
    for seed in range(SCENES):
        scene = scene_from_seed(1000 + seed, LEVELS[level])
        video = render(scene)
        latents, _ = codec.encode(pixels_of(video))
        redrawn = to_uint8(codec.decode(latents)[0][0])
        right += compare(scene.story, read(redrawn)).all_right
        whole.append(psnr(redrawn, video))
        objects.append(foreground_psnr(redrawn, video, coverage(scene)))
        if scene.story.background.texture == PLAIN:
            assert background_drift(redrawn) <= MOST_DRIFT
    print(f"{level}: {right} of {SCENES}, PSNR {np.mean(whole):.1f} dB, on objects {np.mean(objects):.1f} dB")
    assert right >= 0.8 * SCENES
    assert np.mean(whole) > 27 and np.mean(objects) > 20


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (1, 2, 2), (2, 3), (4, 1)])
@torch.inference_mode()
def test_pieces_make_the_whole(codec: VAE, chunks: tuple[int, ...]) -> None:
    pixels = pixels_of(render(scene_from_seed(7, LEVELS["L3"])))
    latents, _ = codec.encode(pixels)
    history, pieces, first = None, [], 0
    for count in chunks:
        stop = first + count
        piece, history = codec.encode(pixels[:, :, max(0, 4 * first - 3) : 4 * stop - 3], history)
        pieces.append(piece)
        first = stop
    assert (torch.cat(pieces, 2) - latents).abs().max() < 1e-5
    video, _ = codec.decode(latents)
    history, pieces = None, []
    for part in latents.split(list(chunks), dim=2):
        piece, history = codec.decode(part, history)
        pieces.append(piece)
    assert (torch.cat(pieces, 2) - video).abs().max() < 1e-5
