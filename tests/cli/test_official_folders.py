"""Official folders make videos, and damaged ones are refused with the file, the fault and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.media.video_writer import read_video
from tests.support.command_line import Run
from tests.support.diffusers_folder import write_diffusers_folder
from tests.support.official_folder import CODEC_FILE, SINGLE, TEXT_FILE, write_official_folder

PROMPT = "a red cat runs slowly"
SMALL = ["--size", "32x16", "--frames", "5", "--steps", "2", "--seed", "7", "--device", "cpu"]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official") / "wan"
    write_official_folder(folder)
    return folder


@pytest.fixture
def copy(official: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(official, tmp_path / "wan"))


def test_an_official_folder_makes_videos(kinoform: Run, official: Path, here: Path, tmp_path: Path) -> None:
    ran = kinoform("generate", PROMPT, "--model", official, *SMALL, "--json", "-o", "video.mp4")
    assert ran.code == 0, ran.err
    told = ran.told[0]
    assert (told["num_frames"], told["width"], told["height"], told["fps"]) == (5, 32, 16, 16.0)
    assert told["model"]["name"] == "t2v-1.3b" and "色调艳丽" in told["negative_prompt"]
    write_official_folder(tmp_path / "shards", shards=3)
    assert kinoform("generate", PROMPT, "--model", tmp_path / "shards", *SMALL, "-o", "again.mp4").code == 0
    frames = [read_frames(here / name) for name in ("video.mp4", "again.mp4")]
    assert frames[0] == frames[1], "shards hold the same weights"


def read_frames(path: Path) -> bytes:
    return read_video(path)[0].tobytes()


def test_parts_may_be_safetensors(kinoform: Run, copy: Path, here: Path) -> None:
    kinoform("generate", PROMPT, "--model", copy, *SMALL, "-o", "pth.mp4")
    for name in (TEXT_FILE, CODEC_FILE):
        tensors = torch.load(copy / name, weights_only=True)
        save_file(tensors, (copy / name).with_suffix(".safetensors"))
        (copy / name).unlink()
    assert kinoform("generate", PROMPT, "--model", copy, *SMALL, "-o", "safe.mp4").code == 0
    assert read_frames(here / "pth.mp4") == read_frames(here / "safe.mp4")


def test_released_models_are_looked_for_in_the_cache(
    kinoform: Run, official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ran = kinoform("generate", PROMPT, "--model", "t2v-1.3b", *SMALL)
    assert ran.refusal == "weights_missing" and str(tmp_path / "cache" / "kinoform" / "t2v-1.3b") in ran.sentence
    shutil.copytree(official, tmp_path / "cache" / "kinoform" / "t2v-1.3b")
    assert kinoform("generate", PROMPT, "--model", "t2v-1.3b", *SMALL).code == 0


Change = Callable[[dict[str, torch.Tensor]], object]
Damage = Callable[[Path], object]


def transformer(change: Change) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / SINGLE)
        change(tensors)
        save_file(tensors, folder / SINGLE)

    return damage


def pickled(name: str, change: Change) -> Damage:
    def damage(folder: Path) -> None:
        tensors = torch.load(folder / name, weights_only=True)
        change(tensors)
        torch.save(tensors, folder / name)

    return damage


def written(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def configured(**changes: object) -> Damage:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return damage


HEAD, BIAS = "head.head.weight", "head.head.bias"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
PAGE = b"<!DOCTYPE html><html>Log in</html>"

DAMAGES = {
    "missing tensor": (transformer(lambda t: t.pop(BIAS)), "weights_incomplete", [SINGLE, BIAS]),
    "missing size": (transformer(lambda t: t.pop(HEAD)), "weights_incomplete", [SINGLE, HEAD]),
    "surplus tensor": (transformer(lambda t: t.update(loose=torch.ones(1))), "weights_unknown_keys", [SINGLE, "loose"]),
    "hostile name": (
        transformer(lambda t: t.update({"\x1b[2J": torch.ones(1)})),
        "weights_unknown_keys",
        [SINGLE, r"\x1b[2J"],
    ),
    "wrong shape": (
        transformer(lambda t: t.update({BIAS: t[BIAS][:-1].clone()})),
        "weights_wrong_shape",
        [SINGLE, BIAS],
    ),
    "wrong size": (
        transformer(lambda t: t.update({HEAD: t[HEAD][:-1].clone()})),
        "weights_unsupported_model",
        [SINGLE],
    ),
    "integers": (
        transformer(lambda t: t.update({HEAD: t[HEAD].char()})),
        "weights_unsupported_storage",
        [SINGLE, HEAD, "int8"],
    ),
    "NaN": (transformer(lambda t: t[HEAD].fill_(torch.nan)), "weights_not_finite", [SINGLE, HEAD]),
    "NaN in text": (
        pickled(TEXT_FILE, lambda t: t["norm.weight"].fill_(torch.inf)),
        "weights_not_finite",
        [TEXT_FILE, "norm.weight"],
    ),
    "cut": (cut(SINGLE), "weights_damaged", [SINGLE]),
    "cut pth": (cut(CODEC_FILE), "weights_damaged", [CODEC_FILE]),
    "web page": (written(SINGLE, PAGE), "weights_not_downloaded", [SINGLE]),
    "web page pth": (written(TEXT_FILE, PAGE), "weights_not_downloaded", [TEXT_FILE]),
    "pointer": (written(CODEC_FILE, POINTER), "weights_not_downloaded", [CODEC_FILE, "git lfs pull"]),
    "empty": (written(SINGLE, b""), "weights_damaged", [SINGLE]),
    "no codec": (lambda folder: (folder / CODEC_FILE).unlink(), "weights_missing", [CODEC_FILE]),
    "no tokenizer": (lambda folder: shutil.rmtree(folder / "google"), "tokenizer_missing", ["tokenizer"]),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config_missing", ["config.json"]),
    "i2v": (configured(model_type="i2v"), "config_contradicts_weights", ["'i2v'"]),
    "s2v": (configured(model_type="s2v"), "config_unsupported", ["s2v", "t2v, i2v, flf2v, vace, ti2v"]),
    "vace": (configured(model_type="vace"), "config_unsupported", ["VaceWanModel"]),
    "other layers": (configured(num_layers=5), "config_contradicts_weights", ["config.json", "num_layers"]),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_folder_is_refused_by_name(kinoform: Run, copy: Path, here: Path, kind: str) -> None:
    damage, code, named = DAMAGES[kind]
    damage(copy)
    ran = kinoform("generate", PROMPT, "--model", copy, *SMALL)
    assert ran.refusal == code, ran.err
    for name in named:
        assert name in ran.sentence, ran.sentence
    assert len(ran.sentence) < 500
    assert ran.out == "" and not list(here.iterdir())


def test_a_file_makes_the_video_of_its_folder(kinoform: Run, official: Path, here: Path) -> None:
    for name, model in (("folder.mp4", official), ("file.mp4", official / SINGLE)):
        ran = kinoform("generate", PROMPT, "--model", model, *SMALL, "-o", name)
        assert ran.code == 0, ran.err
    assert read_frames(here / "folder.mp4") == read_frames(here / "file.mp4")


def test_a_diffusers_folder_makes_the_video_of_the_official_one(kinoform: Run, here: Path, tmp_path: Path) -> None:
    write_diffusers_folder(tmp_path / "diffusers", shards=2)
    ran = kinoform("generate", PROMPT, "--model", tmp_path / "diffusers", *SMALL, "-o", "video.mp4")
    assert ran.code == 0, ran.err
    assert read_frames(here / "video.mp4")
