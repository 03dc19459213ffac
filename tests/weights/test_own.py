"""kinoform's own folder: written whole, read back, and no byte of it changed unnoticed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kinoform.checkpoints import formats
from kinoform.checkpoints.files import open_checkpoint
from kinoform.checkpoints.hashes import file_hash
from kinoform.families.identify import inspect_path
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.loading.load import load_module
from kinoform.loading.own import MANIFEST, Modules, open_own, read_manifest, save_own
from kinoform.loading.parts import Parts, own_parts
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.models.vae import VAE, VAESpec
from kinoform.recipes.load import load
from tests.support.comfy_files import SINGLE
from tests.support.narrowing import of_type, some
from tests.support.official_folder import (
    CODEC,
    TEXT,
    TRANSFORMER,
    TRANSFORMERS,
    VISION,
    WORDS,
    official_tensors,
    tiny_modules,
)
from tests.support.refusals import refused
from tests.support.tiny_recipe import write_tiny_of_two
from tests.weights.gguf_fixtures import write_gguf

CPU = torch.device("cpu")
MADE = {"steps": 1200, "data": ["squares"], "loss": 0.25}


def write(folder: Path, modules: Modules | None = None, **changes) -> Path:
    words = build_word_tokenizer(WORDS).to_str()
    options = {"tokenizer_json": words, "recipe": "kinoform.mini.recipe:mini", "made": MADE} | changes
    save_own(folder, modules or tiny_modules(), **options)
    return folder


def opened(folder: Path) -> Parts:
    return own_parts(open_own(folder), (TRANSFORMER,), CODEC, TEXT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "own")


def test_what_is_saved_is_loaded(folder: Path) -> None:
    parts, source = opened(folder), tiny_modules()
    for loaded, saved in (
        (parts.transformer(torch.float32, CPU), source.transformer),
        (parts.codec(CPU), source.autoencoder),
        (parts.text_encoder(torch.float32, CPU), source.text_encoder),
    ):
        expected = some(saved).state_dict()
        assert of_type(nn.Module, loaded).state_dict().keys() == expected.keys()
        for name, value in of_type(nn.Module, loaded).state_dict().items():
            assert value.dtype == torch.float32 and torch.equal(value, expected[name].half().float())
    assert parts.tokenizer()(["a cat"], 8).mask.sum() == 3
    assert (parts.transformer_spec, parts.codec_spec, parts.text_spec) == (TRANSFORMER, CODEC, TEXT)


def test_an_image_encoder_is_saved_and_loaded(tmp_path: Path) -> None:
    spec = TRANSFORMERS["i2v"]
    source = tiny_modules(transformer=spec)
    folder = write(tmp_path / "own", source)
    assert source.image_encoder is not None and "image_encoder.safetensors" in read_manifest(folder).parts
    parts = own_parts(open_own(folder), (spec,), CODEC, TEXT, VISION)
    loaded, expected = parts.image_encoder(torch.float32, CPU).state_dict(), source.image_encoder.state_dict()
    assert loaded.keys() == expected.keys() and parts.image_spec == VISION
    assert all(torch.equal(value, expected[name].half().float()) for name, value in loaded.items())
    (told,) = (part for part in inspect_path(folder) if part.part == "image_encoder")
    assert (told.family, told.dialect, told.missing, told.unknown) == ("clip", "kinoform", (), ())
    assert (told.sizes["layers"], told.chosen) == (VISION.layers, "kinoform.mini.recipe:mini")
    with refused("recipe_contradicts_weights"):
        own_parts(open_own(folder), (spec,), CODEC, TEXT)
    with refused("recipe_contradicts_weights"):
        own_parts(open_own(write(tmp_path / "blind")), (TRANSFORMER,), CODEC, TEXT, VISION)
    with refused("parts_mismatch", "514", "80", "5"):
        streams = (*spec.context[:1], ImageContext(width=80, positions=514))
        own_parts(open_own(folder), (replace(spec, context=streams),), CODEC, TEXT, VISION)


def test_the_manifest_tells_everything(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.recipe == "kinoform.mini.recipe:mini" and manifest.made == MADE
    assert set(manifest.parts) | {MANIFEST} == {file.name for file in folder.iterdir()}
    assert json.loads((folder / MANIFEST).read_text())["format"] == 1


def test_saving_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again")
    for file in folder.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes()
    assert opened(folder).fingerprint() == opened(again).fingerprint()


def test_packed_weights_are_refused_and_not_left_out(tmp_path: Path) -> None:
    source = tiny_modules(transformer=SINGLE)
    tensors = official_tensors(source.transformer, DIT)
    packed = [name for name in tensors if name.endswith("attn.q.weight")]
    checkpoint = open_checkpoint(write_gguf(tmp_path / "w.gguf", tensors, dict.fromkeys(packed, "Q8_0")))
    for packs in (True, False):
        transformer = load_module(
            SINGLE.build,
            checkpoint,
            names=DIT,
            dtype_of=lambda name: torch.float32,
            device=CPU,
            keep_packed=packs,
        )
        modules = replace(source, transformer=transformer)
        if packs:
            with refused("weights_packed", f"transformer: {len(packed)} ", "keep_packed=False"):
                write(tmp_path / "own", modules)
            assert not (tmp_path / "own").exists()
        else:
            found = own_parts(open_own(write(tmp_path / "own", modules)), (SINGLE,), CODEC, TEXT).transformer(
                torch.float32, CPU
            )
            assert found.state_dict().keys() == source.transformer.state_dict().keys()


def test_shards_stay_below_the_limit_and_load_alike(folder: Path, tmp_path: Path) -> None:
    limit = 30_000
    sharded = write(tmp_path / "sharded", max_shard_bytes=limit)
    files = sorted(sharded.glob("transformer*.safetensors"))
    assert len(files) > 2
    assert files[0].name == f"transformer-00001-of-{len(files):05d}.safetensors"
    assert all(file.stat().st_size <= limit for file in sharded.glob("*.safetensors"))
    expected = opened(folder).transformer(torch.float32, CPU).state_dict()
    for name, value in opened(sharded).transformer(torch.float32, CPU).state_dict().items():
        assert torch.equal(value, expected[name])
    with refused("shard_too_small", "max_shard_bytes"):
        write(tmp_path / "crumbs", max_shard_bytes=1000)
    assert not (tmp_path / "crumbs").exists()


def test_models_with_extra_parts_are_no_different(tmp_path: Path) -> None:
    spec = VAESpec(dim=4, residual_blocks=1, shortcut=True, linear_encoder=True)
    codec = spec.build()
    analysis = some(codec.shortcut).analysis
    torch.nn.init.normal_(analysis, generator=torch.Generator().manual_seed(0))
    folder = write(tmp_path / "own", replace(tiny_modules(), autoencoder=codec), dtype=torch.float32)
    loaded = of_type(VAE, own_parts(open_own(folder), (TRANSFORMER,), spec, TEXT).codec(CPU))
    assert torch.equal(some(loaded.shortcut).analysis, analysis) and loaded.encoder is None


def test_every_changed_byte_is_noticed(folder: Path) -> None:
    parts = opened(folder)
    calls = {
        "transformer.safetensors": lambda: parts.transformer(torch.float32, CPU),
        "autoencoder.safetensors": lambda: parts.codec(CPU),
        "text_encoder.safetensors": lambda: parts.text_encoder(torch.float32, CPU),
        "tokenizer.json": parts.tokenizer,
    }
    for name, call in calls.items():
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        with refused("weights_damaged", name, "SHA-256"):
            call()
        (folder / name).write_bytes(content[:-1])
        with refused("weights_damaged", name, "bytes"):
            opened(folder)
        (folder / name).unlink()
        with refused("weights_incomplete", name):
            opened(folder)
        (folder / name).write_bytes(content)
        call()


def test_files_outside_the_manifest_are_refused(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["parts"]["autoencoder.safetensors"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with refused("weights_ambiguous", "autoencoder.safetensors"):
        opened(folder)


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        ("{", "config_damaged", "JSON"),
        ('{"format": 2}', "manifest_unsupported", "2"),
        ('{"format": 1, "recipe": "a:b", "made": {}}', "manifest_damaged", "'parts'"),
        ('{"format": 1, "recipe": "a:b", "made": {}, "parts": {"x": 1}}', "manifest_damaged", "manifest.json"),
        (
            '{"format": 1, "recipe": "a:b", "made": {}, "parts": {"../x": {"sha256": "", "bytes": 1}}}',
            "weights_incomplete",
            "x",
        ),
        ('{"format": 1, "recipe": 5, "made": {}, "parts": {}}', "manifest_damaged", "recipe"),
        (
            '{"format": 1, "recipe": "a:b", "made": {}, "parts": {"x": {"sha256": "", "bytes": "1"}}}',
            "manifest_damaged",
            "manifest.json",
        ),
        ('{"format": 1, "recipe": "a:b", "made": {}, "parts": {}}', "weights_ambiguous", "transformer.safetensors"),
    ],
)
def test_a_damaged_manifest_is_refused(content: str, code: str, named: str, folder: Path) -> None:
    (folder / MANIFEST).write_text(content)
    with refused(code, named) as caught:
        opened(folder)
    assert str(folder) in str(caught.value)


def test_weights_of_another_size_are_refused_when_opened(folder: Path) -> None:
    wide = replace(TRANSFORMER, ffn_dim=64)
    with refused("weights_wrong_shape", "feed_forward", "[56"):
        own_parts(open_own(folder), (wide,), CODEC, TEXT)
    stream = TextContext(width=TEXT.dim + 1, length=8)
    with refused("parts_mismatch"):
        own_parts(open_own(folder), (replace(TRANSFORMER, context=(stream,)),), CODEC, TEXT)


def test_nothing_is_written_when_a_weight_cannot_be(tmp_path: Path) -> None:
    modules = tiny_modules()
    modules.text_encoder.get_parameter("norm.weight").data[0] = 1e6
    with refused("not_finite", "norm.weight"):
        write(tmp_path / "own", modules)
    with refused("recipe_invalid", "'mini'"):
        write(tmp_path / "own", recipe="mini")
    assert not list(tmp_path.iterdir())
    write(tmp_path / "own", modules, dtype=torch.bfloat16)


def test_a_folder_is_replaced_only_on_demand_and_only_if_it_is_one_of_ours(folder: Path) -> None:
    with refused("file_exists"):
        write(folder)
    write(folder, force=True, made={"steps": 1})
    assert read_manifest(folder).made == {"steps": 1}
    (folder / "diary.txt").write_text("mine")
    with refused("folder_holds_others", "diary.txt"):
        write(folder, force=True)
    assert (folder / "diary.txt").read_text() == "mine"


def _shrink(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def _resize(file: Path) -> None:
    """The transformer of another model, with a manifest that knows it."""
    save_file({name: torch.zeros(*value.shape, 2) for name, value in load_file(file).items()}, file)
    manifest = json.loads((file.parent / MANIFEST).read_text())
    manifest["parts"][file.name] = {"sha256": file_hash(file), "bytes": file.stat().st_size}
    (file.parent / MANIFEST).write_text(json.dumps(manifest))


def _forget(file: Path) -> None:
    """No file, and none in the manifest either."""
    file.unlink()
    manifest = json.loads((file.parent / MANIFEST).read_text())
    del manifest["parts"][file.name]
    (file.parent / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "code", "named"),
    [
        (Path.unlink, "weights_incomplete", "transformer_2.safetensors"),
        (_shrink, "weights_damaged", "transformer_2.safetensors"),
        (_resize, "weights_wrong_shape", "transformer_2.safetensors"),
        (_forget, "recipe_contradicts_weights", "own"),
    ],
)
def test_a_damaged_second_expert_is_refused_before_a_weight_is_read(
    damage: Callable[[Path], object], code: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_of_two(tmp_path / "own")
    damage(folder / "transformer_2.safetensors")

    def refuse(*arguments: object) -> None:
        raise AssertionError("a weight is read")

    monkeypatch.setattr(formats, "read_data", refuse)
    with refused(code, named):
        load(folder, recipe="tests.support.tiny_recipe:tiny_of_two", device="cpu")
