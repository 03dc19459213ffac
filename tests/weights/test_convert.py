"""Conversions are exact and undo each other; what cannot be converted is refused, and leaves nothing behind."""

import json
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinoform.checkpoints.files import open_checkpoint
from kinoform.checkpoints.headers import read_header
from kinoform.checkpoints.write import Outgoing, write_safetensors, write_set
from kinoform.conversion.convert import Conversion, convert
from kinoform.conversion.layouts import TARGETS
from kinoform.loading.own import open_own
from kinoform.loading.parts import own_parts, released_parts
from kinoform.models.tokenizer import build_word_tokenizer
from tests.support.comfy_files import SINGLE, comfy_codec, comfy_transformer, spiece_bytes, write_comfy_folders
from tests.support.diffusers_folder import huggingface_text
from tests.support.narrowing import of_type, some
from tests.support.official_folder import CODEC, CONFIG, TEXT, WORDS, tiny_modules, write_official_folder
from tests.support.refusals import refused, refused_briefly

CPU = torch.device("cpu")
RECIPE = "tests.support.tiny_recipe:tiny"
TRANSFORMER = "diffusion_pytorch_model.safetensors"
PARTS = {
    "transformer": TRANSFORMER,
    "text_encoder": "models_t5_umt5-xxl-enc-bf16.safetensors",
    "codec": "Wan2.1_VAE.safetensors",
}


def wanted(to: str, **options: object) -> Conversion:
    return Conversion(to=to, recipe=RECIPE if to == "kinoform" else None, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official folder of a tiny model, written by way of ComfyUI's files."""
    place = tmp_path_factory.mktemp("model")
    write_comfy_folders(place / "comfy")
    build_word_tokenizer(WORDS).save(str(place / "comfy" / "text_encoders" / "tokenizer.json"))
    convert(place / "comfy", place / "official", wanted("official"))
    return place / "official"


def contents(folder: Path) -> dict[str, object]:
    """Every file by relative name: tensors, or JSON, or bytes."""
    found: dict[str, object] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".safetensors":
            found |= {f"{file.relative_to(folder)} {name}": value for name, value in load_file(file).items()}
        elif file.is_file():
            data = file.read_bytes()
            found[str(file.relative_to(folder))] = json.loads(data) if file.suffix == ".json" else data
    return found


def assert_same(found: dict[str, object], expected: dict[str, object]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        other = found[name]
        if isinstance(value, Tensor):
            assert isinstance(other, Tensor) and value.dtype == other.dtype and torch.equal(value, other), name
        else:
            assert value == other, name


def assert_refused(source: Path, target: Path, options: Conversion, code: str, *named: str) -> None:
    there = sorted(target.parent.rglob("*"))
    with refused_briefly(code, *named):
        convert(source, target, options)
    assert sorted(target.parent.rglob("*")) == there, "nothing is left behind"


def test_the_source_is_what_was_written(official: Path) -> None:
    assert_same(
        {f"{TRANSFORMER} {name}": value for name, value in comfy_transformer().items()},
        {name: value for name, value in contents(official).items() if name.startswith(TRANSFORMER)},
    )
    found = json.loads((official / "config.json").read_text())
    told = {"dim": SINGLE.dim, "ffn_dim": SINGLE.ffn_dim, "num_heads": 1, "text_len": 512, "num_layers": SINGLE.layers}
    assert found.keys() == CONFIG.keys() and found.items() >= told.items() and found["model_type"] == "t2v"
    assert (official / "google/umt5-xxl/spiece.model").read_bytes() == spiece_bytes().numpy().tobytes()


@pytest.mark.parametrize("to", ["diffusers", "comfy", "kinoform"])
def test_a_model_goes_there_and_back(to: str, official: Path, tmp_path: Path) -> None:
    convert(official, tmp_path / "there", wanted(to))
    convert(tmp_path / "there", tmp_path / "back", wanted("official"))
    found = contents(tmp_path / "back")
    found.pop("google/umt5-xxl/tokenizer_config.json", None)  # written for transformers, and kept
    assert_same(found, contents(official))


@pytest.mark.parametrize("to", ["official", "diffusers", "comfy", "kinoform"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_goes_there_and_back(part: str, to: str, official: Path, tmp_path: Path) -> None:
    source = official / PARTS[part]
    done = convert(source, tmp_path / "there.safetensors", Conversion(to=to))
    assert done.files == (tmp_path / "there.safetensors",)
    assert (done.tensors, done.bytes) == (len(load_file(source)), sum(v.nbytes for v in load_file(source).values()))
    convert(tmp_path / "there.safetensors", tmp_path / "back.safetensors", Conversion(to="official"))
    assert_same(dict(load_file(tmp_path / "back.safetensors")), dict(load_file(source)))
    as_official = to == "official" or (to == "comfy" and part != "text_encoder")
    assert (load_file(tmp_path / "there.safetensors").keys() == load_file(source).keys()) is as_official


@pytest.mark.parametrize("to", ["official", "diffusers", "comfy", "kinoform"])
def test_what_is_written_loads(to: str, official: Path, tmp_path: Path) -> None:
    convert(official, tmp_path / "model", wanted(to))
    place = tmp_path / "model"
    if to == "kinoform":
        parts = own_parts(open_own(place), (SINGLE,), CODEC, TEXT)
    else:
        parts = released_parts(next((place / "diffusion_models").iterdir()) if to == "comfy" else place)
    source = tiny_modules(transformer=SINGLE).transformer.state_dict()
    loaded = parts.transformer(torch.float32, CPU).state_dict()
    assert loaded.keys() == source.keys() and all(torch.equal(loaded[name], value) for name, value in source.items())
    assert parts.tokenizer()(["a red cat"], 30).mask.any()
    assert parts.codec(CPU).channels == CODEC.channels
    assert parts.text_encoder(torch.float32, CPU).spec.vocab == TEXT.vocab


def test_pickles_become_safetensors(tmp_path: Path) -> None:
    write_official_folder(tmp_path / "model", shards=3)
    convert(tmp_path / "model", tmp_path / "safe", wanted("official"))
    assert not [file for file in (tmp_path / "safe").rglob("*") if file.suffix == ".pth"]
    codec = of_type(nn.Module, released_parts(tmp_path / "safe").codec(CPU)).state_dict()
    assert all(torch.equal(codec[name], value) for name, value in some(tiny_modules().autoencoder).state_dict().items())
    assert json.loads((tmp_path / "safe/config.json").read_text())["num_heads"] == CONFIG["num_heads"]


def test_shards_are_no_larger_than_said_and_have_their_index(official: Path, tmp_path: Path) -> None:
    limit = 500_000
    convert(official / TRANSFORMER, tmp_path / "there", Conversion(to="diffusers", shard_bytes=limit))
    shards = sorted((tmp_path / "there").glob("*.safetensors"))
    assert len(shards) > 2 and all(sum(v.nbytes for v in load_file(each).values()) <= limit for each in shards)
    index = json.loads((tmp_path / "there" / f"{TRANSFORMER}.index.json").read_text())
    held = {name: each.name for each in shards for name in load_file(each)}
    assert index["weight_map"] == held
    assert index["metadata"]["total_size"] == sum(v.nbytes for v in load_file(official / TRANSFORMER).values())
    convert(tmp_path / "there", tmp_path / "back.safetensors", Conversion(to="official"))
    assert_same(dict(load_file(tmp_path / "back.safetensors")), dict(load_file(official / TRANSFORMER)))
    assert_refused(
        official / TRANSFORMER, tmp_path / "other", Conversion(to="diffusers", shard_bytes=9), "shard_too_small",
        "--shard-size",
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_numbers_are_rounded_once_to_the_dtype_asked_for(dtype: torch.dtype, official: Path, tmp_path: Path) -> None:
    convert(official / TRANSFORMER, tmp_path / "there.safetensors", Conversion(to="official", dtype=dtype))
    found = load_file(tmp_path / "there.safetensors")
    for name, value in load_file(official / TRANSFORMER).items():
        assert found[name].dtype == dtype and torch.equal(found[name], value.to(dtype))


@pytest.mark.parametrize(("value", "code"), [(1e6, "weights_overflow_dtype"), (float("nan"), "weights_not_finite")])
def test_numbers_that_a_dtype_cannot_hold_are_refused(value: float, code: str, official: Path, tmp_path: Path) -> None:
    tensors = load_file(official / TRANSFORMER)
    tensors["head.head.bias"][3] = value
    save_file(tensors, tmp_path / "in.safetensors")
    narrow = Conversion(to="official", dtype=torch.float16)
    assert_refused(tmp_path / "in.safetensors", tmp_path / "out.safetensors", narrow, code, "head.head.bias")


def test_scaled_weights_become_plain_numbers(official: Path, tmp_path: Path) -> None:
    tensors, name = load_file(official / TRANSFORMER), "blocks.1.ffn.0"
    stored, scale = tensors[f"{name}.weight"].to(torch.float8_e4m3fn), torch.tensor(0.25)
    extra = {f"{name}.weight": stored, f"{name}.weight_scale": scale}
    save_file(tensors | extra, tmp_path / "in.safetensors")
    convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", Conversion(to="official"))
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == tensors.keys() and torch.equal(found[f"{name}.weight"], stored.float() * scale)


def test_a_full_checkpoint_is_taken_apart(official: Path, tmp_path: Path) -> None:
    text = "text_encoders.umt5xxl."
    tensors = {f"model.diffusion_model.{name}": value for name, value in comfy_transformer().items()}
    tensors |= {f"vae.{name}": value for name, value in comfy_codec().items()}
    tensors |= {f"{text}transformer.{name}": value for name, value in huggingface_text().items()}
    tensors |= {f"{text}logit_scale": torch.ones(()), "text_encoders.spiece_model": spiece_bytes()}
    save_file(tensors, tmp_path / "all.safetensors")
    convert(tmp_path / "all.safetensors", tmp_path / "out", wanted("official"))
    expected = contents(official)
    expected.pop("google/umt5-xxl/tokenizer.json")
    assert_same(contents(tmp_path / "out"), expected)


def test_a_prefix_stands_before_the_transformer_alone(official: Path, tmp_path: Path) -> None:
    convert(official, tmp_path / "out", Conversion(to="comfy", prefix="model.diffusion_model."))
    (file,), (codec,) = ((tmp_path / "out" / name).glob("*.safetensors") for name in ("diffusion_models", "vae"))
    assert all(name.startswith("model.diffusion_model.") for name in load_file(file))
    assert load_file(codec).keys() == comfy_codec().keys()
    assert file.name == "wan2.1_t2v_fp32.safetensors" and codec.name == "wan_2.1_vae.safetensors"


def test_files_are_those_of_the_format(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(3, dtype=torch.uint8), "ü": torch.randn(2, 3), "a": torch.tensor(2.5).half(),
               "none": torch.zeros(0, 4, dtype=torch.bfloat16)}  # fmt: skip
    told: list[int] = []
    write_safetensors(tmp_path / "x.safetensors", outgoing(tensors), told.append)
    assert_same(dict(load_file(tmp_path / "x.safetensors")), dict(tensors))
    header = read_header(tmp_path / "x.safetensors")
    assert all((header.data_start + each.begin) % 4 == 0 for each in header.entries.values() if each.dtype == "F32")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert sum(told) == sum(value.nbytes for value in tensors.values())


def outgoing(tensors: dict[str, Tensor]) -> list[Outgoing]:
    return [
        Outgoing(name=name, shape=tuple(value.shape), dtype=value.dtype, read=value.clone)
        for name, value in tensors.items()
    ]


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path) -> None:
    alive: list[weakref.ref[Tensor]] = []

    def read() -> Tensor:
        assert not any(each() is not None for each in alive)
        value = torch.ones(100)
        alive.append(weakref.ref(value))
        return value

    tensors = [Outgoing(name=str(n), shape=(100,), dtype=torch.bfloat16, read=read) for n in range(5)]
    write_set(tmp_path, "x", tensors, 750, lambda count: None)
    assert len(alive) == 5 and len(list(tmp_path.glob("*.safetensors"))) == 5


def test_force_replaces_only_folders_of_weights(official: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    convert(official, source, wanted("official"))
    target = tmp_path / "there"
    convert(source, target, wanted("diffusers"))
    assert_refused(source, target, wanted("diffusers"), "file_exists", "--force")
    convert(source, target, wanted("comfy"), force=True)
    assert (target / "vae/wan_2.1_vae.safetensors").is_file() and not (target / "model_index.json").exists()
    (target / "vae" / "mine.txt").write_text("mine")
    with refused("folder_holds_others", "mine.txt"):
        convert(source, target, wanted("diffusers"), force=True)
    for place, code in (
        (source, "would_replace_source"),
        (source / "inner", "target_in_source"),
        (tmp_path, "would_replace_source"),
    ):
        with refused(code):
            convert(source, place, wanted("diffusers"), force=True)
    assert_same(contents(source), contents(official))


def test_what_is_no_model_that_kinoform_builds_is_refused(official: Path, tmp_path: Path) -> None:
    transformer = load_file(official / TRANSFORMER)
    codec = load_file(official / PARTS["codec"])
    wide = {"decoder.upsamples.0.upsamples.0.residual.2.weight": torch.zeros(4, 4, 1, 1, 1)}
    lora = {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 8),
            "diffusion_model.blocks.0.self_attn.q.lora_B.weight": torch.ones(8, 2)}  # fmt: skip
    missing = {name: value for name, value in transformer.items() if name != "head.head.bias"}
    whole = transformer["patch_embedding.weight"].char()
    for tensors, code, named in (
        (codec | wide, "weights_unknown_keys", "decoder.upsamples.0.upsamples.0"),
        (lora, "weights_unsupported_model", "--lora"),
        (missing, "weights_incomplete", "head.head.bias"),
        (transformer | {"head.head.bias": torch.ones(7)}, "weights_wrong_shape", "[7]"),
        (transformer | {"surplus": torch.ones(1)}, "weights_unknown_keys", "surplus"),
        (transformer | {"patch_embedding.weight": whole}, "weights_unsupported_storage", "int8"),
        ({"quantise.weight": torch.ones(2)}, "weights_unsupported_model", "Wan"),
    ):
        save_file(tensors, tmp_path / "in.safetensors")
        source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
        assert_refused(source, target, Conversion(to="diffusers"), code, "in.safetensors", named)


def test_half_a_model_and_two_of_a_part_are_refused(official: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    for part in ("transformer", "codec"):
        save_file(load_file(official / PARTS[part]), half / PARTS[part])
    assert_refused(half, tmp_path / "out", wanted("diffusers"), "weights_incomplete", "text encoder")
    save_file(load_file(official / PARTS["codec"]), half / "another.safetensors")
    assert_refused(half, tmp_path / "out", wanted("diffusers"), "weights_ambiguous", "codec", "another")


def test_what_cannot_be_asked_for_is_refused(official: Path, tmp_path: Path) -> None:
    part = official / PARTS["codec"]
    assert_refused(official, tmp_path / "x.safetensors", wanted("comfy"), "model_not_part")
    assert_refused(part, tmp_path / "x", wanted("comfy"), "part_not_model", "x.safetensors")
    assert_refused(part, tmp_path / "no" / "x.safetensors", wanted("comfy"), "folder_missing")
    assert_refused(official, tmp_path / "x", Conversion(to="kinoform"), "model_ambiguous", "--recipe")
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"to": "offical"}, "unknown_name"),
        ({"to": "official", "prefix": "model."}, "options_conflict"),
        ({"to": "comfy", "shard_bytes": 5}, "options_conflict"),
        ({"to": "official", "shard_bytes": 0}, "value_out_of_range"),
        ({"to": "kinoform", "recipe": "nothing"}, "recipe_invalid"),
    )
    for options, code in wrong:
        with refused(code):
            Conversion(**options)


def test_a_disk_too_small_is_told_before_the_work(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinoform.conversion.convert.shutil.disk_usage", lambda place: SimpleNamespace(free=1000))
    assert_refused(official, tmp_path / "out", wanted("diffusers"), "disk_full")


def test_every_dialect_opens_as_one_checkpoint(official: Path, tmp_path: Path) -> None:
    counts = set()
    for to in (target.name for target in TARGETS if target.grow is None):
        convert(official / TRANSFORMER, tmp_path / f"{to}.safetensors", Conversion(to=to))
        counts.add(len(open_checkpoint(tmp_path / f"{to}.safetensors").tensors))
    assert counts == {len(comfy_transformer())}
