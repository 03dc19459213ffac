"""TI2V-5B from tiny folders of both layouts: one model makes videos from words and from a first frame."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kinoform.conditions.first_frame import covering
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import FRAMES
from kinoform.conversion.convert import Conversion, convert
from kinoform.models.codec import to_uint8
from kinoform.models.meta import on_meta
from kinoform.models.vae22 import VAE22Spec
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import request
from kinoform.recipes.load import load
from kinoform.recipes.wan22 import ti2v_5b
from tests.conditions.in_hand import image
from tests.support.diffusers_folder import write_diffusers_folder
from tests.support.narrowing import of_type
from tests.support.official_folder import CODEC_22, CODEC_22_FILE, CODEC_FILE, TRANSFORMERS, write_official_folder
from tests.support.refusals import refused

SMALL = {"width": 96, "height": 64, "num_frames": 9, "num_inference_steps": 3, "negative_prompt": "a cat", "seed": 1}
FIRST = image(1, 60, 100)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "Wan2.2-TI2V-5B"
    write_official_folder(folder, shards=2, kind="ti2v")
    return folder


@pytest.fixture(scope="module")
def pipe(official: Path) -> Pipeline:
    return load(official, device="cpu")


def test_an_official_folder_is_loaded_with_its_defaults(pipe: Pipeline) -> None:
    recipe, released = pipe.recipe, ti2v_5b()
    assert recipe.transformers == (TRANSFORMERS["ti2v"],) and recipe.codec == CODEC_22
    assert (recipe.name, recipe.fps, recipe.num_frames) == ("ti2v-5b", 24, 121)
    assert recipe.conditioners == released.conditioners


@pytest.mark.filterwarnings("ignore:.*is cropped to:UserWarning")
def test_a_video_begins_with_its_image_and_goes_on_without_it(pipe: Pipeline) -> None:
    """The first frame is what the codec makes of the image alone; the others follow from the prompt too."""
    video = pipe("a red ball", image=FIRST, **SMALL)
    assert (video.frames.shape, video.fps) == ((9, 64, 96, 3), 24)
    codec = pipe.parts.codec(CPU)
    alone, _ = codec.decode(codec.encode(covering(FIRST, (64, 96)))[0])
    assert np.array_equal(video.frames[:1], to_uint8(alone[0]))
    other = pipe("the blue cat", image=FIRST, **SMALL)
    words = pipe("a red ball", **SMALL)
    assert np.array_equal(other.frames[:1], video.frames[:1]) and not np.array_equal(words.frames[:1], video.frames[:1])
    assert not np.array_equal(other.frames[1:], video.frames[1:])


def test_a_folder_of_diffusers_is_the_same_model(pipe: Pipeline, tmp_path: Path) -> None:
    """Whatever shift it names: that is diffusers' own."""
    write_diffusers_folder(tmp_path / "diffusers", kind="ti2v")
    (tmp_path / "diffusers" / "scheduler").mkdir()
    (tmp_path / "diffusers" / "scheduler" / "scheduler_config.json").write_text(json.dumps({"flow_shift": 3.0}))
    other = load(tmp_path / "diffusers", device="cpu")
    assert (other.recipe.name, other.recipe.codec, other.recipe.shift) == ("ti2v-5b", CODEC_22, 5.0)
    found, wanted = (each.parts.transformers[0](torch.float32, CPU).state_dict() for each in (other, pipe))
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_a_file_finds_the_parts_beside_it(official: Path, pipe: Pipeline, tmp_path: Path) -> None:
    write_official_folder(tmp_path / "wan", kind="ti2v")
    (file,) = (tmp_path / "wan").glob("diffusion_pytorch_model*")
    assert load(file, device="cpu").recipe == pipe.recipe


@pytest.mark.parametrize(
    ("kind", "own", "other"), [("ti2v", CODEC_22_FILE, CODEC_FILE), ("t2v", CODEC_FILE, CODEC_22_FILE)]
)
def test_the_autoencoder_of_the_other_release_is_refused_from_headers(
    kind: str, own: str, other: str, official: Path, tmp_path: Path
) -> None:
    """Refused by its name, under the name of the right one, and given by itself."""
    strange = official / other
    if not strange.is_file():
        write_official_folder(tmp_path / "strange", kind="t2v")
        strange = tmp_path / "strange" / other
    folder = tmp_path / "model"
    write_official_folder(folder, kind=kind)
    kept = shutil.move(folder / own, tmp_path / own)
    with refused("weights_missing", own):
        load(folder, device="cpu")
    shutil.copy(strange, folder / other)
    with refused("weights_wrong_model", other, own):
        load(folder, device="cpu")
    with refused("parts_mismatch", "48", "16"):
        load(folder, codec=folder / other, device="cpu")
    shutil.copy(folder / other, folder / own)
    with refused("parts_mismatch", "48", "16"):
        load(folder, device="cpu")
    shutil.copy(kept, folder / own)
    assert load(folder, device="cpu").recipe.transformer == TRANSFORMERS[kind], (
        "the other one beside it changes nothing"
    )


def test_a_conversion_and_back_keeps_every_number(pipe: Pipeline, official: Path, tmp_path: Path) -> None:
    convert(official, tmp_path / "there", Conversion(to="diffusers"))
    convert(tmp_path / "there", tmp_path / "back", Conversion(to="official"))
    assert (tmp_path / "back" / CODEC_22_FILE).with_suffix(".safetensors").is_file()
    back = load(tmp_path / "back", device="cpu").parts
    pairs = [
        (parts.transformers[0](torch.float32, CPU), of_type(nn.Module, parts.codec(CPU)))
        for parts in (back, pipe.parts)
    ]
    for found, wanted in zip(*pairs, strict=True):
        held = wanted.state_dict()
        assert found.state_dict().keys() == held.keys()
        assert all(torch.equal(value, held[name]) for name, value in found.state_dict().items())


def test_files_of_comfyui_are_called_after_the_release(official: Path, tmp_path: Path) -> None:
    convert(official, tmp_path / "comfy", Conversion(to="comfy"))
    names = {str(file.relative_to(tmp_path / "comfy")) for file in tmp_path.rglob("*.safetensors")}
    assert {"diffusion_models/wan2.2_ti2v_fp32.safetensors", "vae/wan2.2_vae.safetensors"} <= names


def test_sizes_are_the_published_ones() -> None:
    """Counted from the shapes of the official model."""
    modules = on_meta(ti2v_5b().transformer.build), on_meta(VAE22Spec().build)
    assert ti2v_5b().codec == VAE22Spec()
    assert [sum(each.numel() for each in module.parameters()) for module in modules] == [4_999_787_712, 704_688_668]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"width": 1280, "height": 720}, "size_not_multiple", ("704", "736")),
        ({"num_frames": 120}, "frames_not_multiple", ("117", "121")),
    ],
)
def test_the_nearest_legal_size_is_named(changes: dict[str, int], code: str, words: tuple[str, ...]) -> None:
    recipe = ti2v_5b()
    with refused(code, *words):
        request(recipe, "a cat", 1, **changes).sized(recipe.codec, recipe.transformer.patch)


def test_any_size_of_whole_tokens_is_legal_and_an_image_decides_the_proportions() -> None:
    recipe = ti2v_5b()
    for width, height in ((1280, 704), (704, 1280), (832, 480), (96, 64)):
        sized = request(recipe, "a cat", 1, width=width, height=height).sized(recipe.codec, recipe.transformer.patch)
        assert sized.video == VideoSize(num_frames=121, height=height, width=width) and sized.task == "t2v"
    shown = Inputs({FRAMES: {0: image(1, 88, 160)}})
    sized = request(recipe, "a cat", 1, width=704, height=1280, inputs=shown)
    sized = sized.sized(recipe.codec, recipe.transformer.patch)
    assert (sized.width, sized.height, sized.task) == (1280, 704, "i2v")
