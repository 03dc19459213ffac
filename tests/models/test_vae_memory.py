"""The autoencoder holds no more than it must: one history, no scores of all places with all others."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.models.codec import decode_video, encode_video, given_up
from kinoform.models.vae import VAE, VAESpec
from kinoform.models.vae22 import VAE22, VAE22Spec
from kinoform.models.vae_blocks import FrameAttention, Memory
from tests.models.recorded import spread
from tests.support.live_bytes import LiveBytes

SPEC = VAESpec(dim=4, channels=3, multipliers=(1, 2, 2, 2), residual_blocks=1, mean=(), std=())
SPEC_22 = VAE22Spec(dim=4, decoder_dim=4, channels=3, residual_blocks=1, mean=(), std=())
PLACES = 64


def built(spec: VAESpec | VAE22Spec = SPEC) -> VAE | VAE22:
    vae = spec.build().eval().requires_grad_(False)
    spread(vae, seed=1)
    return vae


def chunks(vae: VAE | VAE22, half: str) -> list[Tensor]:
    """Four pieces, as a video has them."""
    generator = torch.Generator().manual_seed(2)
    if half == "decode":
        return list(torch.randn(1, vae.channels, 4, 8, 8, generator=generator).split(1, dim=2))
    video = torch.rand(1, 3, 13, 64, 64, generator=generator) * 2 - 1
    return [video[:, :, :1], *video[:, :, 1:].split(4, dim=2)]


def held(history: Any) -> int:
    return sum(each.nbytes for each in history.network)


@pytest.mark.parametrize("half", ["encode", "decode"])
def test_a_history_that_is_given_up_is_freed_while_the_next_is_made(half: str):
    """Then the most that is alive is less by what was taken of it by then; the numbers are the same to the bit."""
    vae = built()
    step, (start, then, *_) = getattr(vae, half), chunks(vae, half)
    with LiveBytes() as live:
        _, history = step(start)
        live.peak = live.now
        kept, _ = step(then, history)
        beside, size = live.peak, held(history)
        del _
        live.peak = live.now
        history = given_up(history)
        freed, _ = step(then, history)
        assert beside - (live.peak - kept.nbytes) > 0.4 * size
    assert torch.equal(kept, freed)


@pytest.mark.parametrize("spec", [SPEC, SPEC_22], ids=["2.1", "2.2"])
@pytest.mark.parametrize("half", ["encode", "decode"])
def test_a_video_is_worked_on_with_one_history(half: str, spec: VAESpec | VAE22Spec):
    """A video of four pieces takes no more than its worst piece with a history given up."""
    vae = built(spec)
    pieces = chunks(vae, half)
    history, most = None, 0
    for piece in pieces:
        with LiveBytes() as live:
            step = vae.decode if half == "decode" else vae.encode
            _, history = step(piece, given_up(history))
        most = max(most, live.peak)
    size = held(history)
    with LiveBytes() as live:
        if half == "decode":
            for frames in decode_video(vae, torch.cat(pieces, dim=2)):
                del frames
        else:
            encode_video(vae, iter(pieces))
    assert live.peak < most + 1.2 * size, "the pieces were counted without the history that they began with"
    assert live.now == 0


@pytest.mark.parametrize("shortcut", [False, True])
def test_a_video_is_that_of_a_history_kept(shortcut: bool):
    vae = built(replace(SPEC, shortcut=shortcut))
    pieces, history, wanted = chunks(vae, "decode"), None, []
    for piece in pieces:
        frames, history = vae.decode(piece, history)
        wanted.append(frames)
    assert all(map(torch.equal, decode_video(vae, torch.cat(pieces, dim=2)), wanted))


@pytest.mark.parametrize("laid", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_no_scores_of_a_whole_frame_are_held(laid: bool, fast: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kinoform.ops.attention.multiplies", lambda dtype: fast)
    layer = FrameAttention(4).requires_grad_(False)
    x = torch.randn(1, 4, 1, PLACES, PLACES)
    if laid:
        for weight in layer.parameters():
            if weight.ndim == 4:
                weight.data = weight.contiguous(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last_3d)
    with LiveBytes() as live:
        layer(x, Memory(None))
    assert live.largest < PLACES**4 * x.itemsize / 16
