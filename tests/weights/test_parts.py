"""An official folder becomes the modules it was written from, or is refused before anything is read."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kinoform.checkpoints.hashes import model_hash
from kinoform.loading.load import load_module
from kinoform.loading.parts import released_parts
from kinoform.models.dit import DiT, cast_weights
from kinoform.models.text import TextEncoder, encode
from kinoform.models.vae import VAE
from kinoform.ops.patch import grid_of
from kinoform.types import Conditions
from tests.support.narrowing import of_type
from tests.support.official_folder import (
    CODEC,
    CODEC_FILE,
    CONFIG,
    ROWS,
    SINGLE,
    TEXT,
    TEXT_FILE,
    TRANSFORMER,
    tiny_modules,
    write_official_folder,
)
from tests.support.refusals import refused, refused_briefly

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_official_folder(tmp_path / "model")
    return tmp_path / "model"


def velocity(model: nn.Module) -> Tensor:
    assert isinstance(model, DiT)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 16, 2, 4, 4, generator=generator)
    rows = torch.randn(1, 7, TEXT.dim, generator=generator)
    with torch.inference_mode():
        prepared = model.prepare(Conditions(context={"text": rows}), grid_of(x, model.spec.patch))
        return model(x, torch.tensor([500.0]), prepared)


def test_freed_memory_goes_back_before_a_part_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def load(*given: Any, **named: Any) -> nn.Module:
        done.append("load")
        return load_module(*given, **named)

    monkeypatch.setattr("kinoform.loading.parts.release_memory", lambda: done.append("release"))
    monkeypatch.setattr("kinoform.loading.parts.load_module", load)
    found = released_parts(folder)
    assert not done
    found.text_encoder(torch.bfloat16, CPU)
    found.transformer(torch.bfloat16, CPU)
    found.codec(CPU)
    assert done == ["release", "load"] * 3


@pytest.mark.parametrize("shards", [1, 3])
def test_sizes_and_outputs_are_those_of_the_source(shards: int, tmp_path: Path) -> None:
    write_official_folder(tmp_path / "model", shards=shards, seed=3)
    parts = released_parts(tmp_path / "model")
    source = tiny_modules(3)
    assert parts.transformer_spec == TRANSFORMER
    assert parts.codec_spec == CODEC
    assert parts.text_spec == TEXT
    expected = velocity(source.transformer)
    assert expected.abs().mean() > 0.1
    assert torch.equal(velocity(parts.transformer(torch.float32, CPU)), expected)
    expected = velocity(cast_weights(source.transformer, torch.bfloat16))
    assert torch.equal(velocity(parts.transformer(torch.bfloat16, CPU)), expected)


def test_codec_and_text_are_those_of_the_source(folder: Path) -> None:
    parts, source = released_parts(folder), tiny_modules()
    pixels = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    codec, encoder = parts.codec(CPU), parts.text_encoder(torch.bfloat16, CPU)
    own = of_type(VAE, source.autoencoder)
    with torch.inference_mode():
        latents, _ = codec.encode(pixels)
        expected, _ = own.encode(pixels)
        assert torch.equal(latents, expected)
        assert torch.equal(codec.decode(latents)[0], own.decode(latents)[0])
        tokens = parts.tokenizer()(["a red ball moves left"], parts.text_spec.length)
        assert tokens.unknown == ((),) and tokens.mask.sum() == 6
        rows = encode(encoder, tokens)
        assert rows.dtype == torch.bfloat16 and rows.shape == (1, ROWS, TEXT.dim)
        assert torch.equal(rows, encode(of_type(TextEncoder, source.text_encoder.bfloat16()), tokens))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.bfloat16}


def test_nothing_is_read_before_it_is_called(folder: Path) -> None:
    intact = released_parts(folder)
    content = (folder / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(content[:-40] + b"\xff" * 40)  # NaN at the end
    parts = released_parts(folder)
    for each in (parts, intact):
        with refused("weights_not_finite", "diffusion_pytorch_model.safetensors"):
            each.transformer(torch.bfloat16, CPU)
        each.codec(CPU)


def test_safetensors_may_stand_in_for_pickles(folder: Path) -> None:
    expected = of_type(nn.Module, released_parts(folder).codec(CPU)).state_dict()
    for name in (TEXT_FILE, CODEC_FILE):
        tensors = torch.load(folder / name, weights_only=True)
        save_file(tensors, (folder / name).with_suffix(".safetensors"))
        (folder / name).unlink()
    parts = released_parts(folder)
    parts.text_encoder(torch.float32, CPU)
    for name, value in of_type(nn.Module, parts.codec(CPU)).state_dict().items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize("kind", ["animate", "s2v", None, 5, ["t2v"]])
def test_models_of_other_types_are_refused_by_name(kind: object, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": kind}))
    with refused_briefly("config_unsupported", str(folder), "t2v, i2v, flf2v, vace, ti2v", str(kind or "")):
        released_parts(folder)


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"dim": "24"}, "config_contradicts_weights", "'24'"),
        ({"dim": True}, "config_contradicts_weights", "True"),
        ({"dim": 10**30}, "config_contradicts_weights", "dim"),
        ({"num_heads": 0}, "config_damaged", "num_heads"),
        ({"num_heads": 5}, "weights_wrong_model", "5"),
        ({"num_layers": 100_000}, "config_contradicts_weights", "100000"),
        ({"eps": "small"}, "config_damaged", "'small'"),
        ({"text_len": None}, "config_damaged", "text_len"),
        ({"dim": 48}, "config_contradicts_weights", "24"),
        ({"in_dim": 36}, "config_contradicts_weights", "36"),
        ({"out_dim": 48}, "config_contradicts_weights", "48"),
        ({"_class_name": "VaceWanModel"}, "config_unsupported", "VaceWanModel"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(change: dict[str, Any], code: str, named: str, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | change))
    with refused_briefly(code, str(folder), named):
        released_parts(folder)


def test_a_missing_part_is_named(folder: Path) -> None:
    parts = {
        **dict.fromkeys((SINGLE, TEXT_FILE, CODEC_FILE), "weights_missing"),
        "config.json": "config_missing",
        "google/umt5-xxl/tokenizer.json": "tokenizer_missing",
    }
    for name, code in parts.items():
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        with refused_briefly(code, str(folder), Path(name).stem.split(".")[0]):
            released_parts(folder)
        (folder / name).write_bytes(content)
    released_parts(folder)
    with refused_briefly("weights_missing", str(folder / "none")):
        released_parts(folder / "none")


def test_damage_in_any_header_is_found_at_once(folder: Path) -> None:
    for name in (SINGLE, TEXT_FILE, CODEC_FILE, "config.json"):
        content = (folder / name).read_bytes()
        for damaged, code in (
            (b"", "weights_damaged"),
            (b"<!doctype html>", "weights_not_downloaded"),
            (b"version https://git-lfs.github.com/spec/v1", "weights_not_downloaded"),
            (content[:200], "config_damaged" if name == "config.json" else "weights_damaged"),
        ):
            (folder / name).write_bytes(damaged)
            with refused_briefly(code, str(folder / name)):
                released_parts(folder)
        (folder / name).write_bytes(content)
    released_parts(folder)


def test_parts_of_another_model_are_refused(folder: Path) -> None:
    codec = torch.load(folder / CODEC_FILE, weights_only=True)
    mark = {"decoder.upsamples.0.upsamples.0.residual.2.weight": torch.zeros(1)}
    torch.save(codec | mark, folder / CODEC_FILE)
    with refused_briefly("weights_unknown_keys", CODEC_FILE, "decoder.upsamples.0.upsamples.0"):
        released_parts(folder)
    torch.save({"w": torch.zeros(2)}, folder / CODEC_FILE)
    with refused_briefly("weights_unsupported_model", CODEC_FILE):
        released_parts(folder)
    torch.save({name: value for name, value in codec.items() if name != "conv1.bias"}, folder / CODEC_FILE)
    with refused_briefly("weights_incomplete", CODEC_FILE, "conv1.bias"):
        released_parts(folder)


def test_folders_of_other_layouts_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "high_noise_model").mkdir()
    with refused_briefly("expert_alone", str(tmp_path)):
        released_parts(tmp_path)
    (tmp_path / "high_noise_model").rmdir()
    (tmp_path / "model_index.json").write_text("{}")
    with refused_briefly("config_unsupported", str(tmp_path), "WanPipeline"):
        released_parts(tmp_path)


def test_the_fingerprint_follows_the_weights_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    fingerprint = released_parts(folder).fingerprint()
    assert len(fingerprint) == 16 and int(fingerprint, 16) >= 0
    write_official_folder(tmp_path / "other")
    assert released_parts(tmp_path / "other").fingerprint() == fingerprint
    write_official_folder(tmp_path / "seed", seed=1)
    assert released_parts(tmp_path / "seed").fingerprint() != fingerprint


def test_the_hash_sees_the_ends_and_the_length_of_long_files(tmp_path: Path) -> None:
    path = tmp_path / "long"
    size = 200_000_000

    def written(changes: dict[int, bytes], size: int = size) -> str:
        with path.open("wb") as file:
            file.truncate(size)  # sparse: no disk is filled
            for place, data in changes.items():
                file.seek(place)
                file.write(data)
        return model_hash([path])

    found = {
        written({}), written({0: b"x"}), written({3_999_999: b"x"}), written({size - 1: b"x"}),
        written({size - 4096: b"x"}), written({}, size + 1), written({90_000_000: b"x" * 400_000}),
    }  # fmt: skip
    assert len(found) == 7 and written({}) in found
    os.utime(path, (0, 0))
    assert model_hash([path]) in found
