"""Images, videos and masks on the command line: how they are said, what they do, how a video finds them again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kinoform.cli.values import lora_of
from kinoform.loading.lora import save_lora
from kinoform.media.metadata import read_params
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video
from kinoform.models.lora import LoRASpec, adapters_of, attach
from kinoform.recipes.load import load
from kinoform.world.palette import BLUE, RED
from tests.support.command_line import Run
from tests.support.refusals import refused

PROMPT = "a green ball bounces on a blue background"
MINI = [PROMPT, "--model", "mini", "--device", "cpu", "--steps", 8, "--frames", 5, "--seed", 3, "--upscale", 1]
SQUARE = slice(20, 44)


@pytest.fixture
def source(here: Path) -> Path:
    """A red square on blue, still."""
    frames = np.full((5, 64, 64, 3), BLUE.rgb, np.uint8)
    frames[:, SQUARE, SQUARE] = RED.rgb
    return Video(frames=frames, fps=16.0).save(here / "source.mkv")


@pytest.fixture
def mask(here: Path) -> Path:
    """White where the square is."""
    values = np.zeros((64, 64), np.uint8)
    values[SQUARE, SQUARE] = 255
    Image.fromarray(values).save(here / "mask.png")
    return here / "mask.png"


def frames_of(path: Path) -> np.ndarray:
    return read_video(path)[0].astype(int)


def made(kinoform: Run, name: str, *options: object) -> np.ndarray:
    ran = kinoform("generate", *MINI, *options, "-o", name)
    assert ran.code == 0, ran.err
    return frames_of(Path(name))


def test_the_weaker_the_redoing_the_nearer_the_source(kinoform: Run, source: Path) -> None:
    before = frames_of(source)
    gaps = [
        np.abs(made(kinoform, f"{strength}.mkv", "--video", source.name, "--strength", strength) - before).mean()
        for strength in (0.125, 1.0)
    ]
    assert gaps[0] < gaps[1]


def test_outside_the_mask_the_source_stays(kinoform: Run, source: Path, mask: Path) -> None:
    before = frames_of(source)
    after = made(kinoform, "masked.mkv", "--video", source.name, "--mask", mask.name)
    inside, outside = np.abs(after - before)[:, SQUARE, SQUARE], np.abs(after - before)[:, :8]
    assert outside.mean() < 6 < inside.mean()


def test_a_video_is_edited_from_what_it_shows(kinoform: Run, source: Path) -> None:
    told = ["--video", source.name, "--source-prompt", "a red square stays still on a blue background"]
    after = made(kinoform, "edited.mkv", *told)
    params = read_params(Path("edited.mkv"))
    assert params["sampler"] == "flow-edit"
    assert params["conditions"] == {"source_prompt": told[-1]}
    assert np.abs(after - frames_of(source)).mean() > 0


def test_a_video_finds_what_it_was_made_from(kinoform: Run, source: Path, mask: Path) -> None:
    given = ["--video", source.name, "--mask", mask.name, "--strength", 0.5, "--guidance-rule", "interval(low=0.3)"]
    first = made(kinoform, "first.mkv", *given)
    params: dict[str, Any] = read_params(Path("first.mkv"))
    assert {name: each["file"] for name, each in params["inputs"].items()} == {
        "video": "source.mkv",
        "mask": "mask.png",
    }
    assert (params["conditions"], params["guidance_rule"]) == ({"strength": 0.5}, "interval(low=0.3)")
    assert kinoform("rerun", "first.mkv", "-o", "again.mkv").code == 0
    assert np.array_equal(first, frames_of(Path("again.mkv")))
    assert read_params(Path("again.mkv")) == params
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(mask)
    ran = kinoform("rerun", "first.mkv", "-o", "third.mkv")
    assert ran.refusal == "file_changed" and "mask.png" in ran.sentence and "first.mkv" in ran.sentence
    mask.unlink()
    ran = kinoform("rerun", "first.mkv", "-o", "third.mkv")
    assert ran.refusal == "file_missing" and "'mask.png'" in ran.sentence


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (["--frame", "first.png"], "bad_value", "'first.png'"),
        (["--input", "frames=first.png"], "bad_value", "frames: 'first.png'"),
        (["--image", "mask.png", "--frame", "0=mask.png"], "frame_given_twice", "frame 0"),
        (
            ["--image", "mask.png"],
            "input_not_taken",
            "mini:frames, mini:context, i2v-14b-480p, i2v-14b-720p, flf2v-14b",
        ),
        (["--reference", "mask.png"], "input_not_taken", "vace-14b"),
        (["--video", "nothing.mp4"], "file_missing", "nothing.mp4"),
        (["--mask", "mask.png"], "input_missing", "mask"),
        (["--strength", 0.5], "input_missing", "strength"),
        (["--video", "source.mkv", "--strength", 1.5], "value_out_of_range", "1.5"),
        (["--video", "source.mkv", "--sampler", "flow-edit"], "input_missing", "flow-edit"),
        (["--sampler", "euler"], "unknown_name", "'euler'"),
        (["--guidance-rule", "interval(low=2)"], "value_out_of_range", "2.0"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    kinoform: Run, source: Path, mask: Path, options: list[object], code: str, named: str
) -> None:
    ran = kinoform("generate", *MINI, *options, "-o", "video.mkv")
    assert ran.refusal == code and named in ran.sentence
    assert not Path("video.mkv").exists()


@pytest.fixture
def lora(here: Path) -> Path:
    """Noise on the queries, keys, values and outputs of the embedded model."""
    base = load("mini").parts.transformer(torch.float32, torch.device("cpu"))
    spec = LoRASpec(patterns=("self_attention.*",), rank=4, alpha=4.0)
    model = attach(base, spec, name="noise", generator=torch.Generator().manual_seed(0))
    for adapter in adapters_of(model)["noise"].values():
        torch.nn.init.normal_(adapter.up, std=0.3, generator=torch.Generator().manual_seed(1))
    save_lora(here / "noise.safetensors", model, "noise")
    return here / "noise.safetensors"


def test_a_lora_changes_the_video_and_is_found_again(kinoform: Run, lora: Path) -> None:
    plain, half, whole = (
        made(kinoform, f"{name}.mkv", *(["--lora", f"noise.safetensors{strength}"] if strength is not None else []))
        for name, strength in (("plain", None), ("half", ":0.5"), ("whole", ""))
    )
    assert not np.array_equal(plain, half) and not np.array_equal(half, whole)
    params: dict[str, Any] = read_params(Path("half.mkv"))
    assert params["loras"] == {"lora:0": 0.5} and params["inputs"]["lora:0"]["file"] == "noise.safetensors"
    ran = kinoform("rerun", "half.mkv", "-o", "again.mkv")
    assert ran.code == 0 and "x strength 0.5" in ran.err
    assert np.array_equal(half, frames_of(Path("again.mkv")))
    lora.rename("moved.safetensors")
    assert kinoform("rerun", "half.mkv", "-o", "third.mkv").refusal == "file_missing"
    ran = kinoform("rerun", "half.mkv", "-o", "third.mkv", "--lora", "moved.safetensors:0.5")
    assert ran.code == 0, ran.err
    assert np.array_equal(half, frames_of(Path("third.mkv")))


@pytest.mark.parametrize(
    ("text", "file", "strength"),
    [
        ("a.safetensors", "a.safetensors", 1.0), ("a:0.8", "a", 0.8), ("C:/a", "C:/a", 1.0), ("b:c:-2", "b:c", -2.0),
        ("high=a:0.8", "a", {"high": 0.8}), ("low=C:/a", "C:/a", {"low": 1.0}), ("b/x=a", "b/x=a", 1.0),
        ("a:high=1,low=0.8", "a", {"high": 1.0, "low": 0.8}),
    ],
)  # fmt: skip
def test_a_strength_stands_behind_the_last_colon(text: str, file: str, strength: float | dict[str, float]) -> None:
    assert lora_of(text) == (file, strength)


@pytest.mark.parametrize(
    ("text", "code"), [("a:1,0.8", "expert_not_said"), ("high=a:low=1", "said_twice"), ("a:low=1,low=2", "said_twice")]
)
def test_strengths_of_experts_are_told_by_name_once(text: str, code: str) -> None:
    with refused(code):
        lora_of(text)


def test_a_file_may_be_called_like_an_expert(here: Path) -> None:
    (here / "high=a").touch()
    assert lora_of("high=a:0.5") == ("high=a", 0.5)
