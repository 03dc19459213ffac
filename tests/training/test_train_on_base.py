"""A transformer on the parts of a finished model: only it, and what reads its references, is trained."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kinoform.loading.parts import Parts
from kinoform.mini.plans import mini as plan_of_mini
from kinoform.mini.plans import mini_factorized as factorized
from kinoform.mini.training.plan import CPU, TransformerPlan, train_on_base
from kinoform.mini.training.reference_stage import ReferenceEncoderPlan
from kinoform.recipes.load import load
from kinoform.training.frozen import FrozenParts, TrainedEncoder
from kinoform.training.metrics import read_metrics
from kinoform.training.stage import RunOptions
from tests.support.narrowing import of_type
from tests.support.on_base_recipes import plan, with_other_words, without_references
from tests.support.refusals import refused

QUIET = RunOptions(show_progress=False)


@cache
def parts() -> Parts:
    return load("mini").parts


def same(one: nn.Module, other: nn.Module) -> bool:
    found, wanted = dict(one.named_parameters()), dict(other.named_parameters())
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in found)


def encoder_trained(plan: TransformerPlan, folder: Path) -> TrainedEncoder:
    assert plan.encoder is not None
    text = parts().text_encoder(torch.float32, CPU)
    frozen = FrozenParts(codec=parts().codec(CPU), tokenizer=parts().tokenizer(), text_encoder=text)
    return plan.encoder.train(parts().transformer(torch.float32, CPU), frozen, folder / "encoder", QUIET)


def test_all_but_the_transformer_is_the_base_s(tmp_path: Path) -> None:
    found = train_on_base(plan(), parts(), tmp_path, QUIET)
    assert list(found.report) == ["base", "encoder", "transformer"] and found.report["base"] == "mini"
    assert found.codec is not None and same(found.codec, of_type(nn.Module, parts().codec(CPU)))
    assert same(found.text_encoder, parts().text_encoder(torch.float32, CPU))
    assert found.tokenizer_json == (tmp_path / "tokenizer.json").read_text()
    assert found.transformer.spec == plan().recipe.transformer and not found.transformer.training
    losses = [entry.loss for entry in read_metrics(tmp_path / "transformer" / "losses.jsonl")]
    assert len(losses) == 3 and None not in losses


def test_a_training_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    whole = train_on_base(plan(), parts(), tmp_path / "whole", QUIET)
    encoder_trained(plan(), tmp_path / "parts")
    stopped = train_on_base(plan(), parts(), tmp_path / "parts", replace(QUIET, seconds=1e-9, save_every=1))
    assert not same(stopped.transformer, whole.transformer)
    rest = train_on_base(plan(), parts(), tmp_path / "parts", QUIET)
    assert same(rest.transformer, whole.transformer)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_encoder_stays_or_learns_on(tmp_path: Path, frozen: bool) -> None:
    made = plan()
    assert isinstance(made.encoder, ReferenceEncoderPlan) and not made.encoder.frozen
    trained = encoder_trained(made, tmp_path)
    found = train_on_base(replace(made, encoder=replace(made.encoder, frozen=frozen)), parts(), tmp_path, QUIET)
    kept = found.transformer.context["reference"].state_dict()
    assert all(torch.equal(kept[name], value) for name, value in trained.weights.items()) is frozen


def test_without_references_there_is_no_reader(tmp_path: Path) -> None:
    found = train_on_base(without_references(), parts(), tmp_path, QUIET)
    assert list(found.report) == ["base", "transformer"] and not (tmp_path / "encoder").exists()


def test_processes_share_batches_of_which_some_have_no_portrait(tmp_path: Path) -> None:
    """A part may be without any, and then what reads them gets no gradient there."""
    made = plan()
    assert made.transformer.reference_images is not None
    rare = replace(made.transformer, reference_images=replace(made.transformer.reference_images, share=0.3))
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
    assert (
        replace(made.transformer, transformer=of_mini.transformer.transformer, reference_images=None)
        == of_mini.transformer
    )
    assert (made.transformer_training, made.words) == (of_mini.transformer_training, of_mini.words)
    assert (made.recipe.codec, made.recipe.text) == (of_mini.recipe.codec, of_mini.recipe.text)
    assert isinstance(made.encoder, ReferenceEncoderPlan) and made.transformer.reference_images is not None
    assert made.encoder.frozen and made.encoder.config.stream == made.recipe.transformer.context[-1]
    assert made.encoder.config.rows == made.transformer.reference_images.rows == made.recipe.conditioners[0]
    assert made.transformer.transformer == made.recipe.transformer
