"""A factorized transformer as a single file: told, loaded and refused as one of full attention by own names is."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.conversion.convert import Conversion, convert
from kinoform.families.identify import inspect_path
from kinoform.loading.own import save_own
from kinoform.models.block import FullBlock
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.protocols import BlockSpec
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipes.load import load
from tests.support.comfy_files import SINGLE
from tests.support.official_folder import TRANSFORMERS, WORDS, tiny_modules
from tests.support.refusals import refused
from tests.support.tiny_recipe import write_tiny_folder

FILE = "transformer.safetensors"
KINDS = ("full", "factorized")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with full blocks, and what it becomes; heads of 128 columns, as files without a config have."""
    root = tmp_path_factory.mktemp("models")
    save_own(
        root / "full", tiny_modules(transformer=SINGLE), tokenizer_json=build_word_tokenizer(WORDS).to_str(),
        recipe="tests.support.factorized_recipes:full", made={}, dtype=torch.float32,
    )  # fmt: skip
    convert(
        root / "full", root / "factorized", Conversion(to="factorized", recipe="tests.support.factorized_recipes:full")
    )
    for kind in KINDS:
        shutil.copy(root / kind / FILE, root / f"{kind}.safetensors")
    return root


def opened(models: Path, kind: str, recipe: str | None = None) -> Pipeline:
    """The file on its own, with the other parts named one by one."""
    full = models / "full"
    return load(
        models / f"{kind}.safetensors", recipe=recipe, text_encoder=full / "text_encoder.safetensors",
        codec=full / "autoencoder.safetensors", tokenizer=full / "tokenizer.json", device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "block"), [("full", FullBlock()), ("factorized", FactorizedBlock())])
def test_a_file_is_loaded_as_its_folder_is(models: Path, kind: str, block: BlockSpec) -> None:
    pipe = opened(models, kind)
    assert pipe.recipe.transformer == pipe.parts.transformer_spec == replace(SINGLE, block=block)
    loaded = pipe.parts.transformer(torch.float32, torch.device("cpu")).state_dict()
    held = load_file(models / kind / FILE)
    assert loaded.keys() == held.keys() and all(torch.equal(value, held[name]) for name, value in loaded.items())


def test_parts_beside_a_file_are_found(models: Path) -> None:
    assert load(models / "factorized" / FILE, device="cpu").recipe.transformer.block == FactorizedBlock()


@pytest.mark.parametrize(("recipe", "block"), [("full", FactorizedBlock()), ("after", FactorizedBlock(cross="after"))])
def test_a_recipe_says_the_order_of_the_blocks(models: Path, recipe: str, block: BlockSpec) -> None:
    assert opened(models, "factorized", f"tests.support.factorized_recipes:{recipe}").recipe.transformer.block == block


def test_full_weights_are_not_read_into_factorized_blocks(models: Path) -> None:
    with refused("weights_wrong_model", "kinoform convert --to factorized"):
        opened(models, "full", "tests.support.factorized_recipes:between")


def test_it_is_inspected_as_no_released_model(models: Path) -> None:
    full, made = (inspect_path(models / f"{kind}.safetensors")[0] for kind in KINDS)
    assert (made.family, made.dialect, made.missing, made.unknown) == (full.family, full.dialect, (), ())
    assert made.sizes == {**full.sizes, "time_layers": SINGLE.layers} and made.candidates == ()


@pytest.mark.parametrize("kind", ["t2v", "vace"])
def test_what_a_damaged_file_lacks_is_named(models: Path, tmp_path: Path, kind: str) -> None:
    spec = replace(TRANSFORMERS[kind], block=FactorizedBlock())
    tensors = dict(spec.build().state_dict())
    lacking = [name for name in tensors if name.endswith("blocks.1.time_attention.k.weight")]
    for name in lacking:
        del tensors[name]
    save_file(tensors, tmp_path / "part.safetensors")
    (found,) = inspect_path(tmp_path / "part.safetensors")
    assert found.family == f"wan21-{kind}" and sorted(found.missing) == sorted(lacking) != []


def test_no_other_dialect_has_names_for_its_blocks(models: Path, tmp_path: Path) -> None:
    with refused("weights_unsupported_model"):
        convert(models / "factorized.safetensors", tmp_path / "out.safetensors", Conversion(to="comfy"))


def test_a_file_that_only_its_recipe_describes_asks_for_its_folder(tmp_path: Path) -> None:
    file = write_tiny_folder(tmp_path / "tiny") / FILE
    with refused("weights_unsupported_model"):
        load(file, device="cpu")
