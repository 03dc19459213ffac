"""A stream whose rows are read together: several rows say what a single one does not."""

from dataclasses import replace

import pytest
import torch

from kinoform.models.context import (
    ImageContext,
    ImageEmbedding,
    ReferenceContext,
    ReferenceEncoder,
    ReferenceEncoderSpec,
)
from kinoform.models.dit import DiT
from kinoform.models.lora import BLOCKS, LoRASpec, adapters_of, attach
from kinoform.models.protocols import ContextSpec
from kinoform.models.vision import BlockSizes, VisionBlock, VisionSpec
from tests.models.recorded import gap, spread
from tests.models.toys import TEXT, TINY, TOLD, noise, random_dit, run, video
from tests.support.refusals import refused

SPEC = ReferenceEncoderSpec(dim=8, heads=2, layers=2, dim_ffn=12)
STREAM = ReferenceContext(width=6, encoder=SPEC)
PLAIN = ReferenceContext(width=6)
READING = replace(TINY, context=(TEXT, STREAM))


def built(stream: ReferenceContext) -> torch.nn.Module:
    module = stream.build(TINY.dim, TINY.eps).requires_grad_(False)
    spread(module, 1)
    return module


def test_the_protocols_are_kept() -> None:
    assert isinstance(STREAM, ContextSpec)
    assert isinstance(SPEC, BlockSizes) and isinstance(VisionSpec(), BlockSizes)
    assert STREAM.gated


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with refused("spec_not_divisible", "3", "8"):
        ReferenceEncoderSpec(dim=8, heads=3)


@pytest.mark.parametrize("count", [1, 5])
def test_every_row_becomes_a_row_of_the_model_s_width(count: int) -> None:
    rows = noise(2, 3, count, 6)
    for stream in (STREAM, PLAIN):
        found = built(stream)(rows)
        assert found.shape == (3, count, TINY.dim) and found.dtype == torch.float32
    assert built(STREAM).get_submodule("0")(rows).shape == (3, count, SPEC.dim)


def test_a_row_knows_of_the_others_where_there_is_a_reader() -> None:
    rows = noise(2, 2, 5, 6)
    other = rows.clone()
    other[0, 4] = noise(3, 6)
    for stream, told in ((STREAM, True), (PLAIN, False)):
        one, two = built(stream)(rows), built(stream)(other)
        assert (gap(two[0, :4], one[0, :4]) > 1e-2) is told
        assert gap(two[0, 4], one[0, 4]) > 1e-2
        assert gap(two[1], one[1]) < 1e-6, "videos of a batch know nothing of one another"


def test_rows_have_no_order_but_what_they_say() -> None:
    rows, order = noise(2, 1, 5, 6), [3, 0, 4, 1, 2]
    assert gap(built(STREAM)(rows[:, order]), built(STREAM)(rows)[:, order]) < 1e-5


def test_it_is_a_layer_then_blocks_of_the_image_encoder() -> None:
    module, rows = built(STREAM), noise(2, 1, 5, 6)
    reader, embedding = module.children()
    assert isinstance(reader, ReferenceEncoder) and isinstance(embedding, ImageEmbedding)
    naive = torch.nn.functional.layer_norm(rows, (6,), reader.norm_in.weight, reader.norm_in.bias, SPEC.eps)
    naive = reader.enter(naive)
    for block in reader.blocks:
        assert isinstance(block, VisionBlock)
        naive = block(naive)
    plain = ImageContext(width=SPEC.dim).build(TINY.dim, TINY.eps)
    plain.load_state_dict(embedding.state_dict())
    assert len(reader.blocks) == SPEC.layers and gap(module(rows), plain(naive)) < 1e-5


def test_weights_are_called_by_their_place() -> None:
    names = READING.build().state_dict().keys() - TINY.build().state_dict().keys()
    inside = {name.removeprefix("context.reference.") for name in names if name.startswith("context.reference.")}
    assert {each.split(".")[0] for each in inside} == {"0", "1"}
    layers = ("norm1", "norm2", "q", "k", "v", "o", "mlp.0", "mlp.2")
    assert {each.rpartition(".")[0] for each in inside if each.startswith("0.")} == {
        "0.norm_in", "0.enter", *(f"0.blocks.{n}.{layer}" for n in range(SPEC.layers) for layer in layers)
    }  # fmt: skip
    others = names - {f"context.reference.{name}" for name in inside}
    assert others and all(".cross_attention.streams.reference." in name for name in others)


def test_low_rank_changes_of_blocks_leave_the_reader_alone() -> None:
    changed = attach(random_dit(READING), LoRASpec(patterns=BLOCKS, rank=1), generator=torch.Generator())
    places = adapters_of(changed)["lora"]
    assert places and all(place.startswith("blocks.") for place in places)


def test_a_model_with_a_reader_begins_as_the_model_without() -> None:
    """Its gates begin at 0; once they are open, what is read shows."""
    base, model = random_dit(TINY), random_dit(READING, seed=5)
    model.load_state_dict(base.state_dict(), strict=False)
    shown = replace(TOLD, context={**TOLD.context, "reference": noise(6, 1, 7, 6)})
    assert gap(run(model, video(), shown), run(base, video())) > 1e-3
    close(model)
    assert torch.equal(run(model, video(), shown), run(base, video()))
    assert torch.equal(run(model, video(), TOLD), run(base, video())), "it may be left out"


def close(model: DiT) -> None:
    for name, weight in model.named_parameters():
        if name.endswith("streams.reference.gate"):
            weight.zero_()
