"""A transformer on the parts of a finished model: only it, and what reads its references, is trained."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kinoform.loading.parts import Parts
from kinoform.mini.factorized_plans import plan as factorized
from kinoform.mini.plans import plan as plan_of_mini
from kinoform.mini.training.reference_stage import train_reader
from kinoform.mini.training.train import CPU, train_on_base
from kinoform.recipes.load import load
from kinoform.training.metrics import read
from kinoform.training.stage import Upkeep
from on_base_recipes import plan, with_other_words, without_references
from refusals import refused

QUIET = Upkeep(show_progress=False)


@cache
def parts() -> Parts:
    return load("mini").parts


def same(one: nn.Module, other: nn.Module) -> bool:
    found, wanted = dict(one.named_parameters()), dict(other.named_parameters())
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in found)


def test_all_but_the_transformer_is_the_base_s(tmp_path: Path) -> None:
    found = train_on_base(plan(), parts(), tmp_path, QUIET)
    assert list(found.report) == ["base", "reader", "transformer"] and found.report["base"] == "mini"
    assert found.codec is not None and same(found.codec, parts().codec(CPU))
    assert same(found.text_encoder, parts().text_encoder(torch.float32, CPU))
    assert found.tokenizer_json == (tmp_path / "tokenizer.json").read_text()
    assert found.transformer.spec == plan().recipe.transformer and not found.transformer.training
    losses = [entry.loss for entry in read(tmp_path / "transformer" / "losses.jsonl")]
    assert len(losses) == 3 and None not in losses


def test_a_training_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    whole = train_on_base(plan(), parts(), tmp_path / "whole", QUIET)
    reader = plan().reader
    assert reader is not None
    train_reader(reader, parts().codec(CPU), tmp_path / "parts" / "reader", QUIET)
    stopped = train_on_base(plan(), parts(), tmp_path / "parts", replace(QUIET, seconds=1e-9, save_every=1))
    assert not same(stopped.transformer, whole.transformer)
    rest = train_on_base(plan(), parts(), tmp_path / "parts", QUIET)
    assert same(rest.transformer, whole.transformer)


@pytest.mark.parametrize("stays", [True, False])
def test_what_was_read_stays_or_learns_on(tmp_path: Path, stays: bool) -> None:
    made = plan()
    assert made.reader is not None and not made.reader.stays
    reader = train_reader(made.reader, parts().codec(CPU), tmp_path / "reader", QUIET)
    found = train_on_base(replace(made, reader=replace(made.reader, stays=stays)), parts(), tmp_path, QUIET)
    kept = found.transformer.context["reference"].state_dict()
    assert all(torch.equal(kept[name], value) for name, value in reader.weights.items()) is stays


def test_without_references_there_is_no_reader(tmp_path: Path) -> None:
    found = train_on_base(without_references(), parts(), tmp_path, QUIET)
    assert list(found.report) == ["base", "transformer"] and not (tmp_path / "reader").exists()


def test_processes_share_batches_of_which_some_have_no_portrait(tmp_path: Path) -> None:
    """A part may be without any, and then what reads them gets no gradient there."""
    made = plan()
    assert made.transformer.portraits is not None
    rare = replace(made.transformer, portraits=replace(made.transformer.portraits, share=0.3))
    one, two = (
        train_on_base(replace(made, transformer=rare), parts(), tmp_path / str(n), QUIET, processes=n) for n in (1, 2)
    )
    values: list[dict[str, Tensor]] = [dict(each.transformer.named_parameters()) for each in (one, two)]
    assert all(torch.allclose(value, values[1][name], atol=2e-4) for name, value in values[0].items())


def test_what_is_not_of_the_base_is_refused(tmp_path: Path) -> None:
    other = replace(plan(), recipe=replace(plan().recipe, text=replace(plan().recipe.text, length=24)))
    with refused("recipe_mismatch", "tiny-on-mini"):
        train_on_base(other, parts(), tmp_path, QUIET)
    with refused("vocabulary_mismatch", "mini"):
        train_on_base(with_other_words(), parts(), tmp_path, QUIET)


def test_the_factorized_model_learns_from_the_videos_of_mini() -> None:
    """The transformer and the portraits differ: videos, noise and levels are the same, but for dyed objects."""
    made, of_mini = factorized(), plan_of_mini()
    assert replace(made.transformer, transformer=of_mini.transformer.transformer, portraits=None) == of_mini.transformer
    assert (made.transformer_training, made.words) == (of_mini.transformer_training, of_mini.words)
    assert (made.recipe.codec, made.recipe.text) == (of_mini.recipe.codec, of_mini.recipe.text)
    assert made.reader is not None and made.transformer.portraits is not None
    assert made.reader.stays and made.reader.config.stream == made.recipe.transformer.context[-1]
    assert made.reader.config.rows == made.transformer.portraits.rows == made.recipe.conditioners[0]
    assert made.transformer.transformer == made.recipe.transformer
