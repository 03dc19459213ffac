"""Images as words: rows that stand behind the prompt's and are read by the same k and v, in the same softmax."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from kinoform.models.context import PseudoWordContext, ReferenceEncoderSpec
from kinoform.models.dit import concatenated
from kinoform.models.protocols import ContextSpec
from kinoform.ops.patch import grid_of
from tests.models.recorded import gap, spread
from tests.models.toys import TEXT, TINY, TOLD, noise, random_dit, run, video
from tests.support.refusals import refused

STREAM = PseudoWordContext(width=6, words=3, encoder=ReferenceEncoderSpec(dim=8, heads=2, layers=2, dim_ffn=12))
SAYING = replace(TINY, context=(TEXT, STREAM))


def test_the_protocols_are_kept() -> None:
    assert isinstance(STREAM, ContextSpec)
    assert STREAM.concat_to == "text" and not STREAM.gated


@pytest.mark.parametrize("count", [1, 16])
def test_there_are_as_many_words_whatever_the_rows(count: int) -> None:
    module = STREAM.build(TINY.dim, TINY.eps).requires_grad_(False)
    spread(module, 1)
    assert module(noise(2, 3, count, 6)).shape == (3, STREAM.words, TINY.dim)


def test_blocks_have_nothing_of_their_own_for_it() -> None:
    names = SAYING.build().state_dict().keys() - TINY.build().state_dict().keys()
    assert names and all(name.startswith("context.reference.") for name in names)


def test_without_images_the_model_is_the_one_without() -> None:
    base, model = random_dit(TINY), random_dit(SAYING, seed=5)
    model.load_state_dict(base.state_dict(), strict=False)
    assert torch.equal(run(model, video()), run(base, video()))
    shown = replace(TOLD, context={**TOLD.context, "reference": noise(6, 1, 7, 6)})
    assert gap(run(model, video(), shown), run(base, video())) > 1e-3


def test_its_rows_are_read_as_rows_of_the_prompt() -> None:
    """The keys are those of text, of the prompt's rows with the words behind them; no other stream is left."""
    model = random_dit(SAYING)
    rows, images = TOLD.context["text"], noise(6, 1, 7, 6)
    grid = grid_of(video(), TINY.patch)
    told = model.prepare(replace(TOLD, context={"text": rows, "reference": images}), grid)
    both = torch.cat([model.context["text"](rows), model.context["reference"](images)], dim=1)
    assert list(told.context) == ["text"] and torch.equal(told.context["text"], both)
    for layer, keys in enumerate(told.keys):
        block: Any = model.blocks[layer]
        wanted = block.keys({"text": both})
        assert list(keys) == ["text"]
        assert all(torch.equal(one, other) for one, other in zip(keys["text"], wanted["text"], strict=True))


def test_streams_that_join_nothing_stay_apart() -> None:
    rows = {"text": noise(1, 1, 2, 4), "reference": noise(2, 1, 3, 4)}
    assert concatenated(rows, (TEXT, replace(STREAM, concat_to=None))) == rows
    assert torch.equal(concatenated(rows, (TEXT, STREAM))["text"], torch.cat(list(rows.values()), dim=1))


def test_words_of_images_alone_are_refused() -> None:
    model = random_dit(SAYING)
    with refused("context_not_taken", "reference"):
        model.prepare(replace(TOLD, context={"reference": noise(6, 1, 7, 6)}), grid_of(video(), TINY.patch))
