"""Codecs: legal sizes, whole videos, and pixels for the eye."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinoform.errors import UsageError
from kinoform.models.codec import Codec, IdentityCodec, check_size, decode_video, encode_video, latent_size, to_uint8
from kinoform.models.vae import VAESpec
from kinoform.ops.patch import Patch
from tests.models.recorded import gap, spread
from tests.support.refusals import refused

WAN = VAESpec()
VOLUMES: Patch = (4, 8, 8)


def refusal(code: str, codec: Any, patch: Patch, frames: int, height: int, width: int) -> str:
    with refused(code) as caught:
        check_size(codec, patch, frames, height, width)
    return str(caught.value)


def legal(codec: Any, patch: Patch, frames: int, height: int, width: int) -> bool:
    try:
        check_size(codec, patch, frames, height, width)
    except UsageError:
        return False
    return True


def test_both_codecs_keep_the_protocol():
    assert isinstance(IdentityCodec(), Codec)
    assert isinstance(VAESpec(dim=2, multipliers=(1, 1), time_downsample=(True,)).build(), Codec)


def test_identity_gives_back_what_it_takes():
    pixels = torch.randn(1, 3, 6, 4, 4)
    latents, history = IdentityCodec().encode(pixels)
    assert torch.equal(latents, pixels)
    assert torch.equal(IdentityCodec().decode(latents, history)[0], pixels)
    assert latent_size(IdentityCodec(), 6, 4, 4) == (6, 4, 4)


def test_latents_have_one_frame_and_then_one_for_every_four():
    assert latent_size(WAN, 81, 480, 832) == (21, 60, 104)
    assert latent_size(WAN, 1, 480, 832) == (1, 60, 104)


@pytest.mark.parametrize(("frames", "near"), [(80, "77 and 81"), (82, "81 and 85"), (2, "1 and 5"), (0, "1")])
def test_a_wrong_number_of_frames_is_told_the_nearest(frames: int, near: str):
    text = refusal("frames_not_multiple", WAN, (1, 2, 2), frames, 480, 832)
    assert text.startswith(f"{frames} frames") and text.endswith(f" {near}")


@pytest.mark.parametrize(
    ("height", "width", "axis", "wrong", "near"),
    [
        (480, 833, "width", 833, "832 and 848"),
        (479, 832, "height", 479, "464 and 480"),
        (488, 832, "height", 488, "480 and 496"),  # a multiple of the stride, but not of stride times patch
        (480, 5, "width", 5, "16"),
        (0, 832, "height", 0, "16"),
    ],
)
def test_a_wrong_side_is_told_the_nearest(height: int, width: int, axis: str, wrong: int, near: str):
    text = refusal("size_not_multiple", WAN, (1, 2, 2), 81, height, width)
    assert f"{axis} of {wrong}" in text and text.endswith(f" {near}")


def test_exactly_the_sizes_that_divide_are_legal():
    for frames in range(-3, 30):
        assert legal(WAN, (1, 2, 2), frames, 480, 832) == (frames > 0 and frames % 4 == 1), frames
        assert legal(IdentityCodec(), VOLUMES, frames, 16, 16) == (frames > 0 and frames % 4 == 0), frames
        assert legal(WAN, (3, 2, 2), frames, 480, 832) == (frames > 0 and frames % 12 == 9), frames
    for side in range(-3, 70):
        assert legal(WAN, (1, 2, 2), 81, side, 832) == legal(WAN, (1, 2, 2), 81, 480, side), side
        assert legal(WAN, (1, 2, 2), 81, side, 832) == (side > 0 and side % 16 == 0), side
        assert legal(IdentityCodec(), VOLUMES, 4, side, 16) == (side > 0 and side % 8 == 0), side


def test_volume_patches_of_pixels_name_their_multiples():
    assert "4 and 8" in refusal("frames_not_multiple", IdentityCodec(), VOLUMES, 6, 16, 16)
    assert "16 and 24" in refusal("size_not_multiple", IdentityCodec(), VOLUMES, 4, 16, 20)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 9])
def test_a_video_is_the_same_in_chunks_of_any_length(chunk: int):
    vae = VAESpec(dim=4, channels=2, multipliers=(1, 2), residual_blocks=1, time_downsample=(True,), mean=(), std=())
    codec = vae.build().requires_grad_(False)
    spread(codec, seed=1)
    latents = torch.randn(1, 2, 5, 2, 2, generator=torch.Generator().manual_seed(2))
    whole, _ = codec.decode(latents)
    parts = list(decode_video(codec, latents, chunk))
    assert len(parts) == -(-5 // chunk), "one at a time"
    assert gap(torch.cat(parts, dim=2), whole) < 1e-5
    pixels = whole[:, :, :9]
    chunks = [pixels[:, :, :1], *pixels[:, :, 1:].split(2 * chunk, dim=2)]
    assert gap(encode_video(codec, iter(chunks)), codec.encode(pixels)[0]) < 1e-5


def test_decoding_waits_for_the_reader():
    """The video is made as it is read, so no more than a chunk is ever held."""
    calls: list[int] = []

    class Counting(IdentityCodec):
        def decode(self, latents: Tensor, history: Any = None) -> tuple[Tensor, Any]:
            calls.append(latents.shape[2])
            return latents, ()

    video = decode_video(Counting(), torch.zeros(1, 3, 4, 2, 2))
    assert calls == []
    next(video)
    assert calls == [1]


def test_pixels_for_the_eye_are_truncated_not_rounded():
    levels = torch.tensor([-9.0, -1.0, -0.999, 0.0, 0.5, 0.999, 1.0, 9.0])
    frames = to_uint8(levels.view(1, 1, 1, -1).expand(3, 2, 1, -1))
    assert frames.shape == (2, 1, 8, 3) and frames.dtype == np.uint8
    assert frames[0, 0, :, 0].tolist() == [0, 0, 0, 127, 191, 254, 255, 255]


def test_the_axes_of_pixels_for_the_eye():
    pixels = torch.full((3, 2, 4, 5), -1.0)
    pixels[2, 1, 3, 0] = 1
    assert np.argwhere(to_uint8(pixels)).tolist() == [[1, 3, 0, 2]]


def test_every_grey_level_can_be_shown():
    levels = (torch.arange(256) + 0.5) / 127.5 - 1
    assert to_uint8(levels.view(1, 1, 1, -1).expand(3, 1, 1, -1))[0, 0, :, 1].tolist() == list(range(256))
