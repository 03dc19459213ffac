"""Full checkpoints as factorized models: without a change under another scheme, or converted to blocks of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.conversion.convert import Conversion, convert
from kinoform.errors import WeightsError
from kinoform.loading.own import Modules, read_manifest, save_own
from kinoform.loading.verify import verify_path
from kinoform.models.factorized_block import ROWS, TIME, FactorizedBlock
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.ops.patch import grid_of
from kinoform.recipes.load import load
from kinoform.types import Conditions
from tests.support.diffusers_folder import write_diffusers_folder
from tests.support.official_folder import SINGLE, TRANSFORMER, WORDS, tiny_modules, write_official_folder
from tests.support.refusals import refused

CPU = torch.device("cpu")
OUT = "transformer.safetensors"


def write_own(
    folder: Path, modules: Modules | None = None, recipe: str = "tests.support.factorized_recipes:full"
) -> None:
    words = build_word_tokenizer(WORDS).to_str()
    save_own(folder, modules or tiny_modules(), tokenizer_json=words, recipe=recipe, made={}, dtype=torch.float32)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "model"
    write_own(folder)
    return folder


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in the official layout."""
    folder = tmp_path_factory.mktemp("official") / "model"
    write_official_folder(folder)
    return folder


@pytest.fixture(params=["own", "official"])
def model(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def out(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one in kinoform's own layout, converted."""
    return converted(own, tmp_path_factory.mktemp("converted") / "model")


def converted(source: Path, target: Path) -> Path:
    convert(source, target, Conversion(to="factorized", recipe="tests.support.factorized_recipes:full"))
    return target


def latents(folder: Path, recipe: str) -> Tensor:
    pipe = load(folder, recipe=f"tests.support.factorized_recipes:{recipe}", device="cpu")
    return next(pipe.latents([pipe.request("a red cat", seed=1)], lambda progress: None))


@pytest.mark.parametrize("order", ["between", "after"])
def test_a_converted_model_begins_as_space_alone_bit_for_bit(own: Path, out: Path, order: str) -> None:
    assert torch.equal(latents(out, order), latents(own, "space"))


@pytest.mark.parametrize("write", [write_official_folder, write_diffusers_folder])
def test_every_layout_gives_the_same_transformer(write: Callable[[Path], None], out: Path, tmp_path: Path) -> None:
    write(tmp_path / "model")
    found, expected = (load_file(each / OUT) for each in (converted(tmp_path / "model", tmp_path / "out"), out))
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_it_keeps_its_recipe_and_is_read_as_what_it_is(out: Path) -> None:
    assert read_manifest(out).recipe == "tests.support.factorized_recipes:full" and not verify_path(out).faults
    assert (
        load(out, recipe="tests.support.factorized_recipes:full", device="cpu").recipe.transformer.block
        == FactorizedBlock()
    )
    assert torch.equal(latents(out, "full"), latents(out, "between"))


def test_time_is_a_copy_behind_rows_of_zeros_and_all_else_stays(own: Path, out: Path) -> None:
    before, after = load_file(own / OUT), load_file(out / OUT)
    copies = {name for name in after if ".time_attention." in name}
    assert copies == {name.replace("self", "time") for name in before if ".self_attention." in name}
    assert before.keys() == after.keys() - copies
    for name, value in after.items():
        held = before[name.replace("time_attention", "self_attention")]
        axis = 1 if name.endswith("modulation") and name.startswith("blocks.") else 0
        first = value.narrow(axis, 0, held.shape[axis])
        assert torch.equal(first, held), name
        rest = value.narrow(axis, held.shape[axis], value.shape[axis] - held.shape[axis])
        assert not rest.any() and value.numel() in (held.numel(), held.numel() * ROWS // TIME), name
    for file in own.iterdir():
        if file.name not in (OUT, "manifest.json"):
            assert file.read_bytes() == (out / file.name).read_bytes()


def test_its_gates_learn_first_and_then_the_rest(out: Path) -> None:
    """The no-op is a place to start from: gradients reach the gates of time, which open the way to its weights."""
    parts = load(out, recipe="tests.support.factorized_recipes:between", device="cpu").parts
    model = parts.transformer(torch.float32, CPU).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    x, rows = torch.randn(1, 16, 3, 4, 4, generator=generator), torch.randn(1, 24, 24, generator=generator)
    prepared = model.prepare(Conditions(context={"text": rows}), grid_of(x, model.spec.patch))
    model(x, torch.tensor([500.0]), prepared).square().sum().backward()
    gate = model.get_parameter("blocks.0.modulation").grad
    assert gate is not None and gate[:, TIME + 2].any() and not gate[:, TIME : TIME + 2].any()


def test_the_blocks_beside_the_main_ones_are_converted_too(tmp_path: Path) -> None:
    write_official_folder(tmp_path / "vace", kind="vace")
    names = load_file(converted(tmp_path / "vace", tmp_path / "out") / OUT)
    assert names["branches.vace.blocks.1.modulation"].shape == (1, ROWS, TRANSFORMER.dim)
    space, time = (names[f"branches.vace.blocks.1.{each}_attention.q.weight"] for each in ("self", "time"))
    assert torch.equal(space, time)


def test_numbers_may_be_cast_and_files_split(own: Path, tmp_path: Path) -> None:
    options = Conversion(to="factorized", recipe="a:b", dtype=torch.bfloat16, shard_bytes=30_000)
    convert(own, tmp_path / "out", options)
    shards = sorted((tmp_path / "out").glob("transformer-*.safetensors"))
    held = {name: value for file in shards for name, value in load_file(file).items()}
    assert len(shards) > 1 and {value.dtype for value in held.values()} == {torch.bfloat16}
    assert held["blocks.2.modulation"].shape == (1, ROWS, TRANSFORMER.dim)


def test_under_alternating_attention_full_weights_load_unchanged(model: Path) -> None:
    full, other, space = (latents(model, recipe) for recipe in ("full", "alternating", "space"))
    assert not torch.equal(other, full) and not torch.equal(other, space)


@pytest.mark.parametrize("order", ["between", "after"])
def test_full_weights_are_not_read_into_factorized_blocks(model: Path, order: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load(model, recipe=f"tests.support.factorized_recipes:{order}", device="cpu")
    sentence = str(caught.value)
    assert sentence.endswith(f"kinoform convert --to factorized {model} OUT") and "\n" not in sentence


def test_what_cannot_become_factorized_is_refused(own: Path, official: Path, out: Path, tmp_path: Path) -> None:
    with refused("factorized_already"):
        converted(out, tmp_path / "twice")
    with refused("model_ambiguous", "--recipe"):
        convert(own, tmp_path / "nameless", Conversion(to="factorized"))
    with refused("part_not_model"):
        converted(official / SINGLE, tmp_path / "part")
    with refused("model_not_part"):
        converted(official, tmp_path / "file.safetensors")
    with refused("unknown_name", "'factorized'"):
        Conversion(to="factorised")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "shape"),
    [("blocks.1.modulation", (1, 7, 24)), ("time_projection.1.bias", (100,)), ("blocks.0.modulation", ())],
)
def test_other_rows_than_those_of_full_attention_are_refused(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def named_parameters(self, *args: object, **kwargs: object):
            held = dict(tiny_modules().transformer.named_parameters())
            yield from {**held, name: torch.nn.Parameter(torch.ones(shape))}.items()

    modules = tiny_modules()
    odd = Modules(transformer=Odd(), autoencoder=modules.autoencoder, text_encoder=modules.text_encoder)
    write_own(tmp_path / "odd", odd)
    with refused("weights_wrong_shape", name):
        converted(tmp_path / "odd", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_folder_is_not_converted(tmp_path: Path) -> None:
    write_own(tmp_path / "own")
    held = load_file(tmp_path / "own" / OUT)
    held["patch_embedding.bias"] += 1
    save_file(held, tmp_path / "own" / OUT, metadata={"format": "pt"})
    with refused("weights_damaged"):
        converted(tmp_path / "own", tmp_path / "out")


def test_files_that_the_manifest_does_not_name_or_misnames_do_not_pass(tmp_path: Path) -> None:
    write_own(tmp_path / "own")
    (tmp_path / "own" / "notes").mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "own" / "notes" / "stray.safetensors")
    assert (converted(tmp_path / "own", tmp_path / "out") / OUT).is_file()
    modules = tiny_modules()
    swapped = Modules(
        transformer=modules.text_encoder, autoencoder=modules.autoencoder, text_encoder=modules.text_encoder
    )
    write_own(tmp_path / "swapped", swapped)
    with refused("weights_wrong_part", "transformer.safetensors"):
        converted(tmp_path / "swapped", tmp_path / "other")
