"""An adapter that changes layers and adds nothing becomes a LoRA file, which changes the model in the same way."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.checkpoints.reader import HeaderReader
from kinoform.conversion.convert import Conversion, convert, convert_lora
from kinoform.loading.adapters import adapter_in, save_adapter, with_adapter
from kinoform.loading.additions import Additions
from kinoform.loading.lora import attach_file, parameter_shapes
from kinoform.loading.lora_file import open_lora
from kinoform.loading.parts import Parts
from kinoform.models.dit import DiT
from kinoform.models.lora_linear import linear_layers
from tests.support.adapter_files import ALL, CPU, LORA, NAME, base_parts, trained
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, write_tiny_folder
from tests.weights.lora_fixtures import changes, pair, written


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return base_parts(write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny"))


def saved(folder: Path, base: Parts, additions: Additions | None) -> Path:
    model = trained(base.transformer(torch.float32, CPU), additions)
    path = folder / "adapter.safetensors"
    save_adapter(
        path, (model,), additions, name=NAME, base="tiny", base_hash=base.fingerprint(), recipe="ideas:all", made={}
    )
    return path


@pytest.fixture
def adapter(tmp_path: Path, base: Parts) -> Path:
    return saved(tmp_path, base, None)


def merged(base: Parts, adapter: Path) -> dict[str, Tensor]:
    file = adapter_in(adapter, HeaderReader())
    assert file is not None
    model = with_adapter(base, None, tiny().transformers, file=file).transformer(torch.float32, CPU)
    return {name: layer.weight for name, layer in linear_layers(model).items()}


def with_lora(base: Parts, path: Path) -> tuple[DiT, dict[str, Tensor]]:
    """The model with the LoRA, and its weights with what that adds."""
    model = base.transformer(torch.float32, CPU)
    file = open_lora(path, parameter_shapes(model))
    assert not file.absent and not file.unknown and file.scales == (1.0,)
    changed = attach_file(model, file, 1.0)
    added = changes(changed)
    return changed, {name: layer.weight + added.get(name, 0) for name, layer in linear_layers(changed).items()}


@pytest.mark.parametrize("dialect", ["comfy", "diffusers", "kohya"])
def test_the_lora_changes_the_weights_as_the_adapter_does(
    dialect: str, base: Parts, adapter: Path, tmp_path: Path
) -> None:
    done = convert_lora(adapter, tmp_path / "style.safetensors", dialect)
    assert done.files == (tmp_path / "style.safetensors",) and done.tensors == len(load_file(done.files[0]))
    changed, found = with_lora(base, done.files[0])
    expected = merged(base, adapter)
    assert changes(changed) and found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    with safe_open(done.files[0], framework="pt") as file:
        told = file.metadata()
    rank = str(LORA.rank)
    assert told == {"format": "pt", "rank": rank, "alpha": rank, "base_model_hash": base.fingerprint()}


def test_numbers_stay_as_they_are_unless_a_dtype_is_asked_for(adapter: Path, tmp_path: Path) -> None:
    for dtype, expected in ((None, torch.bfloat16), (torch.float16, torch.float16)):
        convert_lora(adapter, tmp_path / "style.safetensors", "comfy", dtype=dtype, force=True)
        held = load_file(tmp_path / "style.safetensors")
        assert {value.dtype for name, value in held.items() if not name.endswith("alpha")} == {expected}
    before = sorted(value.flatten().tolist() for value in load_file(adapter).values())
    convert_lora(adapter, tmp_path / "same.safetensors", "diffusers")
    assert sorted(value.flatten().tolist() for value in load_file(tmp_path / "same.safetensors").values()) == before


def test_what_a_lora_file_has_no_place_for_is_refused(base: Parts, tmp_path: Path) -> None:
    path = saved(tmp_path, base, ALL)
    with refused("adapter_not_lora") as caught:
        convert_lora(path, tmp_path / "style.safetensors", "comfy")
    assert "--model" in str(caught.value) and "streams.reference" in str(caught.value)


def test_other_wishes_are_refused_before_anything_is_written(adapter: Path, tmp_path: Path) -> None:
    target = tmp_path / "style.safetensors"
    with refused("options_conflict", "--format"):
        convert(adapter, target, Conversion(to="comfy"))
    with refused("unknown_name", "kohya"):
        convert_lora(adapter, target, "kohyo")
    with refused("wrong_suffix"):
        convert_lora(adapter, tmp_path / "style", "comfy")
    with refused("would_replace_source"):
        convert_lora(adapter, adapter, "comfy", force=True)
    assert [each.name for each in tmp_path.iterdir()] == [adapter.name]


def test_a_damaged_adapter_is_refused(adapter: Path, tmp_path: Path) -> None:
    tensors = load_file(adapter)
    with safe_open(adapter, framework="pt") as file:
        metadata = file.metadata()
    place = next(name for name in tensors if name.endswith(".adapter.up"))
    save_file(tensors | {place: tensors[place][:, :1].clone()}, adapter, metadata=metadata)
    with refused("weights_damaged"):
        convert_lora(adapter, tmp_path / "style.safetensors", "comfy")


def test_a_lora_needs_no_conversion(tmp_path: Path) -> None:
    path = written(tmp_path, pair())
    with refused("weights_unsupported_model") as caught:
        convert(path, tmp_path / "out.safetensors", Conversion(to="diffusers"))
    assert "is a LoRA" in str(caught.value) and "--lora" in str(caught.value)
