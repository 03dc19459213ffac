"""VACE's packed input against a packing by hand, pixel by pixel, with videos and images already in the video's size."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import ConditionerOutput, Units, VideoSize
from kinoform.conditions.standard_inputs import MASK, REFERENCE_IMAGES
from kinoform.conditions.standard_inputs import VIDEO as VIDEO_INPUT
from kinoform.conditions.vace import Vace
from kinoform.conditions.vace_latents import control_size, covering, on_white, packed_mask, shown_frames
from kinoform.media.types import InputImage, InputVideo, Mask
from kinoform.models.codec import Codec, IdentityCodec
from kinoform.models.vace_blocks import VaceContext
from tests.conditions.in_hand import CODECS, InHand, image, random_module
from tests.models.recorded import gap

WAN = Units(stride=(4, 8, 8), patch=(1, 2, 2))
FRAMES, HEIGHT, WIDTH = 9, 16, 24
VIDEO = VideoSize(num_frames=FRAMES, height=HEIGHT, width=WIDTH)
CLIP = InputVideo(frames=np.random.default_rng(1).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8))
IMAGES = tuple(image(seed, HEIGHT, WIDTH) for seed in (2, 3, 4))


def noisy(frames: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (frames, HEIGHT, WIDTH), dtype=np.uint8)


def white_at(*places: int) -> np.ndarray:
    values = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    values[list(places)] = 255
    return values


MASKS = {
    "none": None,
    "first frame kept": white_at(*range(1, FRAMES)),
    "last frame kept": white_at(*range(FRAMES - 1)),
    "the frames that a latent frame's mask is not taken from": white_at(0, 2, 3, 5, 6, 8),
    "greys": noisy(FRAMES),
    "one frame of greys for all": noisy(1),
}
MADE_CODECS = {name: random_module(spec) for name, spec in CODECS.items()} | {"identity": IdentityCodec()}


def given_by(inputs: Inputs, codec: Codec, video: VideoSize = VIDEO) -> tuple[Tensor, ConditionerOutput]:
    given = Vace().encode(inputs, video, InHand(made_codec=codec))
    control = given.branches["vace"]
    assert isinstance(control, VaceContext)
    assert not given.context and given.channels is None and given.clean is None
    return control.latents, given


def by_hand(codec: Codec, clip: np.ndarray | None, mask: np.ndarray | None, references: Sequence[InputImage]) -> Tensor:
    """Each half encoded as one video; the mask walked pixel by pixel."""
    time, rows, columns = codec.stride
    count, halves = 1 + (FRAMES - 1) // time, np.zeros((2, 3, FRAMES, HEIGHT, WIDTH), np.float32)
    cells = torch.zeros(rows * columns, len(references) + count, HEIGHT // rows, WIDTH // columns)

    def white(t: int, y: int, x: int) -> int:
        return 255 if mask is None else int(mask[t if len(mask) > 1 else 0, y, x])

    for t, y, x in np.ndindex(FRAMES, HEIGHT, WIDTH):
        value = 0.0 if clip is None else clip[t, y, x] / 127.5 - 1
        halves[int(white(t, y, x) / 255 > 0.5), :, t, y, x] = value
    for j in range(count):
        middle = (j + 0.5) * FRAMES / count
        nearest = min(range(FRAMES), key=lambda t: abs(t + 0.5 - middle))
        for y, x in np.ndindex(HEIGHT, WIDTH):
            channel = columns * (y % rows) + x % columns
            cells[channel, len(references) + j, y // rows, x // columns] = white(nearest, y, x) / 255
    latents = [codec.encode(torch.from_numpy(half)[None])[0] for half in halves]
    packed = torch.cat(latents, dim=1)
    for one in reversed(references):
        pixels = torch.from_numpy(one.pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
        alone = codec.encode(pixels[None, :, None])[0]
        packed = torch.cat([torch.cat([alone, 0 * alone], dim=1), packed], dim=2)
    return torch.cat([packed, cells[None]], dim=1)


@pytest.mark.parametrize("references", [0, 1, 3])
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("codec", MADE_CODECS)
def test_the_control_is_packed_as_by_hand(codec: str, name: str, references: int) -> None:
    made, mask, shown = MADE_CODECS[codec], MASKS[name], IMAGES[:references]
    inputs = Inputs({VIDEO_INPUT: CLIP, MASK: None if mask is None else Mask(values=mask), REFERENCE_IMAGES: shown})
    found, given = given_by(inputs, made)
    wanted = by_hand(made, CLIP.frames, mask, shown)
    latents = 2 * made.channels
    assert found.shape == wanted.shape and found.shape[1] == latents + made.stride[1] * made.stride[2]
    assert gap(found[:, :latents], wanted[:, :latents]) < 1e-5
    assert torch.allclose(found[:, latents:], wanted[:, latents:], rtol=0, atol=1e-7)
    assert given.constraints.prefix_frames == references


@pytest.mark.parametrize("references", [0, 3])
def test_without_a_video_everything_is_grey_and_to_be_made(references: int) -> None:
    codec = MADE_CODECS["4"]
    found, _ = given_by(Inputs({REFERENCE_IMAGES: IMAGES[:references]}), codec)
    assert gap(found, by_hand(codec, None, None, IMAGES[:references])) < 1e-5
    assert (found[:, 32:, references:] == 1).all() and (found[:, 32:, :references] == 0).all()


def test_a_reference_does_not_depend_on_the_others() -> None:
    """Bit for bit: each is encoded alone; and the same request twice is the same bytes."""
    codec = MADE_CODECS["4"]
    three, again = (given_by(Inputs({VIDEO_INPUT: CLIP, REFERENCE_IMAGES: IMAGES}), codec)[0] for _ in range(2))
    assert torch.equal(three, again)
    for place, one in enumerate(IMAGES):
        alone, _ = given_by(Inputs({VIDEO_INPUT: CLIP, REFERENCE_IMAGES: (one,)}), codec)
        assert torch.equal(alone[:, :, 0], three[:, :, place]) and torch.equal(alone[:, :, 1:], three[:, :, 3:])


# The mask


def test_a_pixel_of_a_cell_has_its_own_channel() -> None:
    """As checked by running the official code: pixel (3, 5) of a cell is channel 29."""
    mask = torch.zeros(9, 16, 24, dtype=torch.uint8)
    mask[:, 8 + 3, 16 + 5] = 255
    found = packed_mask(mask, (4, 8, 8))
    assert found.shape == (1, 64, 3, 2, 3)
    assert (found[0, 29, :, 1, 2] == 1).all() and found.sum() == 3


@pytest.mark.parametrize(
    ("frames", "taken"),
    [(9, [1, 4, 7]), (81, [*range(1, 26, 4), 28, 32, 36, 40, 44, 48, *range(52, 56, 3), *range(59, 80, 4)])],
)
def test_latent_frames_take_the_official_frames_of_the_mask(frames: int, taken: list[int]) -> None:
    mask = torch.arange(frames, dtype=torch.uint8)[:, None, None].expand(-1, 8, 8)
    found = (255 * packed_mask(mask, (4, 8, 8))[0, 0, :, 0, 0]).round()
    assert found.tolist() == taken
    again = F.interpolate(mask[None, None].float(), size=(len(taken), 8, 8), mode="nearest-exact")
    assert found.tolist() == again[0, 0, :, 0, 0].tolist()


# Size and time


@pytest.mark.parametrize(
    ("given", "asked", "made"),
    [
        ((81, 480, 832), (81, 480, 832), (81, 480, 832)),
        ((81, 720, 1280), (81, 480, 832), (81, 480, 832)),
        ((81, 1280, 720), (81, 480, 832), (81, 848, 464)),
        ((81, 720, 1280), (81, 720, 1280), (81, 720, 1280)),
        ((200, 480, 832), (81, 480, 832), (81, 480, 832)),
        ((200, 240, 416), (81, 480, 832), (197, 240, 416)),
        ((400, 240, 416), (81, 480, 832), (333, 240, 416)),
        ((8, 100, 100), (81, 480, 832), (5, 96, 96)),
        ((5, 16, 4000), (81, 480, 832), (5, 16, 4000)),
        ((5, 15, 400), (81, 480, 832), (5, 0, 0)),
    ],
)
def test_the_size_follows_the_official_rule(
    given: tuple[int, int, int], asked: tuple[int, int, int], made: tuple[int, int, int]
) -> None:
    """Sizes computed by hand: at most so many tokens, of 16x16 pixels and 4 frames, in the video's proportions."""
    frames, *size = given
    video = VideoSize(num_frames=asked[0], height=asked[1], width=asked[2])
    found = control_size(frames, (size[0], size[1]), video, WAN)
    assert (found.num_frames, found.height, found.width) == made


def test_frames_are_taken_evenly_from_the_first_to_the_last() -> None:
    assert shown_frames(81, 81) == list(range(81))
    assert shown_frames(9, 5) == [0, 2, 4, 6, 8]
    assert shown_frames(12, 9) == [0, 1, 2, 4, 5, 7, 8, 10, 11]
    for frames in range(5, 120):
        found = shown_frames(frames, 1 + (frames - 1) // 4 * 4)
        assert found[0] == 0 and found[-1] == frames - 1
        assert all(0 < after - before <= 2 for before, after in pairwise(found))


@pytest.mark.parametrize("size", [(16, 48), (48, 16), (32, 40), (20, 25)])
def test_a_video_covers_its_size_from_the_middle(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(6).integers(0, 256, (2, 20, 25, 3), dtype=np.uint8)
    scale = max(size[0] / 20, size[1] / 25)
    outer = round(20 * scale), round(25 * scale)
    whole = torch.from_numpy(frames).permute(0, 3, 1, 2)
    whole = whole if outer == (20, 25) else F.interpolate(whole, size=outer, mode="bicubic", antialias=True)
    top, left = (outer[0] - size[0]) // 2, (outer[1] - size[1]) // 2
    assert torch.equal(covering(frames, size), whole[:, :, top : top + size[0], left : left + size[1]])
    assert (covering(np.full_like(frames, 77), size) == 77).all()


def test_a_reference_stands_whole_in_the_middle_of_white() -> None:
    dark = np.zeros((10, 40, 3), np.uint8)
    found = on_white(dark, (32, 48))
    inner = found[:, 10:22]  # 40 columns become 48, so 10 rows become 12
    assert (inner == -1).all() and found.sum() == 3 * 48 * (32 - 12) - 3 * 48 * 12
    large = np.zeros((320, 480, 3), np.uint8)
    assert (on_white(large, (32, 48)) == -1).all(), "an image of the video's proportions fills it"
    assert on_white(np.zeros((1, 5000, 3), np.uint8), (16, 16)).eq(-1).sum() == 3 * 16, "one row is left of it"
