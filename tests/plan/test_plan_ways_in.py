"""Videos from images, controls and references: planned operations and shapes are those of the real thing, exactly."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.cli.plan_report import report
from kinoform.conditions.first_frame import FirstFrame
from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.inputs import NO_INPUTS, Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import Conditioner, ConditionerOutput, Encoders, together
from kinoform.conditions.references import ContextReferences, InContextReferences, LatentFeatures
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, REFERENCE_IMAGES, SOURCE_PROMPT, STRENGTH, VIDEO
from kinoform.conditions.vace import Vace
from kinoform.conditions.video_to_video import StartVideo
from kinoform.media.types import InputImage, InputVideo
from kinoform.models.attention.factorized import Alternating
from kinoform.models.block import FullBlock
from kinoform.models.codec import Codec
from kinoform.models.context import ImageContext, PseudoWordContext, ReferenceContext, ReferenceEncoderSpec, TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.in_context import InContextImages
from kinoform.models.protocols import BlockSpec
from kinoform.models.text import TextSpec
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.models.vae import VAESpec
from kinoform.models.vision import VisionEncoder, VisionSpec, image_features
from kinoform.ops.flops import count_flops
from kinoform.pipelines.experts import in_memory
from kinoform.pipelines.fit import workload_of
from kinoform.pipelines.generate import Rows, denoise, noise_of
from kinoform.pipelines.request import Request, request
from kinoform.plan.modules import vision_run
from kinoform.plan.video_plan import VideoPlan, plan_video
from kinoform.recipe import Recipe
from kinoform.recipes.catalogue import RELEASED
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.guidance.interval import Interval
from kinoform.solvers.guidance.zero_star import ZeroStar
from tests.plan.planned_videos import PLAIN_KERNELS, sizes_of

ROWS = 6
TEXT = TextContext(width=10, length=ROWS)
VISION = VisionSpec(image=8, patch=4, dim=8, heads=2, layers=3, dim_ffn=12)
CODEC = VAESpec(
    dim=3, channels=4, multipliers=(1, 1), residual_blocks=1, time_downsample=(True,), mean=(), std=(),
)  # fmt: skip
PLAIN = DiTSpec(
    dim=24, ffn_dim=40, heads=2, layers=3, in_channels=4, out_channels=4, frequency_width=16, context=(TEXT,)
)
DRAW = np.random.default_rng(1)
IMAGES = tuple(InputImage(pixels=DRAW.integers(0, 256, (16, 24, 3), dtype=np.uint8)) for _ in range(3))
CLIP = InputVideo(frames=DRAW.integers(0, 256, (5, 16, 24, 3), dtype=np.uint8))


def recipe(conditioners: tuple[Conditioner, ...], **changes: Any) -> Recipe:
    return Recipe(
        name="tiny", transformers=(replace(PLAIN, **changes),), codec=CODEC, image=VISION, conditioners=conditioners,
        text=TextSpec(vocab=9, dim=10, dim_attention=8, dim_ffn=12, heads=2, layers=1, buckets=8, length=ROWS),
        width=24, height=16, num_frames=5, steps=4, shift=3.0, guidance_scale=4.0,
    )  # fmt: skip


SEEING = recipe((KnownFrames(), ImageTokens()), in_channels=4 + 2 + 4, context=(TEXT, ImageContext(width=VISION.dim)))
BOTH_ENDS = replace(
    recipe((KnownFrames(), ImageTokens(images=2)), in_channels=10),
    transformers=(
        replace(PLAIN, in_channels=10, context=(TEXT, ImageContext(width=VISION.dim, positions=2 * VISION.tokens))),
    ),
)
CONTROLLED = recipe((Vace(),), branches=(VaceBlocks(layers=(0, 2), channels=2 * 4 + 2 * 2),))
WIDE = recipe((KnownFrames(required=False, impose=True),), in_channels=4 + 2 + 4)
GUESTS = recipe((InContextReferences(),), branches=(InContextImages(),))
READER = ContextReferences(features=LatentFeatures(channels=4))
READING = recipe((READER,), context=(TEXT, ReferenceContext(width=READER.width)))
READ = ReferenceContext(width=READER.width, encoder=ReferenceEncoderSpec(dim=8, heads=2, layers=2, dim_ffn=12))
SAID = PseudoWordContext(
    width=READER.width, words=3, encoder=ReferenceEncoderSpec(dim=8, heads=2, layers=1, dim_ffn=12)
)
SAYING = recipe((READER,), context=(TEXT, SAID))
READ_FIRST = recipe((READER,), context=(TEXT, READ))
REDOING = recipe((StartVideo(),))
BEGINNING = recipe((FirstFrame(), StartVideo()))


def of(block: BlockSpec, made: Recipe) -> Recipe:
    return replace(made, transformers=(replace(made.transformer, block=block),))


BETWEEN, AFTER, ALTERNATING = FactorizedBlock(), FactorizedBlock(cross="after"), FullBlock(attention=Alternating())

VIDEOS: Mapping[str, tuple[Recipe, Inputs, dict[str, Any]]] = {
    "words": (REDOING, NO_INPUTS, {}),
    "first frame": (SEEING, Inputs({FRAMES: {0: IMAGES[0]}, EXACT_SIZE: True}), {}),
    "a first frame that is clean": (BEGINNING, Inputs({FRAMES: {0: IMAGES[0]}, EXACT_SIZE: True}), {}),
    "first and last frame": (BOTH_ENDS, Inputs({FRAMES: {0: IMAGES[0], -1: IMAGES[1]}, EXACT_SIZE: True}), {}),
    "side blocks without inputs": (CONTROLLED, NO_INPUTS, {}),
    "side blocks and a control": (CONTROLLED, Inputs({VIDEO: CLIP}), {}),
    "side blocks and a video half redone": (
        CONTROLLED,
        Inputs({VIDEO: CLIP, REFERENCE_IMAGES: IMAGES[:1], STRENGTH: 0.5}),
        {},
    ),
    "images that may be missing": (WIDE, Inputs({FRAMES: {0: IMAGES[0]}, EXACT_SIZE: True}), {}),
    "images that are missing": (WIDE, NO_INPUTS, {}),
    "side blocks and references": (CONTROLLED, Inputs({REFERENCE_IMAGES: IMAGES[:2]}), {}),
    "side blocks, one prompt": (CONTROLLED, Inputs({REFERENCE_IMAGES: IMAGES[:1]}), {"guidance_scale": 1.0}),
    "guests": (GUESTS, Inputs({REFERENCE_IMAGES: IMAGES}), {}),
    "no guests": (GUESTS, NO_INPUTS, {}),
    "reference stream": (READING, Inputs({REFERENCE_IMAGES: IMAGES[:2]}), {}),
    "references as words": (SAYING, Inputs({REFERENCE_IMAGES: IMAGES[:1]}), {}),
    "references as words, one prompt": (SAYING, Inputs({REFERENCE_IMAGES: IMAGES[:1]}), {"guidance_scale": 1.0}),
    "no references as words": (SAYING, NO_INPUTS, {}),
    "no references to read": (READING, NO_INPUTS, {}),
    "references read together": (READ_FIRST, Inputs({REFERENCE_IMAGES: IMAGES[:2]}), {}),
    "none to be read together": (READ_FIRST, NO_INPUTS, {}),
    "references, one prompt": (READ_FIRST, Inputs({REFERENCE_IMAGES: IMAGES[:2]}), {"guidance_scale": 1.0}),
    "guests, one prompt": (GUESTS, Inputs({REFERENCE_IMAGES: IMAGES[:1]}), {"guidance_scale": 1.0}),
    "references, guided within an interval": (
        READING,
        Inputs({REFERENCE_IMAGES: IMAGES[:1]}),
        {"guidance_rule": Interval(low=0.3, high=0.8)},
    ),
    "half redone": (REDOING, Inputs({VIDEO: CLIP, STRENGTH: 0.5}), {}),
    "changed": (
        REDOING,
        Inputs({VIDEO: CLIP, SOURCE_PROMPT: "a cat"}),
        {"sampler": FlowEdit(averages=2, plain_steps=1)},
    ),
    "changed towards references": (
        recipe((READER, StartVideo()), context=(TEXT, READ)),
        Inputs({VIDEO: CLIP, SOURCE_PROMPT: "a cat", REFERENCE_IMAGES: IMAGES[:2]}),
        {"sampler": FlowEdit(averages=2, plain_steps=1)},
    ),
    "changed towards references, one prompt": (
        recipe((InContextReferences(), StartVideo()), branches=(InContextImages(),)),
        Inputs({VIDEO: CLIP, SOURCE_PROMPT: "a cat", REFERENCE_IMAGES: IMAGES[:1]}),
        {"sampler": FlowEdit(source_guidance=1.0), "guidance_scale": 1.0},
    ),
    "guided within an interval": (REDOING, NO_INPUTS, {"guidance_rule": Interval(low=0.3, high=0.8)}),
    "space, then guests in it": (of(BETWEEN, GUESTS), Inputs({REFERENCE_IMAGES: IMAGES[:2]}), {}),
    "space and time, then references": (of(AFTER, READING), Inputs({REFERENCE_IMAGES: IMAGES[:2]}), {}),
    "space and time, then words": (of(AFTER, REDOING), NO_INPUTS, {}),
    "space or time, and side blocks": (
        of(ALTERNATING, CONTROLLED),
        Inputs({VIDEO: CLIP, REFERENCE_IMAGES: IMAGES[:1]}),
        {},
    ),
    "still at first": (REDOING, NO_INPUTS, {"guidance_rule": ZeroStar(zero_steps=2)}),
}


pytestmark = pytest.mark.usefixtures("countable")


class Random:
    """Encoders with the weights that they are built with, for their operations and shapes."""

    device = torch.device("cpu")

    def codec(self) -> Codec:
        return CODEC.build()

    def image(self) -> VisionEncoder:
        return VISION.build()


def asked_and_planned(name: str) -> tuple[Recipe, Request, VideoPlan]:
    made, inputs, changes = VIDEOS[name]
    asked = request(made, "a ball", 1, inputs=inputs, **changes).sized(made.codec, made.transformer.patch)
    sizes = sizes_of(made)
    return made, asked, plan_video(sizes, workload_of(asked), dtype=torch.float32, device="cpu")


def given_to(asked: Request) -> ConditionerOutput:
    encoders: Encoders = Random()
    return together(each.encode(asked.inputs, asked.video, encoders) for each in asked.conditioners)


@pytest.mark.parametrize("name", VIDEOS)
def test_operations_are_those_that_are_executed(name: str) -> None:
    """Of encoding the inputs and of denoising, both counted by PyTorch on the pipeline's own functions."""
    made, asked, plan = asked_and_planned(name)
    model, prompt = made.transformer.build(), torch.randn(1, 3, 10)
    rows: Rows = (prompt, prompt + 1 if asked.reads_negative else None)
    if asked.inputs[SOURCE_PROMPT] is not None:
        rows = (*rows, prompt + 2)
    with torch.no_grad():
        assert count_flops(lambda: given_to(asked)) == plan.reading
        given = given_to(asked)
        draw = noise_of(made.codec, asked, lead=given.constraints.prefix_frames)
        counted = count_flops(lambda: denoise(in_memory(model), asked, rows, draw, lambda progress: None, given))
    assert counted == plan.flops["denoise"].executed
    assert not plan.uncounted


@pytest.mark.parametrize("name", VIDEOS)
def test_shapes_are_those_that_are_given(name: str) -> None:
    made, asked, plan = asked_and_planned(name)
    model = made.transformer.build()
    with torch.no_grad():
        given = given_to(asked)
        embedded = {stream: model.context[stream](rows).shape for stream, rows in given.context.items()}
    shapes = {tensor.name: tensor.shape for tensor in plan.tensors}
    assert plan.lead == given.constraints.prefix_frames
    assert shapes["noise, latents"] == (1, 4, 3 + given.constraints.prefix_frames, 8, 12)
    assert shapes.get("channels") == (None if given.channels is None else tuple(given.channels.shape))
    for stream, shape in embedded.items():
        assert shapes[f"{stream} rows, embedded"] == tuple(shape)
    if control := given.branches.get("vace"):
        assert shapes["branch vace"] == tuple(control.latents.shape)
    if guests := given.branches.get("references"):
        assert shapes["branch references"] == tuple(torch.cat(guests, dim=2).shape)


@pytest.mark.parametrize(("name", "levels"), [("words", 1), ("a first frame that is clean", 2)])
def test_times_of_tokens_are_saved_where_the_official_code_computes_them_all(name: str, levels: int) -> None:
    """A row is made for each noise level among the tokens, there one for each token; both prompts ask for it."""
    made, asked, plan = asked_and_planned(name)
    row = plan.transformer.outside["time_embedding"] // levels
    assert row == 2 * (16 * 24 + 24 * 24 + 24 * 6 * 24) and plan.token_times == 0
    sizes = replace(sizes_of(made), token_times=True)
    told = plan_video(sizes, workload_of(asked), dtype=torch.float32, device="cpu")
    assert told.token_times == (told.tokens - levels) * row == told.as_json()["token_times_flops"]
    found, wanted = (each.flops["denoise"] for each in (told, plan))
    assert found.official - wanted.official == 2 * 4 * told.token_times and found.executed == wanted.executed
    assert "times of tokens" in report("tiny", told) and "times of tokens" not in report("tiny", plan)


ALONE = {"guests": "no guests", "reference stream": "no references to read", "changed": "changed"}


@pytest.mark.parametrize("name", ALONE)
def test_the_negative_prompt_takes_what_words_alone_take(name: str) -> None:
    (_, _, plan), (_, _, words) = asked_and_planned(name), asked_and_planned(ALONE[name])
    assert plan.negative == words.transformer == words.negative
    assert (plan.transformer.forward > plan.negative.forward) is (name != ALONE[name])
    (asked,) = plan.asked
    both = plan.transformer.forward + plan.negative.forward
    assert plan.flops["denoise"].official == asked.prompt.nfe * both + asked.source.nfe * 2 * plan.negative.forward


def test_one_image_in_the_image_encoder() -> None:
    encoder, pixels = VISION.build(), torch.zeros(1, 3, 5, 7)
    assert (
        count_flops(lambda: image_features(encoder, pixels)) == vision_run(VISION, torch.float32, PLAIN_KERNELS).flops
    )
    assert round(vision_run(VisionSpec(), torch.float32, PLAIN_KERNELS).flops / 1e12, 3) == 0.324


# Released models

TOTALS = {
    ("i2v-14b-480p", 832, 480): 1_686.4,
    ("i2v-14b-720p", 1280, 720): 6_540.5,
    ("flf2v-14b", 832, 480): 1_694.4,
    ("flf2v-14b", 1280, 720): 6_557.5,
    ("vace-1.3b", 832, 480): 427.0,
    ("vace-1.3b", 1280, 720): 1_880.5,
    ("vace-14b", 832, 480): 2_029.6,
    ("vace-14b", 1280, 720): 7_864.0,
}
PARAMETERS = {
    "i2v-14b-480p": 16_394_878_784,
    "i2v-14b-720p": 16_394_878_784,
    "flf2v-14b": 16_395_536_704,
    "vace-1.3b": 2_153_972_032,
    "vace-14b": 17_337_592_896,
}


def planned(name: str, width: int, height: int, inputs: Inputs = NO_INPUTS) -> VideoPlan:
    made = RELEASED[name]()
    sizes = sizes_of(made)
    asked = request(made, "a ball", 1, width=width, height=height, inputs=inputs)
    return plan_video(sizes, workload_of(asked), dtype=torch.bfloat16, device="cuda")


@pytest.mark.parametrize(("name", "width", "height"), TOTALS)
def test_a_forward_takes_the_operations_of_the_table(name: str, width: int, height: int) -> None:
    plan = planned(name, width, height)
    assert plan.transformer.forward / 1e12 == pytest.approx(TOTALS[name, width, height], abs=0.07)
    assert plan.parameters["transformer"].parameters == PARAMETERS[name]
    assert [peak.stage for peak in plan.peaks] == ["text", "encode", "denoise", "decode"]
    assert list(plan.flops) == ["text", "encode", "denoise", "decode"]


@pytest.mark.parametrize("name", RELEASED)
def test_every_released_recipe_is_counted_wholly(name: str) -> None:
    made = RELEASED[name]()
    assert planned(name, made.width, made.height).uncounted == ()


def test_tensors_have_the_shapes_of_the_data_flow() -> None:
    shapes = {each.name: each.shape for each in planned("i2v-14b-720p", 1280, 720).tensors}
    assert shapes["videos to encode"] == (1, 3, 81, 720, 1280)
    assert shapes["channels"] == (1, 20, 21, 90, 160)
    assert shapes["latents and channels"] == (1, 36, 21, 90, 160)
    assert shapes["image encoder rows"] == (1, 257, 1280)
    assert shapes["context"] == (1, 769, 5120)
    shapes = {each.name: each.shape for each in planned("flf2v-14b", 832, 480).tensors}
    assert shapes["image encoder rows"] == (2, 257, 1280)
    assert shapes["image rows, embedded"] == (1, 514, 5120)
    assert shapes["context"] == (1, 1026, 5120)


@pytest.mark.parametrize(("width", "height", "tokens"), [(832, 480, 34_320), (1280, 720, 79_200)])
def test_a_reference_of_vace_is_a_latent_frame_more(width: int, height: int, tokens: int) -> None:
    plan = planned("vace-1.3b", width, height, Inputs({REFERENCE_IMAGES: IMAGES[:1]}))
    shapes = {each.name: each.shape for each in plan.tensors}
    assert plan.tokens == tokens and plan.lead == 1
    assert shapes["branch vace"] == (1, 96, 22, height // 8, width // 8)
    assert shapes["noise, latents"] == shapes["prediction"] == (1, 16, 22, height // 8, width // 8)
    assert shapes["decoded pixels"] == (1, 3, 81, height, width)
