"""The plan of the released models has the numbers of their published sizes, to the digits that are known."""

from dataclasses import replace

import pytest
import torch

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.text import UMT5_XXL
from kinoform.models.vae import VAESpec
from kinoform.plan.modules import codec_count, decode_run, encode_run, text_count, text_run
from kinoform.plan.transformer import transformer_count
from kinoform.plan.video_plan import VideoPlan, plan_video
from kinoform.plan.workload import Workload
from kinoform.recipe import Recipe
from kinoform.recipes.wan21 import NEGATIVE, t2i_14b, t2v_1_3b, t2v_14b
from tests.plan.planned_videos import PLAIN_KERNELS, run_of, sizes_of

SMALL, LARGE = t2v_1_3b(), t2v_14b()
LATENTS = {"480p": (21, 60, 104), "720p": (21, 90, 160)}
TOKENS = {"480p": 32_760, "720p": 75_600}
SIDES = {"480p": (832, 480), "720p": (1280, 720)}
CASES = [(SMALL, "480p"), (SMALL, "720p"), (LARGE, "480p"), (LARGE, "720p")]


def planned(recipe: Recipe, size: str, **changes: float) -> VideoPlan:
    width, height = SIDES[size]
    sizes = sizes_of(recipe)
    work = Workload(width=width, height=height, num_frames=81, steps=recipe.steps, guidance_scale=recipe.guidance_scale)
    return plan_video(sizes, replace(work, **changes), dtype=torch.bfloat16, device="cuda")


@pytest.mark.parametrize(("recipe", "size"), CASES, ids=lambda value: getattr(value, "name", value))
def test_tensors_have_the_shapes_of_the_data_flow(recipe: Recipe, size: str) -> None:
    plan, dim, heads = planned(recipe, size), recipe.transformer.dim, recipe.transformer.heads
    shapes = {tensor.name: tensor.shape for tensor in plan.tensors}
    (_, height, width), (columns, rows) = LATENTS[size], SIDES[size]
    assert plan.tokens == TOKENS[size]
    assert shapes["prompt ids"] == (1, 512)
    assert shapes["text rows"] == (1, 512, 4096)
    assert shapes["text rows, embedded"] == (1, 512, dim)
    assert shapes["noise, latents"] == shapes["prediction"] == (1, 16, *LATENTS[size])
    assert shapes["patch grid"] == (21, height // 2, width // 2)
    assert shapes["tokens"] == (1, TOKENS[size], dim)
    assert shapes["q, k, v"] == (1, TOKENS[size], heads, 128)
    assert shapes["head output"] == (1, TOKENS[size], 64)
    assert shapes["decoded pixels"] == (1, 3, 81, rows, columns)
    assert shapes["frames"] == (81, rows, columns, 3)


def test_parameters_are_those_of_the_released_weights() -> None:
    assert transformer_count(SMALL.transformer).parameters == 1_418_996_800
    assert transformer_count(LARGE.transformer).parameters == 14_288_491_584
    assert codec_count(VAESpec()).parameters == 126_892_531
    assert text_count(UMT5_XXL).parameters == 5_680_910_336
    assert text_count(UMT5_XXL).bytes(torch.bfloat16) == 2 * 5_680_910_336
    assert codec_count(VAESpec()).bytes(torch.bfloat16) == 4 * 126_892_531


FORWARD = [
    (SMALL, "480p", 283.0, (0.618, 6.594, 0.309, 0.005, 0.103, 1.803), 9.433),
    (SMALL, "720p", 1249.8, (1.427, 35.115, 0.714, 0.005, 0.238, 4.162), 41.66),
    (LARGE, "480p", 1678.4, (6.870, 21.980, 3.435, 0.054, 0.344, 9.275), 41.96),
    (LARGE, "720p", 6523.4, (15.855, 117.051, 7.927, 0.054, 0.793, 21.404), 163.08),
]


@pytest.mark.parametrize(("recipe", "size", "total", "parts", "block"), FORWARD)
def test_a_forward_takes_the_operations_of_the_table(
    recipe: Recipe, size: str, total: float, parts: tuple[float, ...], block: float
) -> None:
    found = planned(recipe, size).transformer
    names = "self_projections", "self_attention", "cross_projections", "cross_keys", "cross_attention", "feed_forward"
    each = [found.parts[name] / recipe.transformer.layers for name in names]
    assert [flops / 1e12 for flops in each] == pytest.approx(parts, abs=0.001)  # some last digits there are cut off
    assert round(sum(each) / 1e12, 3 if block < 10 else 2) == block
    assert round(found.forward / 1e12, 1) == total


IMAGES = [(0, "480p", 1686.4), (0, "720p", 6540.5), (514, "480p", 1694.4), (514, "720p", 6557.5)]


@pytest.mark.parametrize(("places", "size", "total"), IMAGES)
def test_a_stream_of_images_adds_what_the_table_says(places: int, size: str, total: float) -> None:
    spec = replace(LARGE.transformer, in_channels=36, context=(TextContext(), ImageContext(positions=places)))
    rows = ConditionerOutput(context={"image": torch.empty(1, places or 257, 1280, device="meta")})
    assert round(run_of(spec, LATENTS[size], rows).prompt.forward / 1e12, 1) == total


CODEC = [
    ((1, 60, 104), 2.72, 4.35, 2),
    ((21, 60, 104), 163.7, 275.4, 1),
    ((1, 90, 160), 6.45, 10.2, 2),
    ((21, 90, 160), 381.7, 639.2, 1),
]


@pytest.mark.parametrize(("latents", "encode", "decode", "digits"), CODEC)
def test_the_codec_takes_the_operations_of_the_table(
    latents: tuple[int, int, int], encode: float, decode: float, digits: int
) -> None:
    assert round(encode_run(VAESpec(), latents, PLAIN_KERNELS).flops / 1e12, digits) == encode
    assert decode_run(VAESpec(), latents, PLAIN_KERNELS).flops / 1e12 == pytest.approx(decode, abs=0.05)


def test_the_codec_remembers_as_much_as_was_seen() -> None:
    remembered = {
        size: round(decode_run(VAESpec(), latents, PLAIN_KERNELS).history / 2**30, 2)
        for size, latents in LATENTS.items()
    }
    assert remembered == {"480p": 3.52, "720p": 8.12}


def test_a_whole_video_as_the_official_code_makes_it() -> None:
    """Two prompts of 9.7 TFLOP, 652,340 for 50 steps of 14B at 720p, 639 for the frames."""
    flops = planned(LARGE, "720p").flops
    assert round(text_run(UMT5_XXL, torch.bfloat16, PLAIN_KERNELS).flops / 1e12, 2) == 4.84
    assert round(flops["text"].official / 1e12, 1) == 9.7
    assert round(flops["denoise"].official / 1e12) == pytest.approx(652_340, abs=10)
    assert round(flops["decode"].official / 1e12) == 639


def test_what_is_kept_and_shared_is_not_done_again() -> None:
    whole, single = planned(LARGE, "480p"), planned(LARGE, "480p", guidance_scale=1.0)
    official, executed = whole.flops["denoise"].official, whole.flops["denoise"].executed
    parts, layers, steps = whole.transformer.parts, 40, 50
    shared = (parts["self_projections"] + parts["self_attention"]) / layers
    saved = (steps - 1) * 2 * parts["cross_keys"] + steps * shared
    assert official - executed == pytest.approx(saved, rel=0.01)
    assert single.flops["denoise"].executed == pytest.approx(official / 2, rel=0.01)
    assert single.flops["denoise"].official == official


def test_the_official_defaults() -> None:
    assert [recipe.name for recipe in (SMALL, LARGE, t2i_14b())] == ["t2v-1.3b", "t2v-14b", "t2i-14b"]
    for recipe in (SMALL, LARGE, t2i_14b()):
        assert (recipe.steps, recipe.shift, recipe.guidance_scale, recipe.fps) == (50, 5.0, 5.0, 16.0)
        assert recipe.negative_prompt == NEGATIVE
    assert (SMALL.width, SMALL.height, SMALL.num_frames) == (832, 480, 81)
    assert (LARGE.width, LARGE.height, LARGE.num_frames) == (1280, 720, 81)
    assert t2i_14b() == replace(LARGE, name="t2i-14b", num_frames=1)
    assert LARGE.transformer == DiTSpec(dim=5120, ffn_dim=13824, heads=40, layers=40)


def test_the_negative_prompt_is_the_official_one() -> None:
    terms = NEGATIVE.split("，")
    assert (len(NEGATIVE), len(terms)) == (137, 28)
    assert terms[0] == "色调艳丽" and terms[-1] == "倒着走" and "JPEG压缩残留" in terms
