"""A source on channels: what may change and what it shows, on the latent grid; nothing where none is given."""

import numpy as np
import pytest
import torch

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import Units, VideoSize
from kinoform.conditions.source_channels import SourceChannels, changing_share
from kinoform.conditions.standard_inputs import MASK, VIDEO
from kinoform.media.types import InputVideo, Mask
from kinoform.models.codec import to_signed
from kinoform.pipelines.part_cache import PartEncoders
from kinoform.recipes.load import load
from tests.support.refusals import refused

SIZE = VideoSize(num_frames=5, height=32, width=32)
CLIP = InputVideo(frames=np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8), fps=16.0)


def mask(frames: int) -> Mask:
    """White in the upper left 12x12 pixels; in several frames, from frame 3 on."""
    values = np.zeros((frames, 32, 32), np.uint8)
    values[0 if frames == 1 else 3 :, :12, :12] = 255
    return Mask(values=values)


def test_channels_are_the_share_that_changes_and_the_latents_of_the_video() -> None:
    parts = load("mini", device="cpu", dtype="float32").parts
    encoders = PartEncoders(parts, torch.device("cpu"), torch.float32)
    one = SourceChannels()
    empty = one.encode(Inputs(), SIZE, encoders).channels
    assert empty is not None and empty.shape == (1, 33, 2, 4, 4) and not empty.any()
    whole = one.encode(Inputs({VIDEO: CLIP}), SIZE, encoders)
    latents, _ = encoders.codec().encode(to_signed(CLIP.frames[None]))
    assert whole.channels is not None and (whole.channels[:, 0] == 1).all() and whole.constraints.inpainting is None
    assert torch.allclose(whole.channels[:, 1:], latents, atol=1e-5)
    masked = one.encode(Inputs({VIDEO: CLIP, MASK: mask(1)}), SIZE, encoders)
    assert masked.channels is not None and torch.equal(masked.channels[:, 1:], whole.channels[:, 1:])
    kept = masked.constraints.inpainting
    assert kept is not None and torch.equal(kept.mask[:, 0], masked.channels[:, 0] == 0)


@pytest.mark.parametrize(("frames", "shares"), [(1, (1.0, 1.0)), (5, (0.0, 0.5))])
def test_the_share_is_that_of_the_pixels_and_frames_of_a_cell(frames: int, shares: tuple[float, ...]) -> None:
    share = changing_share(mask(frames), CLIP, SIZE, (4, 8, 8))[0, 0]
    corner = torch.tensor([[1, 0.5, 0, 0], [0.5, 0.25, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(share, torch.stack([factor * corner for factor in shares]))


def test_what_cannot_be_is_refused_and_a_shorter_source_shortens_the_video() -> None:
    with refused("input_missing"):
        SourceChannels().check(Inputs({MASK: mask(1)}), SIZE)
    with refused("mask_full"):
        SourceChannels().check(Inputs({VIDEO: CLIP, MASK: Mask(values=np.full((1, 32, 32), 255, np.uint8))}), SIZE)
    units = Units(stride=(4, 8, 8), patch=(1, 2, 2))
    with pytest.warns(UserWarning, match="5 frames"):
        longer = VideoSize(num_frames=9, height=32, width=32)
        assert SourceChannels().size(Inputs({VIDEO: CLIP}), longer, units) == SIZE
