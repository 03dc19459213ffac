"""Portraits beside captions: the transformer learns from the rows that a request gives, and from the same videos."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.references import ContextReferences, LatentFeatures
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.media.types import InputImage
from kinoform.mini.training.autoencoder_stage import new_autoencoder
from kinoform.mini.training.plan import prepare_tokenizer
from kinoform.mini.training.probe_loss import ProbeTargets
from kinoform.mini.training.transformer_stage import (
    ReferenceImages,
    TransformerBatch,
    TransformerConfig,
    TransformerStage,
)
from kinoform.models.context import ReferenceContext, ReferenceEncoderSpec
from kinoform.training.distributed import Rank
from kinoform.training.frozen import CodecOnly, FrozenParts, TrainedEncoder
from kinoform.world.sampling import L1, L3
from tests.models.recorded import spread
from tests.support.narrowing import of_type
from tests.training.test_stages import tiny_plan

ROWS = ContextReferences(features=LatentFeatures(channels=8))
STREAM = ReferenceContext(width=ROWS.width, encoder=ReferenceEncoderSpec(dim=8, heads=2, layers=1, dim_ffn=8))
PLAIN = tiny_plan().transformer
SHOWING = replace(
    PLAIN,
    transformer=replace(PLAIN.transformer, context=(*PLAIN.transformer.context, STREAM)),
    videos=replace(PLAIN.videos, level=L1),
    reference_images=ReferenceImages(rows=ROWS),
    batch=12,
)
"""Of videos of one object each."""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> FrozenParts:
    plan = tiny_plan()
    assert plan.autoencoder is not None
    encoder = plan.recipe.text.build().requires_grad_(False).eval()
    spread(encoder, 1)
    tokenizer = prepare_tokenizer(plan, tmp_path_factory.mktemp("words"))
    return FrozenParts(codec=new_autoencoder(plan.autoencoder), tokenizer=tokenizer, text_encoder=encoder)


def batch(frozen: FrozenParts, config: TransformerConfig, step: int = 0, rank: Rank | None = None) -> TransformerBatch:
    return TransformerStage(config, frozen, rank=rank).batch(step)


def sharing(share: float, *, unnamed: float = 0.0, dropout: float = 0.0) -> TransformerConfig:
    return replace(SHOWING, reference_images=ReferenceImages(rows=ROWS, share=share, unnamed=unnamed), dropout=dropout)


def test_without_portraits_a_batch_is_one_part(frozen: FrozenParts) -> None:
    found = batch(frozen, replace(SHOWING, reference_images=None))
    assert list(found.parts()) == [(slice(None), {})]
    none = batch(frozen, sharing(0.0))
    assert list(none.parts()) == [(slice(None), {})] and torch.equal(found.x0, none.x0)


def test_videos_noise_and_levels_are_those_without_portraits(frozen: FrozenParts) -> None:
    for step in (0, 3):
        one, other = batch(frozen, replace(SHOWING, reference_images=None), step), batch(frozen, sharing(0.5), step)
        assert torch.equal(one.x0, other.x0) and torch.equal(one.noise, other.noise)
        assert torch.equal(one.sigma, other.sigma) and all(map(torch.equal, one.targets, other.targets))


def test_the_shares_are_those_that_are_asked_for(frozen: FrozenParts) -> None:
    shown = [len(batch(frozen, sharing(share)).shown) for share in (0.0, 0.5, 1.0)]
    assert shown[0] == 0 and 2 < shown[1] < 11 and shown[2] == 12
    named, unnamed = (batch(frozen, sharing(1.0, unnamed=share)).rows for share in (0.0, 1.0))
    assert all(not torch.equal(one, other) for one, other in zip(named, unnamed, strict=True))


def test_only_videos_of_one_object_have_a_portrait(frozen: FrozenParts) -> None:
    config = sharing(1.0)
    config = replace(config, videos=replace(config.videos, level=L3))
    scenes, _ = config.videos.scenes(0, config.batch)
    single = [place for place, scene in enumerate(scenes) if len(scene.things) == 1]
    assert 0 < len(single) < config.batch
    assert batch(frozen, config).shown.tolist() == single


def test_a_caption_that_is_dropped_takes_its_portrait_away(frozen: FrozenParts) -> None:
    assert not batch(frozen, sharing(1.0, dropout=1.0)).context
    found = batch(frozen, sharing(1.0, dropout=0.5))
    nothing = frozen.rows([SHOWING.negative_prompt])[0]
    kept = [n for n, rows in enumerate(found.rows) if not torch.allclose(rows, nothing, atol=1e-6)]
    assert 0 < len(kept) < SHOWING.batch and found.shown.tolist() == kept


def test_the_rows_are_those_of_a_request(frozen: FrozenParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, of the very images that were drawn."""
    import kinoform.mini.training.transformer_stage as module

    drawn, draw = [], module.portrait

    def noted(*words: Any, **sizes: Any) -> object:
        drawn.append(draw(*words, **sizes))
        return drawn[-1]

    monkeypatch.setattr(module, "portrait", noted)
    stage = TransformerStage(sharing(0.5), frozen)
    drawn.clear()
    found = stage.batch(1)
    video = VideoSize(num_frames=5, height=32, width=32)
    assert len(drawn) == len(found.shown) > 2
    for pixels, rows in zip(drawn, found.context["reference"], strict=True):
        given = ROWS.encode(Inputs({REFERENCE_IMAGES: (InputImage(pixels=pixels),)}), video, CodecOnly(frozen.codec))
        assert torch.equal(given.context["reference"][0], rows)


def test_what_is_dyed_has_the_colour_of_its_portrait_and_no_word_for_it(frozen: FrozenParts) -> None:
    """Video and portrait; only where the caption leaves the object to the portrait, and of that only the share."""

    def dyeing(share: float, unnamed: float = 1.0) -> TransformerBatch:
        config = sharing(1.0, unnamed=unnamed)
        assert config.reference_images is not None
        return batch(frozen, replace(config, reference_images=replace(config.reference_images, off_palette=share)))

    plain, whole, half, named = dyeing(0.0), dyeing(1.0), dyeing(0.5), dyeing(1.0, unnamed=0.0)
    asked = [(each.targets.answers[..., 1] >= 0).any(1) for each in (plain, whole, half, named)]
    assert asked[0].all() and not asked[1].any() and 2 < asked[2].sum() < 11 and asked[3].all()
    others = [not torch.equal(one, other) for one, other in zip(plain.x0, whole.x0, strict=True)]
    assert all(others) and torch.equal(plain.x0, named.x0)
    assert torch.equal(plain.targets.answers[..., 2:], whole.targets.answers[..., 2:])


def test_parts_hold_every_sample_once(frozen: FrozenParts) -> None:
    found = batch(frozen, sharing(0.5))
    (shown, more), (others, nothing) = found.parts()
    assert isinstance(shown, Tensor) and isinstance(others, Tensor) and not nothing
    assert sorted([*shown.tolist(), *others.tolist()]) == list(range(SHOWING.batch))
    assert torch.equal(shown, found.shown) and len(more["reference"]) == len(shown)
    ((everybody, _),) = batch(frozen, sharing(1.0)).parts()
    assert of_type(Tensor, everybody).tolist() == list(range(SHOWING.batch))


def test_the_loss_is_the_mean_of_each_sample_alone(frozen: FrozenParts) -> None:
    stage = TransformerStage(sharing(0.5), frozen)
    spread(stage.modules(), 2)
    found = stage.batch(0)
    alone = [stage.loss(single(found, n)).item() for n in range(SHOWING.batch)]
    assert stage.loss(found).item() == pytest.approx(sum(alone) / len(alone), rel=1e-5)
    deaf = [
        stage.loss(single(found, n)._replace(context={}, shown=found.shown[:0])).item() for n in found.shown.tolist()
    ]
    assert all(abs(alone[n] - each) > 1e-6 for n, each in zip(found.shown.tolist(), deaf, strict=True))


def single(found: TransformerBatch, place: int) -> TransformerBatch:
    """A batch of one of the samples."""
    one, at = slice(place, place + 1), found.shown.tolist()
    context = {name: rows[at.index(place)][None] for name, rows in found.context.items() if place in at}
    return TransformerBatch(
        x0=found.x0[one], noise=found.noise[one], sigma=found.sigma[one], rows=found.rows[one],
        targets=ProbeTargets(*(each[one] for each in found.targets)),
        shown=torch.arange(len(context)), context=context,
    )  # fmt: skip


def test_processes_see_their_parts_of_the_batch(frozen: FrozenParts) -> None:
    whole, parts = batch(frozen, sharing(0.5)), [batch(frozen, sharing(0.5), rank=Rank(n, 2)) for n in range(2)]
    assert torch.equal(torch.cat([each.context["reference"] for each in parts]), whole.context["reference"])
    assert [*parts[0].shown.tolist(), *(6 + n for n in parts[1].shown.tolist())] == whole.shown.tolist()


def test_the_stream_begins_with_what_was_read(frozen: FrozenParts) -> None:
    learnt = STREAM.build(24, 1e-6)
    spread(learnt, 4)
    encoder = TrainedEncoder(stream="reference", weights=learnt.state_dict(), frozen=False, report={})
    plain, begun = (TransformerStage(SHOWING, frozen, encoder=given) for given in (None, encoder))
    for name, value in begun.transformer().state_dict().items():
        wanted = learnt.state_dict().get(
            name.removeprefix("context.reference."), plain.transformer().state_dict()[name]
        )
        assert torch.equal(value, wanted), name
