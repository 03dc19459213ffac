"""Models that take images and videos go to every layout with all their parts, and come back where they can."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kinoform.conversion.convert import Conversion, convert
from kinoform.loading.own import open_own
from kinoform.loading.parts import own_parts, released_parts
from kinoform.loading.verify import verify_path
from tests.support.diffusers_folder import huggingface_tower, transformer_config
from tests.support.official_folder import (
    CODEC,
    IMAGE_FILE,
    TEXT,
    TRANSFORMERS,
    VISION,
    official_config,
    tiny_modules,
    tower,
    write_official_folder,
)
from tests.support.refusals import refused
from tests.support.tower_files import opened_tower, source_tower, tower_of

CPU = torch.device("cpu")
KINDS = ("i2v", "flf2v", "vace")
RECIPE = "kinoform.recipes.wan21:i2v_14b_480p"
IMAGE = Path(IMAGE_FILE).with_suffix(".safetensors").name
HEAD = {"visual.head"}
"""What the other dialects do not keep: it leads to CLIP's text tower."""


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("official")
    for kind in KINDS:
        write_official_folder(folder / kind, kind=kind)
    return {kind: folder / kind for kind in KINDS}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def assert_tower(file: Path) -> None:
    """The image encoder in this file is the tiny one."""
    found = source_tower(VISION, opened_tower(file))
    assert_same(found.state_dict(), tower_of(VISION, tower()).state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_goes_to_diffusers_and_back(kind: str, official: dict[str, Path], tmp_path: Path) -> None:
    convert(official[kind], tmp_path / "there", Conversion(to="diffusers"))
    index = json.loads((tmp_path / "there" / "model_index.json").read_text())
    assert index["_class_name"] == ("WanVACEPipeline" if kind == "vace" else "WanImageToVideoPipeline")
    config = json.loads((tmp_path / "there" / "transformer" / "config.json").read_text())
    assert config.items() >= transformer_config(kind).items()
    parts, source = released_parts(tmp_path / "there"), tiny_modules(transformer=TRANSFORMERS[kind])
    assert_same(parts.transformer(torch.float32, CPU).state_dict(), source.transformer.state_dict())
    convert(tmp_path / "there", tmp_path / "back", Conversion(to="official"))
    back = json.loads((tmp_path / "back" / "config.json").read_text())
    assert back.items() >= {**official_config(kind), "text_len": 512, "_diffusers_version": "0.42.1"}.items()
    if kind == "vace":
        assert not (tmp_path / "there" / "image_encoder").exists() and "image_encoder" not in index
        return
    assert_tower(tmp_path / "there" / "image_encoder" / "model.safetensors")
    expected = {name: value.half() for name, value in tower().items() if name not in HEAD}
    assert_same(load_file(tmp_path / "back" / IMAGE), expected)
    assert released_parts(tmp_path / "back").image_spec == VISION


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_becomes_one_of_kinoforms_own(kind: str, official: dict[str, Path], tmp_path: Path) -> None:
    convert(official[kind], tmp_path / "own", Conversion(to="kinoform", recipe=RECIPE))
    spec, source = TRANSFORMERS[kind], tiny_modules(transformer=TRANSFORMERS[kind])
    parts = own_parts(open_own(tmp_path / "own"), (spec,), CODEC, TEXT, None if kind == "vace" else VISION)
    assert_same(parts.transformer(torch.float32, CPU).state_dict(), source.transformer.state_dict())
    if source.image_encoder is not None:
        assert_same(parts.image_encoder(torch.float32, CPU).state_dict(), source.image_encoder.state_dict())
        with refused("weights_incomplete", "image_encoder.safetensors"):
            convert(tmp_path / "own", tmp_path / "back", Conversion(to="official"))
    checked = verify_path(tmp_path / "own")
    assert checked.faults == () and checked.hashed == len(parts_of(tmp_path / "own"))


def parts_of(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name != "manifest.json"]


def test_comfy_has_a_folder_for_the_image_encoder(official: dict[str, Path], tmp_path: Path) -> None:
    done = convert(official["i2v"], tmp_path / "comfy", Conversion(to="comfy"))
    names = {str(file.relative_to(tmp_path / "comfy")) for file in done.files}
    assert {"clip_vision/clip_vision_h.safetensors", "diffusion_models/wan2.1_i2v_fp32.safetensors"} <= names
    file = tmp_path / "comfy" / "clip_vision" / "clip_vision_h.safetensors"
    assert load_file(file).keys() == huggingface_tower().keys()
    assert_tower(file)


@pytest.mark.parametrize("to", ["official", "diffusers", "comfy"])
def test_an_image_encoder_alone_goes_there_and_back(to: str, official: dict[str, Path], tmp_path: Path) -> None:
    convert(official["i2v"] / IMAGE_FILE, tmp_path / "there.safetensors", Conversion(to=to))
    assert_tower(tmp_path / "there.safetensors")
    convert(tmp_path / "there.safetensors", tmp_path / "back.safetensors", Conversion(to="official"))
    lost = set() if to == "official" else HEAD
    expected = {name: value.half() for name, value in tower().items() if name not in lost}
    assert_same(load_file(tmp_path / "back.safetensors"), expected)


def test_a_model_without_its_image_encoder_is_half_a_model(official: dict[str, Path], tmp_path: Path) -> None:
    write_official_folder(tmp_path / "half", kind="i2v")
    (tmp_path / "half" / IMAGE_FILE).unlink()
    write_official_folder(tmp_path / "more", kind="vace")
    (tmp_path / "more" / IMAGE_FILE).write_bytes((official["i2v"] / IMAGE_FILE).read_bytes())
    for folder, code in (("half", "weights_incomplete"), ("more", "part_not_read")):
        with refused(code, folder):
            convert(tmp_path / folder, tmp_path / "out", Conversion(to="diffusers"))
