"""The released Wan 2.1 text-to-video models, with the defaults of the official command line."""

from dataclasses import replace

from kinoform.models.dit import DiTSpec
from kinoform.recipe import Recipe

NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，"
    "杂乱的背景，三条腿，背景人很多，倒着走"
)


def t2v_1_3b() -> Recipe:
    """T2V-1.3B: 832x480 (or 480x832), 81 frames at 16 fps, 50 steps of UniPC, shift 5, guidance 5."""
    return Recipe(
        name="t2v-1.3b",
        transformer=DiTSpec(dim=1536, ffn_dim=8960, heads=12, layers=30),
        negative_prompt=NEGATIVE,
    )


def t2v_14b() -> Recipe:
    """T2V-14B: 1280x720 by default, otherwise as T2V-1.3B."""
    return replace(
        t2v_1_3b(),
        name="t2v-14b",
        transformer=DiTSpec(dim=5120, ffn_dim=13824, heads=40, layers=40),
        width=1280,
        height=720,
    )


def t2i_14b() -> Recipe:
    """T2I-14B: T2V-14B for one picture, 1280x720 by default, 1024x1024 too; saved as png."""
    return replace(t2v_14b(), name="t2i-14b", num_frames=1)
