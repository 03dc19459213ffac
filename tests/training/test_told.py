"""What can be told in words is learnt from the base; a prompt that is dropped takes its images away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.conditions.in_context import EditingTask, InContext
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import Conditioner, VideoSize
from kinoform.conditions.references import ContextReferences, InContextReferences, LatentFeatures
from kinoform.conditions.standard_inputs import FRAMES, REFERENCE_IMAGES, VIDEO
from kinoform.conditions.vace import Vace
from kinoform.datasets.sample import Sample
from kinoform.loading.additions import Additions
from kinoform.media.types import InputImage, InputVideo
from kinoform.mini.training.dataset import EditSamples, FrameSamples, ReferenceSamples
from kinoform.mini.training.reference_stage import ReferenceEncoderConfig, ReferenceEncoderPlan
from kinoform.models.context import ReferenceContext, ReferenceEncoderSpec
from kinoform.models.dit import DiT, cast_weights
from kinoform.models.in_context import InContextImages
from kinoform.models.lora import BLOCKS, LoRASpec
from kinoform.models.segments import SegmentRotation
from kinoform.models.tokenizer import build_word_tokenizer, load_tokenizer
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.models.vae import VAE
from kinoform.ops.patch import grid_of
from kinoform.training.adapter import AdapterPlan
from kinoform.training.frozen import FrozenParts, TrainedEncoder
from kinoform.training.levels import LevelSampling
from kinoform.training.objective import timesteps
from kinoform.training.optimizer import OptimizerSpec, Schedule, no_matrix
from kinoform.training.stage import TrainingSpec
from kinoform.training.tuning_stage import AdapterStage
from kinoform.types import Conditions
from kinoform.world.parse import parse
from kinoform.world.sampling import L1, L3
from tests.models.recorded import spread
from tests.support.narrowing import of_type, some
from tests.support.refusals import refused
from tests.support.tiny_recipe import WORDS, tiny

DRAW = np.random.default_rng(1)
VIDEOS = [DRAW.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8) for _ in range(4)]
IMAGE = InputImage(pixels=DRAW.integers(0, 256, (16, 16, 3), dtype=np.uint8))
SHOWN = Inputs({REFERENCE_IMAGES: (IMAGE,)})
TRAINING = TrainingSpec(schedule=Schedule(warmup=0, total=2), optimizer=OptimizerSpec(hidden=no_matrix))
ROWS = ContextReferences(features=replace(of_type(LatentFeatures, ContextReferences().features), channels=4))
"""Of the tiny model's latents."""


def sample(place: int, inputs: Inputs, told: str | None, prompt: str = "a red ball") -> Sample:
    return Sample(inputs=inputs, prompt=prompt, video=VIDEOS[place], base_prompt=told)


ALL = (
    sample(0, SHOWN, "a red ball moves"),
    sample(1, Inputs(), "a red ball"),
    sample(2, SHOWN, None),
    sample(3, Inputs(), None),
)
"""Told or not, with an image or without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Same:
    """The same samples at every step."""

    samples: Sequence[Sample] = field(default=ALL)

    def draw(self, step: int, count: int, video: VideoSize) -> list[Sample]:
        return list(self.samples[:count])


def plan(conditioner: Conditioner, additions: Additions, **changes: Any) -> AdapterPlan:
    made = AdapterPlan(
        name="told",
        base="tiny",
        recipe=replace(tiny(), conditioners=(conditioner,), additions=additions),
        lora=LoRASpec(patterns=(*BLOCKS, "!branches.*"), rank=2),
        samples=Same(),
        levels=LevelSampling(),
        training=TRAINING,
        batch=4,
        dropout=0.0,
    )
    return replace(made, **changes)


GUESTS = plan(InContextReferences(), Additions(branches=(InContextImages(),)))
STREAM = plan(ROWS, Additions(context=(ReferenceContext(width=ROWS.width),)))
SEGMENTS = plan(
    InContext(tasks=(), fallback=EditingTask(name="edit", prefix=""), longest=16),
    Additions(segments=SegmentRotation()),
)
WAYS = {
    "guests": GUESTS,
    "segments": SEGMENTS,
    "stream": STREAM,
    "frames": plan(KnownFrames(required=False), Additions(channels={"frames": 2 + 4})),
    "side blocks": plan(Vace(), Additions(branches=(VaceBlocks(layers=(0,), channels=2 * 4 + 2 * 2),))),
}


Make = Callable[..., AdapterStage]


@pytest.fixture(scope="module")
def base() -> DiT:
    model = tiny().transformer.build().requires_grad_(False).eval()
    spread(model, 1)
    return model


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> FrozenParts:
    folder, made = tmp_path_factory.mktemp("words"), tiny()
    build_word_tokenizer(WORDS).save(str(folder / "tokenizer.json"))
    encoder = made.text.build().requires_grad_(False).eval()
    codec = of_type(VAE, made.codec.build()).requires_grad_(False).eval()
    spread(encoder, 2)
    spread(codec, 3)
    return FrozenParts(codec=codec, tokenizer=load_tokenizer(folder), text_encoder=encoder)


@pytest.fixture
def stage(base: DiT, frozen: FrozenParts) -> Make:
    return lambda made, **changes: AdapterStage(made, base, made.examples(frozen), base_hash="of the base", **changes)


def untold(samples: Sequence[Sample] = ALL) -> Same:
    return Same(samples=[replace(each, base_prompt=None) for each in samples])


# What is learnt


@pytest.mark.parametrize("name", ["guests", "stream"])
def test_what_is_told_has_the_velocity_of_the_base_under_these_words(
    name: str, stage: Make, base: DiT, frozen: FrozenParts
) -> None:
    """Bit for bit; of all others it is the noise less the video, over the same noisy latents."""
    groups = stage(WAYS[name]).batch(0)
    drawn = stage(replace(WAYS[name], samples=untold())).batch(0)
    for group, plain, told, places in zip(
        groups, drawn, ("a red ball moves", "a red ball"), ([0, 2], [1, 3]), strict=True
    ):
        assert torch.equal(group.x, plain.x) and torch.equal(group.sigma, plain.sigma)
        rows = Conditions(context={"text": frozen.rows([told])})
        prepared = base.prepare(rows, grid_of(group.x, base.spec.patch))
        assert torch.equal(group.target[:1], base(group.x[:1], timesteps(group.sigma[:1]), prepared))
        assert torch.equal(group.target[1], plain.target[1]) and not torch.equal(group.target[0], plain.target[0])
        signal = torch.from_numpy(np.stack([VIDEOS[place] for place in places])).movedim(-1, 1) / 127.5 - 1
        x0, _ = frozen.codec.encode(signal)
        assert torch.allclose(plain.x - plain.sigma[:, None, None, None, None] * plain.target, x0, atol=1e-5)


@pytest.mark.parametrize("name", WAYS)
def test_from_words_alone_an_adapter_begins_with_nothing_to_learn(name: str, stage: Make) -> None:
    words = [sample(place, Inputs(), "a red ball") for place in range(4)]
    trained = stage(replace(WAYS[name], samples=Same(samples=words)))
    with torch.no_grad():  # as the base is asked: gradients take other kernels
        assert trained.loss(trained.batch(0)).total.item() == 0
    other = stage(replace(WAYS[name], samples=untold(words)))
    assert other.loss(other.batch(0)).total.item() > 0.1


def test_what_is_told_weighs_more(stage: Make) -> None:
    trained = stage(replace(STREAM, base_weight=3.0))
    groups = trained.batch(0)
    assert [group.weight.flatten().tolist() for group in groups] == [[3, 1], [3, 1]]
    assert [group.share for group in groups] == [0.5, 0.5]
    errors = [
        group.weight
        * (trained.modules()(group.x, group.sigma, group.condition.conditions(group.rows)) - group.target) ** 2
        for group in groups
    ]
    assert trained.loss(groups).total.item() == pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)


def test_behind_images_nothing_is_told_in_words(stage: Make) -> None:
    with refused("base_prompt_behind_images"):
        stage(WAYS["side blocks"]).batch(0)
    assert stage(replace(WAYS["side blocks"], samples=untold())).batch(0)[0].condition.constraints.prefix_frames == 1


# Dropped prompts


@pytest.mark.parametrize("name", ["guests", "stream"])
def test_a_dropped_prompt_takes_its_images_away(name: str, stage: Make, base: DiT, frozen: FrozenParts) -> None:
    (group,) = stage(replace(WAYS[name], dropout=1.0)).batch(0)
    (plain,) = stage(replace(WAYS[name], dropout=1.0, samples=untold())).batch(0)
    assert not group.condition.context and not group.condition.branches
    assert torch.equal(group.rows, frozen.rows(["ugly"] * 4))
    rows = Conditions(context={"text": frozen.rows(["ugly"] * 2)})
    wanted = base(group.x[:2], timesteps(group.sigma[:2]), base.prepare(rows, grid_of(group.x, base.spec.patch)))
    assert torch.equal(group.target[:2], wanted) and torch.equal(group.target[2:], plain.target[2:])
    kept = stage(WAYS[name]).batch(0)
    assert torch.equal(torch.cat([each.x for each in kept]), group.x[[0, 2, 1, 3]]), "videos and noise stay"


def test_segments_stand_beside_either_prompt_and_then_the_video_itself_is_learnt(
    stage: Make, base: DiT, frozen: FrozenParts
) -> None:
    shown, alone = stage(replace(SEGMENTS, dropout=1.0)).batch(0)
    drawn, _ = stage(replace(SEGMENTS, dropout=1.0, samples=untold())).batch(0)
    assert [segment.group for segment in shown.condition.segments] == ["images"] and not alone.condition.segments
    assert torch.equal(shown.rows, frozen.rows(["ugly"] * 2)) and torch.equal(shown.target, drawn.target)
    rows = Conditions(context={"text": frozen.rows(["ugly"])})
    prepared = base.prepare(rows, grid_of(alone.x, base.spec.patch))
    assert torch.equal(alone.target[:1], base(alone.x[:1], timesteps(alone.sigma[:1]), prepared))


def test_segments_are_left_out_group_by_group(stage: Make) -> None:
    both = SHOWN | {VIDEO: InputVideo(frames=VIDEOS[3])}
    samples = Same(samples=[sample(0, both, None)] * 64)
    made = replace(SEGMENTS, samples=samples, batch=64, segment_dropout=0.5)
    groups = stage(made).batch(0)
    left = {tuple(segment.group for segment in group.condition.segments): group.share for group in groups}
    assert left.keys() == {(), ("video",), ("images",), ("video", "images")}
    assert all(0.1 < share < 0.4 for share in left.values())
    whole = stage(replace(made, segment_dropout=0.0)).batch(0)
    assert torch.equal(whole[0].x.sort(dim=0)[0], torch.cat([group.x for group in groups]).sort(dim=0)[0])


def test_frames_stand_beside_either_prompt(stage: Make) -> None:
    first = Inputs({FRAMES: {0: InputImage(pixels=VIDEOS[0][0])}})
    made = replace(WAYS["frames"], samples=Same(samples=[sample(n, first, None) for n in range(4)]))
    (kept,), (dropped,) = (stage(replace(made, dropout=share)).batch(0) for share in (0.0, 1.0))
    channels = some(kept.condition.channels)
    assert (
        channels.any()
        and torch.equal(channels, some(dropped.condition.channels))
        and not torch.equal(kept.rows, dropped.rows)
    )


# The reader, and the samples of the world


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_stream_begins_with_what_its_reader_learnt(precision: torch.dtype, base: DiT, frozen: FrozenParts) -> None:
    stream = ReferenceContext(width=ROWS.width, encoder=ReferenceEncoderSpec(dim=8, heads=2, layers=1, dim_ffn=8))
    config = ReferenceEncoderConfig(
        stream=stream, rows=ROWS, dim=24, eps=1e-6, video=VideoSize(num_frames=3, height=16, width=16), level=L1
    )
    made = replace(
        plan(ROWS, Additions(context=(stream,))),
        encoder=ReferenceEncoderPlan(config=config, training=TRAINING), precision=precision,
    )  # fmt: skip
    learnt = stream.build(24, 1e-6)
    spread(learnt, 5)
    low = cast_weights(Additions().apply(base), precision)
    assert isinstance(low, DiT)
    encoder = TrainedEncoder(stream="reference", weights=learnt.state_dict(), frozen=False, report={})
    trained = AdapterStage(made, low, made.examples(frozen), base_hash="of the base", encoder=encoder)
    found = trained.modules().model.context["reference"].state_dict()
    assert found.keys() == learnt.state_dict().keys()
    assert all(torch.equal(value, found[name]) for name, value in learnt.state_dict().items())


def test_the_world_tells_what_words_alone_can_make() -> None:
    video = VideoSize(num_frames=5, height=32, width=32)
    for each in ReferenceSamples(level=L1, seed=0).draw(0, 20, video):
        assert each.base_prompt is not None and parse(each.base_prompt)
    for samples in (FrameSamples(level=L3, seed=0), EditSamples(level=L3, seed=0)):
        drawn = samples.draw(0, 40, video)
        assert all((each.base_prompt is None) == bool(each.inputs) for each in drawn)
        assert {None} < {each.base_prompt for each in drawn}
        assert all(each.base_prompt in (None, each.prompt) for each in drawn)
