"""The released Wan 2.1 models, with the defaults of the official command line."""

from dataclasses import replace

from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.vace import Vace
from kinoform.conditions.video_to_video import StartVideo
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.models.vision import VisionSpec
from kinoform.recipe import BySize, Recipe

NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，"
    "杂乱的背景，三条腿，背景人很多，倒着走"
)
SHAKING, CUTTING = "镜头晃动，", "镜头切换，"
"""Addition to the negative prompt of models that begin with an image."""

SMALL = DiTSpec(dim=1536, ffn_dim=8960, heads=12, layers=30)
LARGE = DiTSpec(dim=5120, ffn_dim=13824, heads=40, layers=40)
MASK_AND_LATENTS = 4 + 16
"""Channels behind the noisy latents: which of four frames are known, and the latents of a video that shows them."""

VISION = VisionSpec()

SHIFT_OF_IMAGES = BySize(area=832 * 480, small=3.0, large=5.0)
"""The official program goes by the size that is asked for, not by the weights, of which it knows but one kind."""


def t2v_1_3b() -> Recipe:
    """Return the recipe of T2V-1.3B: 832x480 (or 480x832), 81 frames at 16 fps.

    50 steps of UniPC, shift 5, guidance 5.
    """
    return Recipe(name="t2v-1.3b", transformers=(SMALL,), negative_prompt=NEGATIVE, conditioners=(StartVideo(),))


def t2v_14b() -> Recipe:
    """Return the recipe of T2V-14B: 1280x720 by default, otherwise as T2V-1.3B."""
    return replace(t2v_1_3b(), name="t2v-14b", transformers=(LARGE,), width=1280, height=720)


def t2i_14b() -> Recipe:
    """Return the recipe of T2I-14B: T2V-14B for one image, 1280x720 by default, 1024x1024 too; saved as png."""
    return replace(t2v_14b(), name="t2i-14b", num_frames=1)


def i2v_14b_480p() -> Recipe:
    """Return the recipe of I2V-14B-480P: the area of 832x480, otherwise as I2V-14B-720P."""
    return replace(i2v_14b_720p(), name="i2v-14b-480p", width=832, height=480)


def i2v_14b_720p() -> Recipe:
    """Return the recipe of I2V-14B-720P: from a first frame, in its proportions; the area of 1280x720, 40 steps.

    The shift is 3 up to the area of 832x480, 5 above.
    """
    return Recipe(
        name="i2v-14b-720p",
        transformers=(_seeing(ImageContext(width=VISION.dim)),),
        image=VISION,
        steps=40,
        shift=SHIFT_OF_IMAGES,
        negative_prompt=SHAKING + NEGATIVE,
        width=1280,
        height=720,
        conditioners=(KnownFrames(), ImageTokens()),
    )


def flf2v_14b() -> Recipe:
    """Return the recipe of FLF2V-14B: from a first and a last frame; the area of 1280x720, 50 steps, shift 16."""
    return replace(
        i2v_14b_720p(),
        name="flf2v-14b",
        transformers=(_seeing(ImageContext(width=VISION.dim, positions=2 * VISION.tokens)),),
        steps=50,
        shift=16.0,
        negative_prompt=CUTTING + SHAKING + NEGATIVE,
        conditioners=(KnownFrames(), ImageTokens(images=2)),
    )


def vace_1_3b() -> Recipe:
    """Return the recipe of VACE-1.3B: 832x480, shift 16; from a video to follow or to change, a mask, references."""
    return replace(
        t2v_1_3b(),
        name="vace-1.3b",
        transformers=(replace(SMALL, branches=(VaceBlocks(layers=tuple(range(0, SMALL.layers, 2))),)),),
        shift=16.0,
        conditioners=(Vace(),),
    )


def vace_14b() -> Recipe:
    """Return the recipe of VACE-14B: 1280x720 by default (or 832x480), otherwise as VACE-1.3B."""
    return replace(
        vace_1_3b(),
        name="vace-14b",
        transformers=(replace(LARGE, branches=(VaceBlocks(layers=tuple(range(0, LARGE.layers, 5))),)),),
        width=1280,
        height=720,
    )


def _seeing(stream: ImageContext) -> DiTSpec:
    return replace(LARGE, in_channels=LARGE.out_channels + MASK_AND_LATENTS, context=(TextContext(), stream))
