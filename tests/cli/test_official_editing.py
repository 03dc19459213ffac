"""Official folders of image-to-video, first-last-frame and VACE models: every way in, as inputs and as commands."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.media.metadata import read_params
from kinoform.media.types import InputVideo
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video
from kinoform.recipes.load import load
from tests.support.command_line import Ran, Run
from tests.support.official_folder import write_official_folder

PROMPT = "a red cat runs slowly"
MADE = ["--steps", 2, "--seed", 7, "--device", "cpu", "--json"]
SMALL = [*MADE, "--size", "32x32", "--frames", 5]
KINDS = {"t2v": "t2v-1.3b", "i2v": "i2v-14b-480p", "flf2v": "flf2v-14b", "vace": "vace-1.3b"}
HOLE = np.s_[16:48, 24:56]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind."""
    place = tmp_path_factory.mktemp("official")
    for kind in KINDS:
        write_official_folder(place / kind, kind=kind)
    return place


@pytest.fixture
def material(here: Path) -> Path:
    """first.png and last.png; source.mkv of 9 frames; mask.png, white in the HOLE."""
    draw = np.random.default_rng(1)
    for name in ("first", "last"):
        Image.fromarray(draw.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(here / f"{name}.png")
    frames = draw.integers(0, 256, (9, 64, 80, 3), dtype=np.uint8)
    Video(frames=frames, fps=16.0).save(here / "source.mkv")
    mask = np.zeros((64, 80), np.uint8)
    mask[HOLE] = 255
    Image.fromarray(mask).save(here / "mask.png")
    return here


def frames_of(name: str) -> np.ndarray:
    return read_video(Path(name))[0]


def told(ran: Ran) -> dict:
    assert ran.code == 0, ran.err
    return ran.told[-1]


WAYS = {
    "first frame": ("i2v", ["--image", "first.png"]),
    "first and last frame": ("flf2v", ["--image", "first.png", "--last-image", "last.png"]),
    "mask and reference": ("vace", ["--video", "source.mkv", "--mask", "mask.png", "--reference", "first.png"]),
    "a video redone": ("vace", ["--video", "source.mkv", "--strength", 0.5, "--reference", "first.png"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_makes_a_video(kinoform: Run, folders: Path, material: Path, way: str) -> None:
    kind, options = WAYS[way]
    made = told(kinoform("generate", PROMPT, "--model", folders / kind, *SMALL, *options, "-o", "video.mkv"))
    assert made["model"]["name"] == KINDS[kind] and made["task"] == kind
    frames = frames_of("video.mkv")
    assert frames.shape == (made["num_frames"], made["height"], made["width"], 3) and frames.std() > 1


@pytest.mark.parametrize("fps", [16.0, 30.0])
def test_vace_is_given_every_frame_of_video_and_mask_whatever_their_rate(
    kinoform: Run, folders: Path, material: Path, fps: float
) -> None:
    """Take frames as the official program does; so frames alone decide the result, and it is made again the same."""
    draw = np.random.default_rng(2)
    frames = draw.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    mask = np.repeat(draw.integers(0, 2, (9, 32, 32, 1), dtype=np.uint8) * 255, 3, axis=3)
    Video(frames=frames, fps=fps).save("given.mkv")
    Video(frames=mask, fps=fps).save("mask.mkv")
    options = ["--video", "given.mkv", "--mask", "mask.mkv", "--model", folders / "vace", *MADE, "--size", "32x32"]
    made = told(kinoform("generate", PROMPT, *options, "--frames", 9, "-o", "video.mkv"))
    assert (made["num_frames"], made["fps"]) == (9, 16)

    pipe = load(folders / "vace", device="cpu")
    for clip in (InputVideo(frames=frames), InputVideo(frames=frames, fps=fps)):
        video = pipe(
            PROMPT, video=clip, mask=list(mask), width=32, height=32, num_frames=9, num_inference_steps=2, seed=7
        )
        assert np.array_equal(video.frames, frames_of("video.mkv"))

    told(kinoform("rerun", "video.mkv", "--model", folders / "vace", "--device", "cpu", "-o", "again.mkv", "--json"))
    assert np.array_equal(frames_of("again.mkv"), frames_of("video.mkv"))


def test_a_image_is_animated(kinoform: Run, folders: Path, material: Path) -> None:
    """The command makes the video that `generate` makes."""
    told(kinoform("animate", "first.png", "--prompt", PROMPT, "--model", folders / "i2v", *SMALL, "-o", "video.mkv"))
    same = ["--image", "first.png", "--model", folders / "i2v", *SMALL, "-o", "same.mkv"]
    told(kinoform("generate", PROMPT, *same))
    assert np.array_equal(frames_of("video.mkv"), frames_of("same.mkv"))


def test_two_images_are_bridged(kinoform: Run, folders: Path, material: Path) -> None:
    model = ["--prompt", PROMPT, "--model", folders / "flf2v", *SMALL]
    told(kinoform("bridge", "first.png", "last.png", *model, "-o", "video.mkv"))
    told(kinoform("bridge", "last.png", "first.png", *model, "-o", "back.mkv"))
    assert frames_of("video.mkv").shape == (5, 32, 32, 3)
    assert not np.array_equal(frames_of("video.mkv"), frames_of("back.mkv")), "which image is where matters"


EDIT = ["edit", "source.mkv", "--prompt", PROMPT, "--mask", "mask.png", "--grow", 0, "--feather", 0, *SMALL]


@pytest.mark.parametrize(
    ("kind", "options"),
    [("vace", []), ("vace", ["--reference", "first.png", "--strength", 0.5]), ("t2v", [])],
    ids=["vace", "all that vace takes", "a model of words alone"],
)
def test_a_video_is_edited(kinoform: Run, folders: Path, material: Path, kind: str, options: list[object]) -> None:
    """With 9 frames of the video and 5 of the model, in two segments."""
    made = told(kinoform(*EDIT, *options, "--model", folders / kind, "-o", "video.mkv"))
    source, frames = frames_of("source.mkv"), frames_of("video.mkv")
    changed = np.zeros(frames.shape[1:3], bool)
    changed[HOLE] = True
    assert frames.shape == source.shape and made["fps"] == 16.0
    assert np.array_equal(frames[:, ~changed], source[:, ~changed])
    assert (frames[:, changed] != source[:, changed]).mean() > 0.5
    assert read_params(Path("video.mkv"))["edit"]


def test_a_model_is_asked_for_no_more_than_it_takes(kinoform: Run, folders: Path, material: Path) -> None:
    refused = {
        "takes no references": [*EDIT, "--reference", "first.png", "--model", folders / "t2v"],
        "takes no video": [*EDIT, "--model", folders / "i2v"],
        "takes no frames": ["animate", "first.png", "--prompt", PROMPT, "--model", folders / "vace", *SMALL],
        "needs images for frames 0 and -1": [
            "animate", "first.png", "--prompt", PROMPT, "--model", folders / "flf2v", *SMALL,
        ],
    }  # fmt: skip
    there = sorted(material.iterdir())
    for says, words in refused.items():
        ran = kinoform(*words, "-o", "video.mkv")
        assert ran.code == 2 and says in ran.err, ran.err
    assert sorted(material.iterdir()) == there


@pytest.mark.parametrize(("kind", "before"), [("vace", False), ("vace", True), ("i2v", False)])
def test_a_video_is_extended(kinoform: Run, folders: Path, material: Path, kind: str, before: bool) -> None:
    words = ["--prompt", PROMPT, "--frames", 4, "--context", 5, "--model", folders / kind, *MADE, "--size", "80x64"]
    told(kinoform("extend", "source.mkv", *words, *(["--before"] if before else []), "-o", "video.mkv"))
    frames, source = frames_of("video.mkv"), frames_of("source.mkv")
    assert len(frames) == 9 + 4
    assert np.array_equal(frames[4:] if before else frames[:9], source)


def test_the_surroundings_of_a_video_are_made(kinoform: Run, folders: Path, material: Path) -> None:
    """In the model's own size, which the recipe says."""
    model = ["--model", folders / "vace", "--recipe", "tests.support.official_folder:small_vace"]
    told(kinoform("outpaint", "source.mkv", "--prompt", PROMPT, "--to", "112x64", *model, *MADE, "-o", "video.mkv"))
    frames = frames_of("video.mkv")
    assert frames.shape == (9, 64, 112, 3)
    assert np.array_equal(frames[:, :, 16:96], frames_of("source.mkv"))
