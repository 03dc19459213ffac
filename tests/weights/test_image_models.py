"""Official and diffusers folders of models that take images and videos become the modules they were written from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import FRAMES, REFERENCE_IMAGES
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.loading.parts import Parts, released_parts
from kinoform.loading.sources import Overrides
from kinoform.media.types import InputImage
from kinoform.models.context import ImageContext
from kinoform.models.dit import DiTSpec
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.recipes.load import load
from tests.support.comfy_files import comfy_codec, spiece_bytes
from tests.support.diffusers_folder import huggingface_text, huggingface_tower, write_diffusers_folder
from tests.support.official_folder import (
    IMAGE_FILE,
    SINGLE,
    TRANSFORMERS,
    VISION,
    official_tensors,
    tiny_modules,
    tower,
    write_official_folder,
)
from tests.support.refusals import refused

CPU = torch.device("cpu")
KINDS = ("i2v", "flf2v", "vace")
WRITERS = {"official": write_official_folder, "diffusers": write_diffusers_folder}
DEFAULTS = {"i2v": "i2v-14b-480p", "flf2v": "flf2v-14b", "vace": "vace-1.3b"}


def doors(spec: DiTSpec) -> tuple[object, ...]:
    return spec.in_channels, [s for s in spec.context if isinstance(s, ImageContext)], spec.branches


def assert_same_weights(parts: Parts, kind: str) -> None:
    source = tiny_modules(transformer=TRANSFORMERS[kind])
    expected = source.transformer.state_dict()
    loaded = parts.transformer(torch.float32, CPU).state_dict()
    assert loaded.keys() == expected.keys() and all(torch.equal(v, expected[name]) for name, v in loaded.items())
    if source.image_encoder is None:
        assert parts.image_spec is None
        with refused("part_missing"):
            parts.image_encoder(torch.float32, CPU)
        return
    expected = source.image_encoder.state_dict()
    loaded = parts.image_encoder(torch.float32, CPU).state_dict()
    assert loaded.keys() == expected.keys() and all(torch.equal(v, expected[name]) for name, v in loaded.items())
    half = parts.image_encoder(torch.bfloat16, CPU)
    assert parts.image_spec == VISION and {each.dtype for each in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_the_model_it_was_written_from(kind: str, layout: str, tmp_path: Path) -> None:
    WRITERS[layout](tmp_path / "model", shards=2, kind=kind)
    pipe = load(tmp_path / "model", device="cpu")
    assert pipe.recipe.name == DEFAULTS[kind] and pipe.recipe.image == pipe.parts.image_spec
    assert doors(pipe.recipe.transformer) == doors(TRANSFORMERS[kind])
    assert_same_weights(pipe.parts, kind)


def test_the_fingerprint_follows_the_image_encoder(tmp_path: Path) -> None:
    write_official_folder(tmp_path / "model", kind="i2v")
    before = released_parts(tmp_path / "model").fingerprint()
    torch.save({name: (value * 2).half() for name, value in tower().items()}, tmp_path / "model" / IMAGE_FILE)
    assert released_parts(tmp_path / "model").fingerprint() != before


def configured(folder: Path, part: str, **changes: object) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def without_post_embedding(folder: Path) -> None:
    """A first-last-frame model without its places is an image-to-video model."""
    tensors = load_file(folder / SINGLE)
    del tensors["img_emb.emb_pos"]
    save_file(tensors, folder / SINGLE)


Damage = Callable[[Path], object]
OFFICIAL: dict[str, tuple[str, Damage, str, str]] = {
    "another type": ("i2v", lambda f: configured(f, "", model_type="flf2v"),
                     "config_contradicts_weights", "'flf2v'"),
    "text alone": ("vace", lambda f: configured(f, "", model_type="t2v", _class_name="WanModel"),
                   "config_contradicts_weights", "'t2v'"),
    "another class": ("vace", lambda f: configured(f, "", _class_name="WanModel"),
                      "config_unsupported", "VaceWanModel"),
    "lost places": ("flf2v", without_post_embedding, "config_contradicts_weights", "'flf2v'"),
    "no encoder": ("i2v", lambda f: (f / IMAGE_FILE).unlink(), "weights_missing", "models_clip"),
    "no tower": ("i2v", lambda f: torch.save({"w": torch.zeros(2)}, f / IMAGE_FILE),
                 "weights_unsupported_model", "models_clip"),
    "a codec for a tower": ("i2v", lambda f: shutil.copy(f / "Wan2.1_VAE.pth", f / IMAGE_FILE),
                            "weights_wrong_part", "models_clip"),
    "a broken tower": ("i2v", lambda f: (f / IMAGE_FILE).write_bytes(b"<!doctype html>"),
                       "weights_not_downloaded", "models_clip"),
    "other side layers": ("vace", lambda f: configured(f, "", vace_layers=[0, 1, 2]),
                          "config_contradicts_weights", "3"),
    "side layers that fall": ("vace", lambda f: configured(f, "", vace_layers=[2, 0]), "config_damaged", "vace_layers"),
    "side layers outside": ("vace", lambda f: configured(f, "", vace_layers=[0, 3]), "config_damaged", "vace_layers"),
    "side layers of words": ("vace", lambda f: configured(f, "", vace_layers="all"), "config_damaged", "vace_layers"),
    "no side layers": ("vace", lambda f: configured(f, "", vace_layers=None), "config_missing", "config.json"),
    "other side channels": ("vace", lambda f: configured(f, "", vace_in_dim=32),
                            "config_contradicts_weights", "vace_in_dim"),
}  # fmt: skip
DIFFUSERS: dict[str, tuple[str, Damage, str, str]] = {
    "another pipeline": ("i2v", lambda f: (f / "model_index.json").write_text('{"_class_name": "WanPipeline"}'),
                         "config_contradicts_weights", "WanPipeline"),
    "another width": ("i2v", lambda f: configured(f, "transformer", image_dim=1280),
                      "config_contradicts_weights", "image_dim"),
    "other rows": ("flf2v", lambda f: configured(f, "transformer", pos_embed_seq_len=514),
                   "config_contradicts_weights", "514"),
    "other layers": ("vace", lambda f: configured(f, "transformer", vace_layers=[0]),
                     "config_contradicts_weights", "1"),
    "other channels": ("vace", lambda f: configured(f, "transformer", vace_in_channels=1),
                       "config_contradicts_weights", "vace_in_channels"),
    "no encoder": ("flf2v", lambda f: shutil.rmtree(f / "image_encoder"), "weights_missing", "image_encoder"),
    "another activation": ("i2v", lambda f: configured(f, "image_encoder", hidden_act="quick_gelu"),
                           "config_contradicts_weights", "quick_gelu"),
    "fewer blocks": ("i2v", lambda f: configured(f, "image_encoder", num_hidden_layers=2),
                     "config_contradicts_weights", "num_hidden_layers"),
    "odd heads": ("i2v", lambda f: configured(f, "image_encoder", num_attention_heads=7),
                  "weights_wrong_model", "heads=7"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "name"), [("official", n) for n in OFFICIAL] + [("diffusers", n) for n in DIFFUSERS]
)
def test_what_does_not_belong_together_is_refused_in_a_sentence(layout: str, name: str, tmp_path: Path) -> None:
    kind, damage, code, named = (OFFICIAL if layout == "official" else DIFFUSERS)[name]
    WRITERS[layout](tmp_path / "model", kind=kind)
    released_parts(tmp_path / "model")
    damage(tmp_path / "model")
    with refused(code, named) as caught:
        released_parts(tmp_path / "model")
    assert "\n" not in str(caught.value) and str(tmp_path / "model") in str(caught.value)


def test_a_model_is_not_taken_for_another_one(tmp_path: Path) -> None:
    for kind in ("t2v", *KINDS):
        write_official_folder(tmp_path / kind, kind=kind)
    with refused("variant_contradicts_weights", "t2v-1.3b", "wan21-i2v"):
        load(tmp_path / "i2v", variant="t2v-1.3b", device="cpu")
    assert load(tmp_path / "i2v", variant="i2v-14b-720p", device="cpu").recipe.width == 1280
    for kind, recipe, named in (
        ("i2v", "t2v_1_3b", "t2v-1.3b"),
        ("i2v", "flf2v_14b", "flf2v-14b"),
        ("vace", "t2v_1_3b", "branch vace"),
        ("t2v", "vace_1_3b", "vace-1.3b"),
    ):
        with refused("weights_of_other_recipe", named):
            load(tmp_path / kind, recipe=f"kinoform.recipes.wan21:{recipe}", device="cpu")
    with refused("input_not_taken"):
        load(tmp_path / "vace", image_encoder=tmp_path / "i2v" / IMAGE_FILE, device="cpu")


@pytest.mark.parametrize("kind", ["t2v", *KINDS])
def test_a_folder_makes_videos_from_what_it_takes_and_refuses_the_rest(kind: str, tmp_path: Path) -> None:
    write_official_folder(tmp_path / "model", kind=kind)
    pipe = load(tmp_path / "model", device="cpu")
    image = InputImage(pixels=np.arange(32 * 48 * 3, dtype=np.uint8).reshape(32, 48, 3))
    first = Inputs({FRAMES: {0: image}})
    fitting = {"t2v": Inputs(), "i2v": first, "flf2v": Inputs({FRAMES: {0: image, -1: image}}),
               "vace": Inputs({REFERENCE_IMAGES: (image,)})}  # fmt: skip

    def frames(inputs: Inputs) -> np.ndarray:
        sizes = {"width": 48, "height": 32, "num_frames": 5, "steps": 2}
        asked = pipe.request("a red cat", seed=1, negative_prompt="a dog", inputs=inputs, **sizes)
        (latents,) = pipe.latents([asked], lambda progress: None)
        return pipe.frames(latents, lambda progress: None)

    made = frames(fitting[kind])
    assert made.shape == (5, 32, 48, 3) and np.array_equal(made, frames(fitting[kind]))
    wrong, code, named = {
        "t2v": (first, "input_not_taken", "mini:frames, mini:context, i2v-14b-480p, i2v-14b-720p, flf2v-14b"),
        "i2v": (Inputs(), "input_missing", "frame 0"),
        "flf2v": (first, "input_missing", "0 and -1"),
        "vace": (first, "input_not_taken", "i2v-14b-480p"),
    }[kind]
    with refused(code, named):
        frames(wrong)


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """An image-to-video transformer with the config.json of its folder, the other parts as ComfyUI keeps them."""
    root = tmp_path / "models"
    write_official_folder(tmp_path / "official", kind="i2v")
    for name in ("diffusion_models", "text_encoders", "vae", "clip_vision"):
        (root / name).mkdir(parents=True)
    modules = tiny_modules(transformer=TRANSFORMERS["i2v"])
    save_file(official_tensors(modules.transformer, DIT), root / "diffusion_models" / SINGLE)
    shutil.copy(tmp_path / "official" / "config.json", root / "diffusion_models")
    save_file(huggingface_text() | {"spiece_model": spiece_bytes()}, root / "text_encoders" / "umt5.safetensors")
    save_file(comfy_codec(), root / "vae" / "wan_2.1_vae.safetensors")
    save_file(huggingface_tower(), root / "clip_vision" / "clip_vision_h.safetensors")
    return root / "diffusion_models" / SINGLE


def test_a_single_file_finds_its_image_encoder(single: Path, tmp_path: Path) -> None:
    assert_same_weights(released_parts(single), "i2v")
    folder = single.parents[1] / "clip_vision"
    away = shutil.move(folder / "clip_vision_h.safetensors", tmp_path)
    with refused("part_missing", "clip_vision", "--image-encoder FILE"):
        released_parts(single)
    for place in (Path(away), tmp_path / "official" / IMAGE_FILE):
        assert_same_weights(released_parts(single, Overrides(image_encoder=place)), "i2v")


def test_side_blocks_stand_where_the_config_says(tmp_path: Path) -> None:
    write_official_folder(tmp_path / "model", kind="vace")
    configured(tmp_path / "model", "", vace_layers=[1, 2])
    (branch,) = released_parts(tmp_path / "model").transformer_spec.branches
    assert isinstance(branch, VaceBlocks) and branch.layers == (1, 2)
