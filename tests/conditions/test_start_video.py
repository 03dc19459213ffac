"""A video to begin from: its length and size, what a mask lets change, and the sentences for what does not fit."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.conditions.clip_checks import clip_chunks, free_cells
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import NOTHING, Conditioner, ConditionerOutput, Units, VideoSize
from kinoform.conditions.resize import signal
from kinoform.conditions.standard_inputs import MASK, SOURCE_PROMPT, STRENGTH
from kinoform.conditions.standard_inputs import VIDEO as VIDEO_INPUT
from kinoform.conditions.video_to_video import StartVideo
from kinoform.media.types import InputVideo, Mask, Origin
from kinoform.models.codec import IdentityCodec, encode_video
from kinoform.types import Level
from tests.conditions.in_hand import CODECS, InHand, random_module
from tests.support.named_inputs import named
from tests.support.refusals import refused

WAN = Units(stride=(4, 8, 8), patch=(1, 2, 2))
VIDEO = VideoSize(num_frames=9, height=16, width=24)
PIXELS = InHand()
STRIDED = InHand(made_codec=random_module(CODECS["2"]))
"""Latent frames of 1, 2, 2, 2 and 2 frames, latent cells of 2x2 pixels."""


def clip(frames: int = 9, height: int = 16, width: int = 24, seed: int = 1) -> InputVideo:
    values = np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return InputVideo(frames=values, fps=16.0, origin=Origin(file="ball.mp4", sha256="0" * 64))


def mask(white: Any, frames: int = 1, height: int = 16, width: int = 24) -> Mask:
    """Black but for `white`, an index of [frame, row, column]."""
    values = np.zeros((frames, height, width), dtype=np.uint8)
    values[white] = 255
    return Mask(values=values, origin=Origin(file="hole.png", sha256="1" * 64))


def given(encoders: InHand = PIXELS, size: VideoSize = VIDEO, **inputs: Any) -> ConditionerOutput:
    """After the checks, without their warnings."""
    asked, way = named(**inputs), StartVideo()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        way.check(asked, size)
    return way.encode(asked, size, encoders)


def sentence(code: str, **inputs: Any) -> str:
    with refused(code) as caught:
        given(**inputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_protocol_is_kept() -> None:
    assert isinstance(StartVideo(), Conditioner)
    assert StartVideo().inputs == (
        VIDEO_INPUT,
        MASK,
        STRENGTH,
        SOURCE_PROMPT,
    )


def test_without_a_video_it_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert StartVideo().size(Inputs(), VIDEO, WAN) == VIDEO
        StartVideo().check(Inputs(), VIDEO)
    assert StartVideo().encode(Inputs(), VIDEO, PIXELS) is NOTHING


# Length and size


@pytest.mark.parametrize(
    ("there", "asked", "made"),
    [(9, 9, 9), (30, 9, 9), (9, 81, 9), (12, 81, 9), (80, 81, 77), (5, 81, 5), (3, 1, 1), (1, 1, 1)],
)
def test_a_video_is_as_long_as_asked_for_or_as_the_clip(there: int, asked: int, made: int) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        size = StartVideo().size(
            Inputs({VIDEO_INPUT: clip(there)}), VideoSize(num_frames=asked, height=16, width=24), WAN
        )
    assert size == VideoSize(num_frames=made, height=16, width=24)
    told = " ".join(str(each.message) for each in said)
    assert (f"ball.mp4 has {there} frames; the first {made} are taken" in told) == (made < there)
    assert (f"{made} frames are made instead of {asked}" in told) == (made < asked)


@pytest.mark.parametrize(("patch", "there", "made"), [((2, 2, 2), 27, 21), ((2, 2, 2), 5, 5), ((3, 1, 1), 22, 21)])
def test_whole_patches_of_latent_frames_are_made(patch: tuple[int, int, int], there: int, made: int) -> None:
    units = Units(stride=(4, 8, 8), patch=patch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        size = StartVideo().size(
            Inputs({VIDEO_INPUT: clip(there)}), VideoSize(num_frames=81, height=16, width=24), units
        )
    assert size.num_frames == made and (1 + (made - 1) // 4) % patch[0] == 0


@pytest.mark.parametrize("there", [1, 2, 4])
def test_a_clip_too_short_for_a_video_is_refused(there: int) -> None:
    with refused("video_too_short", "ball.mp4", f"{there} ", "5"):
        StartVideo().size(Inputs({VIDEO_INPUT: clip(there)}), VIDEO, WAN)


def test_a_video_of_the_right_size_is_taken_as_it_is() -> None:
    whole = clip()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StartVideo().check(Inputs({VIDEO_INPUT: whole}), VIDEO)
    start = given(video=whole).constraints.init_latents
    assert start is not None and torch.equal(start[0].transpose(0, 1), signal(whole.frames))


def test_chunks_are_the_video() -> None:
    """Of any size: what is encoded piece by piece is what stands in the frames one by one."""
    longer = clip(12, 40, 30)
    chunks = list(clip_chunks(longer, VIDEO, 4))
    assert [chunk.shape for chunk in chunks] == [(1, 3, frames, 16, 24) for frames in (1, 4, 4)]
    alone = [next(clip_chunks(InputVideo(frames=longer.frames[i : i + 1]), VIDEO, 4)) for i in range(9)]
    assert torch.equal(torch.cat(chunks, dim=2), torch.cat(alone, dim=2))
    assert all(chunk.abs().max() <= 1 for chunk in chunks)


def test_the_middle_of_other_proportions_is_kept_and_said() -> None:
    """48x16 in the proportions of 24x16 is its middle, of the right size already."""
    wide = clip(width=48)
    with pytest.warns(UserWarning, match="ball.mp4 of 48x16, of which the middle 24x16 is taken is brought to 24x16"):
        StartVideo().check(Inputs({VIDEO_INPUT: wide}), VIDEO)
    start = given(video=wide).constraints.init_latents
    assert start is not None and torch.equal(start[0].transpose(0, 1), signal(wide.frames[:, :, 12:36]))


def test_a_resize_is_said_and_is_antialiased() -> None:
    """A fine checkerboard becomes grey, and does not turn into stripes."""
    board = np.indices((9, 64, 96)).sum(0)[..., None].repeat(3, -1) % 2 * 255
    large = InputVideo(frames=board.astype(np.uint8))
    with pytest.warns(UserWarning, match="the video of 96x64 is brought to 24x16"):
        StartVideo().check(Inputs({VIDEO_INPUT: large}), VIDEO)
    start = given(video=large).constraints.init_latents
    assert start is not None and start.abs().mean() < 0.02


def test_a_video_is_encoded_as_the_codec_encodes_videos() -> None:
    whole = clip()
    start = given(STRIDED, video=whole).constraints.init_latents
    pixels = signal(whole.frames).transpose(0, 1)[None]
    expected = encode_video(STRIDED.codec(), iter([pixels[:, :, :1], pixels[:, :, 1:5], pixels[:, :, 5:]]))
    assert start is not None and start.shape == (1, 5, 5, 8, 12)
    assert torch.allclose(start, expected, atol=1e-5)
    again = given(STRIDED, video=whole).constraints.init_latents
    assert again is not None and torch.equal(start, again)


# Strength and mask


def test_strength_by_default() -> None:
    whole, hole = clip(), mask(np.s_[:, :8, :])
    assert given(video=whole).constraints.strength == 0.7
    assert given(video=whole, mask=hole).constraints.strength == 1.0
    assert given(video=whole, mask=hole, source_prompt="a ball").constraints.strength == 0.7
    assert given(video=whole, strength=0.3).constraints.strength == 0.3
    assert given(video=whole, strength=0.3, mask=hole).constraints.strength == 0.3


def test_black_stays_and_white_changes() -> None:
    whole, hole = clip(), mask(np.s_[:, 4:9, 10:20])
    constraints = given(video=whole, mask=hole).constraints
    assert constraints.inpainting is not None and constraints.init_latents is not None and constraints.inpainting.noised
    x, noise = torch.randn(2, *constraints.init_latents.shape, generator=torch.Generator().manual_seed(0)).unbind()
    for sigma in (0.0, 0.4, 1.0):
        kept = constraints.inpainting.impose(x, Level(sigma=sigma, timestep=1000 * sigma), noise)
        mixed = (1 - sigma) * constraints.init_latents + sigma * noise
        white = torch.from_numpy(hole.values > 0).expand(9, -1, -1)
        assert torch.equal(kept[..., white], x[..., white])
        assert torch.allclose(kept[..., ~white], mixed[..., ~white])


def test_a_cell_is_free_where_any_of_its_pixels_in_any_frame_is_white() -> None:
    draw = np.random.default_rng(3)
    for stride in ((1, 1, 1), (2, 2, 4), (4, 8, 8)):
        for _ in range(5):
            white = draw.random((9, 16, 24)) < 0.02
            free = free_cells(white, VIDEO, stride)
            for f, h, w in np.ndindex(*free.shape):
                frames = slice(0, 1) if f == 0 else slice(1 + (f - 1) * stride[0], 1 + f * stride[0])
                rows = slice(h * stride[1], (h + 1) * stride[1])
                columns = slice(w * stride[2], (w + 1) * stride[2])
                assert free[f, h, w] == white[frames, rows, columns].any()


def test_one_frame_of_a_mask_stands_for_all() -> None:
    once = np.random.default_rng(4).random((1, 16, 24)) < 0.02
    assert torch.equal(free_cells(once, VIDEO, (2, 4, 4)), free_cells(once.repeat(9, 0), VIDEO, (2, 4, 4)))


def test_a_mask_of_a_larger_video_loses_no_white() -> None:
    """A single white pixel of 640x480 frees the one or the few cells that it lies in."""
    draw = np.random.default_rng(5)
    for _ in range(20):
        row, column = draw.integers(480), draw.integers(640)
        white = np.zeros((1, 480, 640), dtype=bool)
        white[0, row, column] = True
        free = free_cells(white, VideoSize(num_frames=5, height=48, width=64), (4, 8, 8))
        assert free[:, row // 80, column // 80].all() and free[0].sum() <= 4


def test_grey_is_white_from_the_middle_on() -> None:
    values = np.zeros((1, 16, 24), dtype=np.uint8)
    values[0, :, 0], values[0, :, 1], values[0, :, 2] = 127, 128, 255
    known = given(video=clip(), mask=Mask(values=values)).constraints.inpainting
    assert (
        known is not None and not known.mask[..., 1:3].any() and known.mask[..., 0].all() and known.mask[..., 3:].all()
    )


def test_frames_of_a_mask_go_with_the_frames_of_the_video() -> None:
    longer, hole = clip(12), mask(np.s_[:5, :4], frames=12)
    known = given(STRIDED, video=longer, mask=hole).constraints.inpainting
    assert known is not None
    free = ~known.mask[0, 0]
    assert free[:3, :2].all() and not free[3:].any() and not free[:, 2:].any()


# Sentences


@pytest.mark.parametrize("wish", [{"strength": 0.5}, {"source_prompt": "a ball"}, {"mask": mask(np.s_[:, :4])}])
def test_what_needs_a_video_is_refused_without_one(wish: dict) -> None:
    assert next(iter(wish)).replace("_", " ") in sentence("input_missing", **wish)


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_named(strength: float) -> None:
    assert repr(strength) in sentence("value_out_of_range", video=clip(), strength=strength)


REFUSED = [
    (mask(np.s_[:0]), "mask_empty", "hole.png"),
    (mask(np.s_[:]), "mask_full", "hole.png"),
    (mask(np.s_[:, :4], height=8), "mask_size_differs", "24x8"),
    (mask(np.s_[:, :4], frames=5), "mask_length_differs", "5 frames"),
    (mask(np.s_[:, :4], frames=10), "mask_length_differs", "10 frames"),
]


@pytest.mark.parametrize(("hole", "code", "named"), REFUSED, ids=lambda each: str(each)[:30])
def test_a_mask_that_does_not_fit_is_refused(hole: Mask, code: str, named: str) -> None:
    assert named in sentence(code, video=clip(), mask=hole)


def test_white_outside_the_part_that_is_shown_is_none() -> None:
    assert "hole.png" in sentence("mask_empty", video=clip(width=48), mask=mask(np.s_[:, :, :10], width=48))


def test_a_mask_without_a_black_cell_is_refused() -> None:
    dotted = mask(np.s_[:, ::2, ::2])
    with refused("mask_full", "hole.png", "2x2"):
        given(STRIDED, video=clip(), mask=dotted)
    assert given(InHand(made_codec=IdentityCodec()), video=clip(), mask=dotted).constraints.inpainting is not None
