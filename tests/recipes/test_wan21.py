"""The released models: sizes from headers alone, official defaults, and who takes which inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import CONTEXT_SCALE, FRAMES, STANDARD_INPUTS
from kinoform.families.clip import OFFICIAL_NAMES as IMAGE_ENCODER
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.media.types import InputImage
from kinoform.models.meta import on_meta
from kinoform.models.text import TextSpec
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.models.vae import VAESpec
from kinoform.models.vision import VisionSpec
from kinoform.pipelines.request import request
from kinoform.recipes import wan21
from kinoform.recipes.catalogue import RELEASED, takers
from kinoform.recipes.load import load
from tests.support.comfy_files import write_sparse
from tests.support.official_folder import WORDS
from tests.support.refusals import refused
from tests.weights.tiny_files import write_header

DEFAULTS = {
    "t2v-1.3b": (832, 480, 81, 50, 5.0, ""),
    "t2v-14b": (1280, 720, 81, 50, 5.0, ""),
    "t2i-14b": (1280, 720, 1, 50, 5.0, ""),
    "i2v-14b-480p": (832, 480, 81, 40, 3.0, "镜头晃动，"),
    "i2v-14b-720p": (1280, 720, 81, 40, 5.0, "镜头晃动，"),
    "flf2v-14b": (1280, 720, 81, 50, 16.0, "镜头切换，镜头晃动，"),
    "vace-1.3b": (832, 480, 81, 50, 16.0, ""),
    "vace-14b": (1280, 720, 81, 50, 16.0, ""),
}
"""Width, height, frames, steps, shift, and what stands before the common negative prompt."""


def test_each_recipe_has_its_row() -> None:
    assert list(DEFAULTS) == [name for name, made in RELEASED.items() if made.__module__ == wan21.__name__]


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_official_command_line(name: str) -> None:
    recipe = RELEASED[name]()
    shift = request(recipe, "a cat", 1).shift
    found = (recipe.width, recipe.height, recipe.num_frames, recipe.steps, shift)
    assert (*found, recipe.negative_prompt.removesuffix(wan21.NEGATIVE)) == DEFAULTS[name]
    assert (recipe.name, recipe.guidance_scale, recipe.fps, recipe.negative_prompt.endswith(wan21.NEGATIVE)) == (
        name,
        5.0,
        16,
        True,
    )
    reads = any(stream.name == "image" for stream in recipe.transformer.context)
    assert (recipe.image == VisionSpec()) is reads and (recipe.image is None) is not reads


SIZES = [(1280, 720), (720, 1280), (832, 480), (480, 832)]
"""Values of the official command line."""


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_shift_is_that_of_the_official_command_line_at_every_size(name: str) -> None:
    recipe = RELEASED[name]()
    for width, height in SIZES:
        expected = DEFAULTS[name][4]
        if name.startswith("i2v"):
            expected = 3.0 if 480 in (width, height) else 5.0
        sized = request(recipe, "a cat", 1, width=width, height=height)
        assert sized.shift == expected, (width, height)
        assert request(recipe, "a cat", 1, width=width, height=height, shift=4).shift == 4


def test_the_shift_goes_by_the_size_that_is_asked_for_not_by_the_one_that_an_image_makes_of_it() -> None:
    recipe = RELEASED["i2v-14b-720p"]()
    narrow = Inputs({FRAMES: {0: InputImage(pixels=np.zeros((64, 1200, 3), np.uint8))}})
    asked = request(recipe, "a cat", 1, inputs=narrow).sized(recipe.codec, recipe.transformer.patch)
    assert asked.width * asked.height < 1280 * 720 and asked.shift == 5.0
    small = request(recipe, "a cat", 1, inputs=narrow, width=832, height=480)
    assert small.sized(recipe.codec, recipe.transformer.patch).shift == 3.0


def test_the_models_that_take_an_input_are_named_where_another_refuses_it() -> None:
    of_frames = (
        "mini:frames mini:context i2v-14b-480p i2v-14b-720p flf2v-14b i2v-a14b ti2v-5b bernini-1.3b bernini-a14b"
    )
    assert " ".join(takers(FRAMES)) == of_frames
    assert takers(CONTEXT_SCALE) == ("mini:vace", "vace-1.3b", "vace-14b", "vace-a14b")
    assert all(takers(item) for item in STANDARD_INPUTS)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The other parts in their released sizes; their numbers are holes in the disk."""
    folder = tmp_path_factory.mktemp("parts")
    build_word_tokenizer(WORDS).save(str(folder / "words.json"))
    return {
        "text_encoder": write_sparse(folder / "text.safetensors", on_meta(TextSpec().build), TEXT_ENCODER),
        "codec": write_sparse(folder / "vae.safetensors", on_meta(VAESpec().build), VAE21),
        "tokenizer": folder / "words.json",
    }


@pytest.mark.parametrize("name", ["vace-1.3b", "vace-14b"])
def test_sizes_and_side_layers_come_from_structure(name: str, others: dict[str, Any], tmp_path: Path) -> None:
    made = RELEASED[name]()
    file = write_sparse(tmp_path / f"wan2.1_{name}.safetensors", on_meta(made.transformer.build), DIT)
    assert load(file, **others, device="cpu").recipe == made


@pytest.mark.parametrize("size", ["1.3b", "14b"])
def test_a_module_makes_the_released_vace_model_of_its_base(size: str, others: dict[str, Any], tmp_path: Path) -> None:
    whole, base = RELEASED[f"vace-{size}"](), RELEASED[f"t2v-{size}"]()
    file = write_sparse(tmp_path / f"wan2.1_t2v_{size}.safetensors", on_meta(base.transformer.build), DIT)
    blocks = on_meta(whole.transformer.build).named_parameters()
    shapes = {DIT.theirs(name): tuple(value.shape) for name, value in blocks if name.startswith("branches.")}
    module = write_header(tmp_path / "module.safetensors", shapes)
    assert load(file, vace=module, **others, device="cpu").recipe == whole


def test_twins_that_read_images_must_be_told_apart(others: dict[str, Any], tmp_path: Path) -> None:
    small, large = RELEASED["i2v-14b-480p"](), RELEASED["i2v-14b-720p"]()
    assert small.transformer == large.transformer
    file = write_sparse(tmp_path / "x.safetensors", on_meta(large.transformer.build), DIT)
    tower = VisionSpec(layers=33)  # a module builds all blocks but the last
    write_sparse(tmp_path / "clip.safetensors", on_meta(tower.build), IMAGE_ENCODER)
    given = {**others, "image_encoder": tmp_path / "clip.safetensors"}
    with refused("weights_ambiguous", "i2v-14b-480p or i2v-14b-720p", "--variant"):
        load(file, **given, device="cpu")
    assert load(file, **given, variant="i2v-14b-480p", device="cpu").recipe == small
    named = file.rename(tmp_path / "wan2.1_i2v_720p_14B_fp16.safetensors")
    assert load(named, **given, device="cpu").recipe == large
