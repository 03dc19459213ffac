"""`kinoform convert` writes weights in another layout, says what it wrote, and refuses in one sentence."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from kinoform.cli.convert import bytes_of
from kinoform.errors import UsageError
from kinoform.media.video_writer import read_video
from tests.support.command_line import Run
from tests.support.diffusers_folder import CONFIGS
from tests.support.official_folder import CODEC_FILE, SINGLE, write_official_folder
from tests.weights.test_lora_dialects import SPELLINGS
from tests.weights.test_merged_loras import base_tensors

RECIPE = "tests.support.tiny_recipe:tiny"
SMALL = ["--size", "32x16", "--frames", "5", "--steps", "2", "--seed", "7", "--device", "cpu"]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official") / "wan"
    write_official_folder(folder)
    return folder


def test_a_converted_model_makes_the_same_video(kinoform: Run, official: Path, here: Path) -> None:
    ran = kinoform("convert", official, "there", "--to", "official", "--shard-size", "60kB")
    assert ran.code == 0 and "there/diffusion_pytorch_model-00001-of-00004.safetensors" in ran.out
    for model, name in ((official, "a.mkv"), ("there", "b.mkv")):
        assert kinoform("generate", "a red cat", "--model", model, *SMALL, "-o", name).code == 0
    assert (read_video(here / "a.mkv")[0] == read_video(here / "b.mkv")[0]).all()


def test_the_result_says_what_was_written(kinoform: Run, official: Path, here: Path) -> None:
    ran = kinoform("convert", official, "there", "--to", "diffusers", "--dtype", "bfloat16", "--json")
    (told,) = ran.told
    assert ran.code == 0 and (told["path"], told["to"]) == ("there", "diffusers")
    written = {str(file.relative_to(here)): file.stat().st_size for file in here.rglob("*") if file.is_file()}
    assert {each["file"]: each["bytes"] for each in told["files"]} == written
    weights = [load_file(file) for file in here.rglob("*.safetensors")]
    assert told["tensors"] == sum(map(len, weights))
    assert told["bytes"] == sum(value.nbytes for each in weights for value in each.values())
    found = json.loads((here / "there/transformer/config.json").read_text())
    assert {key: found[key] for key in CONFIGS["transformer"]} == CONFIGS["transformer"]


def test_a_part_becomes_a_file(kinoform: Run, official: Path, here: Path) -> None:
    assert kinoform("convert", official / CODEC_FILE, "vae.safetensors", "--to", "comfy").code == 0
    ran = kinoform("convert", official / CODEC_FILE, "vae.safetensors", "--to", "comfy")
    assert ran.refusal == "file_exists" and "--force" in ran.sentence
    assert kinoform("convert", official / CODEC_FILE, "vae.safetensors", "--to", "comfy", "--force").code == 0
    assert [file.name for file in here.iterdir()] == ["vae.safetensors"]


def test_a_folder_of_kinoform_names_its_recipe(kinoform: Run, official: Path, here: Path) -> None:
    ran = kinoform("convert", official, "own", "--to", "kinoform")
    assert ran.refusal == "model_ambiguous" and "--recipe" in ran.sentence
    assert kinoform("convert", official, "own", "--to", "kinoform", "--recipe", RECIPE).code == 0
    assert kinoform("convert", "own", "again", "--to", "kinoform").code == 0
    found = [json.loads((here / name / "manifest.json").read_text()) for name in ("own", "again")]
    assert found[0] == found[1] and found[0]["recipe"] == RECIPE
    assert kinoform("convert", official, "small", "--to", "kinoform", "--variant", "t2v-1.3b").code == 2


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--to", "offical"], "unknown_name", "official"),
        (["--to", "kinoform", "--recipe", "tests.support.tiny_recipe:tinny"], "unknown_recipe", "tiny"),
        (["--to", "diffusers", "--dtype", "bf16"], "unknown_dtype", "bfloat16"),
        (["--to", "diffusers", "--shard-size", "big"], "bad_value", "5GB"),
        (["--to", "comfy", "--shard-size", "5GB"], "options_conflict", "--shard-size"),
        (["--to", "official", "--prefix", "model."], "options_conflict", "--prefix"),
        (["--to", "official", "--variant", "flf2v-14b"], "variant_contradicts_weights", "flf2v-14b"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: list[str], code: str, named: str, kinoform: Run, official: Path, here: Path
) -> None:
    ran = kinoform("convert", official, "there", *words)
    assert ran.refusal == code and named in ran.sentence, ran.err
    assert not list(here.iterdir())


def test_a_damaged_source_is_named(kinoform: Run, official: Path, here: Path) -> None:
    (here / SINGLE).write_bytes((official / SINGLE).read_bytes()[:-9])
    ran = kinoform("convert", SINGLE, "x.safetensors", "--to", "official")
    assert ran.refusal == "weights_damaged"
    assert kinoform("convert", "nothing", "x.safetensors", "--to", "official").code == 3


def test_sizes_are_read() -> None:
    sizes = {"5GB": 5_000_000_000, "1.5 mb": 1_500_000, "60kB": 60_000, "7": 7}
    assert {text: bytes_of(text) for text in sizes} == sizes
    for text in ("", "0", "-1GB", "5TB", "1e9", "9" * 40, "nan"):
        with pytest.raises(UsageError):
            bytes_of(text)


def test_a_size_in_words_is_exact() -> None:
    sizes = [f"{number / 1000:.3f}kB" for number in range(1, 3000)]
    assert [bytes_of(size) for size in sizes] == list(range(1, 3000))


def test_the_command_merges_and_rewrites(kinoform: Run, here: Path) -> None:
    save_file(base_tensors(), here / "base.safetensors")
    told = SPELLINGS["VideoX-Fun"]
    save_file(told.tensors, here / "style.safetensors")
    ran = kinoform("convert", "base.safetensors", "m.safetensors", "--to", "comfy", "--lora", "style.safetensors:0.6")
    assert ran.code == 0 and "9 tensors applied" in ran.err and (here / "m.safetensors").is_file()
    ran = kinoform("convert", "style.safetensors", "k.safetensors", "--format", "kohya", "--json")
    assert ran.code == 0 and ran.told[0]["to"] == "kohya"
    assert all(name.startswith("lora_unet_blocks") for name in load_file(here / "k.safetensors"))
    for words, code in (
        (["style.safetensors", "x.safetensors"], "options_conflict"),
        (["style.safetensors", "x.safetensors", "--format", "kohya", "--to", "comfy"], "options_conflict"),
        (["style.safetensors", "x.safetensors", "--format", "kohya", "--lora", "a"], "options_conflict"),
        (["style.safetensors", "x.safetensors", "--format", "a1111"], "unknown_name"),
        (["base.safetensors", "x.safetensors", "--format", "comfy"], "lora_missing"),
    ):
        assert kinoform("convert", *words).refusal == code
