"""A diffusers folder holds the same model as the official one, or is refused by the value at fault."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kinoform.loading.parts import Parts, released_parts
from kinoform.loading.sources import Overrides
from kinoform.models.vae import VAESpec
from tests.support.diffusers_folder import EMBED, INDEX, SHARED, write_diffusers_folder
from tests.support.narrowing import of_type, some
from tests.support.official_folder import CODEC, TEXT, TRANSFORMER, tiny_modules
from tests.support.refusals import refused

CPU = torch.device("cpu")
UMT5_ROWS = 512


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_diffusers_folder(tmp_path / "model")
    return tmp_path / "model"


def assert_same_weights(parts: Parts, seed: int = 0) -> None:
    source = tiny_modules(seed)
    for loaded, saved in (
        (parts.transformer(torch.float32, CPU), source.transformer),
        (parts.codec(CPU), source.autoencoder),
        (parts.text_encoder(torch.float32, CPU), source.text_encoder),
    ):
        expected = some(saved).state_dict()
        assert of_type(nn.Module, loaded).state_dict().keys() == expected.keys()
        for name, value in of_type(nn.Module, loaded).state_dict().items():
            assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("shards", [1, 3])
def test_weights_and_sizes_are_those_of_the_source(shards: int, tmp_path: Path) -> None:
    write_diffusers_folder(tmp_path / "model", shards=shards, seed=2)
    parts = released_parts(tmp_path / "model")
    assert_same_weights(parts, seed=2)
    assert (parts.transformer_spec.heads, parts.transformer_spec.layers) == (TRANSFORMER.heads, TRANSFORMER.layers)
    assert parts.codec_spec == CODEC
    assert parts.text_spec.length == UMT5_ROWS and parts.text_spec.max_distance == TEXT.max_distance
    assert parts.tokenizer()(["a red cat"], 6).mask.sum() == 4


@pytest.mark.parametrize("embeddings", [(SHARED,), (EMBED,), (SHARED, EMBED)])
def test_the_embedding_may_have_either_name_or_both(embeddings: tuple[str, ...], tmp_path: Path) -> None:
    write_diffusers_folder(tmp_path / "model", embeddings=embeddings)
    assert_same_weights(released_parts(tmp_path / "model"))


def test_two_embeddings_must_be_equal(tmp_path: Path) -> None:
    write_diffusers_folder(tmp_path / "model", embeddings=(SHARED, EMBED))
    file = tmp_path / "model" / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors[EMBED][3, 1] += 1
    save_file(tensors, file)
    parts = released_parts(tmp_path / "model")
    with refused("weights_damaged"):
        parts.text_encoder(torch.float32, CPU)


@pytest.mark.parametrize(
    ("part", "change", "code", "named"),
    [
        ("transformer", {"ffn_dim": 64}, "config_contradicts_weights", "ffn_dim is 64"),
        ("transformer", {"num_layers": 30}, "config_contradicts_weights", "num_layers is 30"),
        ("transformer", {"num_attention_heads": 0}, "config_damaged", "num_attention_heads is 0"),
        ("transformer", {"attention_head_dim": 128}, "config_contradicts_weights", "attention_head_dim is 128"),
        ("transformer", {"patch_size": [2, 2, 2]}, "config_contradicts_weights", "[2, 2, 2]"),
        ("transformer", {"cross_attn_norm": 1}, "config_contradicts_weights", "cross_attn_norm"),
        ("transformer", {"eps": None}, "config_damaged", "eps"),
        ("text_encoder", {"d_model": 4096}, "config_contradicts_weights", "d_model is 4096"),
        ("text_encoder", {"relative_attention_max_distance": 1}, "weights_wrong_model", "max_distance"),
        ("vae", {"z_dim": 48}, "config_contradicts_weights", "z_dim is 48"),
        ("vae", {"temperal_downsample": [True, True, True]}, "config_contradicts_weights", "temperal_downsample"),
        ("vae", {"latents_mean": [0.0] * 3}, "config_damaged", "latents_mean"),
        ("vae", {"latents_std": [0.0] * 16}, "config_damaged", "latents_std"),
        ("vae", {"latents_std": [float("nan")] * 16}, "config_damaged", "latents_std"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused(part, change, code, named, folder: Path) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with refused(code, named) as caught:
        released_parts(folder)
    assert str(folder / part) in str(caught.value) and "\n" not in str(caught.value)


def test_the_latents_are_normalised_as_the_config_says(folder: Path) -> None:
    file = folder / "vae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"latents_mean": [0.5] * 16, "latents_std": [2] * 16}))
    spec = of_type(VAESpec, released_parts(folder).codec_spec)
    assert (spec.mean, spec.std) == ((0.5,) * 16, (2.0,) * 16)


@pytest.mark.parametrize("pipeline", ["WanVideoToVideoPipeline", "SomebodysPipeline", None, 5])
def test_folders_of_other_pipelines_are_read_by_their_parts(pipeline: object, folder: Path) -> None:
    (folder / "model_index.json").write_text(json.dumps(INDEX | {"_class_name": pipeline}))
    parts = released_parts(folder)
    assert_same_weights(parts)
    assert [str(pipeline) in note for note in parts.notes] == [True] * (pipeline in ("SomebodysPipeline", 5))


def test_a_pipeline_without_a_transformer_is_named(folder: Path) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (folder / "transformer").rename(folder / "unet")
    with refused("config_unsupported") as caught:
        released_parts(folder)
    assert "StableDiffusionPipeline" in str(caught.value)


def test_a_folder_without_an_index_is_read_by_its_parts(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    assert_same_weights(released_parts(folder))
    (folder / "vae" / "config.json").unlink()
    assert_same_weights(released_parts(folder))


@pytest.mark.parametrize("shards", [1, 3])
def test_a_transformer_s_folder_alone_finds_the_parts_beside_it(shards: int, tmp_path: Path) -> None:
    write_diffusers_folder(tmp_path / "model", shards=shards)
    alone = released_parts(tmp_path / "model" / "transformer")
    assert_same_weights(alone)
    moved = tmp_path / "elsewhere" / "transformer"
    moved.parent.mkdir()
    (tmp_path / "model" / "transformer").rename(moved)
    with refused("part_missing"):
        released_parts(moved)
    rest = tmp_path / "model"
    assert_same_weights(
        released_parts(
            moved,
            Overrides(text_encoder=rest / "text_encoder", codec=rest / "vae", tokenizer=rest / "tokenizer"),
        )
    )


def test_a_folder_of_nothing_known_says_what_is_wanted(folder: Path, tmp_path: Path) -> None:
    for place, code in (
        (folder / "vae", "model_missing"),
        (folder / "text_encoder", "model_missing"),
        (folder / "tokenizer", "weights_missing"),
        (tmp_path / "absent", "weights_missing"),
    ):
        with refused(code):
            released_parts(place)
    two = tmp_path / "two"
    two.mkdir()
    for name in "ab":
        content = (folder / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
        (two / f"{name}.safetensors").write_bytes(content)
    with refused("weights_ambiguous"):
        released_parts(two)


def test_a_missing_part_is_named(folder: Path) -> None:
    for name, code in (
        ("transformer/config.json", "config_missing"),
        ("vae/diffusion_pytorch_model.safetensors", "weights_missing"),
        ("tokenizer/tokenizer.json", "tokenizer_missing"),
        ("text_encoder/model.safetensors", "weights_missing"),
    ):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        with refused(code, name.split("/")[0]):
            released_parts(folder)
        (folder / name).write_bytes(content)
    assert_same_weights(released_parts(folder))
