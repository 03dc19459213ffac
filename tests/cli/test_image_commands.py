"""`kinoform animate` and `kinoform bridge`: videos from images, as `generate` makes them, and made again."""

from pathlib import Path

import numpy as np
import pytest

from kinoform.media.metadata import read_params
from kinoform.media.video_writer import read_video
from tests.support.command_line import Run
from tests.support.official_folder import write_official_folder

IMAGES = Path(__file__).parents[2] / "examples" / "inputs"
FIRST, LAST = IMAGES / "first.png", IMAGES / "last.png"
SMALL = ["--size", "48x32", "--frames", "5", "--steps", "2", "--seed", "7", "--device", "cpu"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cache")
    write_official_folder(place / "kinoform" / "i2v-14b-480p", kind="i2v")
    write_official_folder(place / "kinoform" / "flf2v-14b", kind="flf2v")
    return place


COMMANDS = {
    "animate": (["animate", FIRST, "--model", "i2v-14b-480p"], ["--model", "i2v-14b-480p", "--image", FIRST]),
    "bridge": (
        ["bridge", FIRST, LAST, "--model", "flf2v-14b"],
        ["--model", "flf2v-14b", "--image", FIRST, "--last-image", LAST],
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_video_from_images_is_that_of_generate_and_is_made_again(
    kinoform: Run, here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    short, long = COMMANDS[command]
    ran = kinoform(*short, "--prompt", "a red cat runs", *SMALL, "-o", "video.mkv")
    assert ran.code == 0 and ran.out == "video.mkv\n", ran.err
    assert kinoform("generate", "a red cat runs", *long, *SMALL, "-o", "long.mkv").code == 0
    for image in (FIRST, LAST):
        (here / image.name).symlink_to(image)
    assert kinoform("rerun", "video.mkv", "-o", "again.mkv", "--device", "cpu").code == 0
    params = read_params(here / "video.mkv")
    assert {"frame:0", "frame:-1"} >= params["inputs"].keys()  # type: ignore[attr-defined]
    for other in ("long.mkv", "again.mkv"):
        assert np.array_equal(read_video(here / "video.mkv")[0], read_video(here / other)[0])
        assert read_params(here / other) == params


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["animate", FIRST, "--model", "mini"], "input_not_taken", "i2v-14b-480p"),
        (["bridge", FIRST, LAST, "--model", "mini"], "input_not_taken", "i2v-14b-480p"),
        (["animate", "nothing.png", "--model", "mini"], "file_missing", "nothing.png"),
        (["animate", IMAGES / "video.mp4", "--model", "mini"], "not_an_image", "video.mp4"),
        (["animate", FIRST, "--model", "mini", "--input", f"image={LAST}"], "options_conflict", "image"),
        (["bridge", FIRST, LAST, "--model", "mini", "--input", "camera=1"], "input_unknown", "'camera'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(kinoform: Run, here: Path, words: list[object], code: str, named: str) -> None:
    ran = kinoform(*words, "--prompt", "a red cat runs", "-o", "video.mkv")
    assert ran.refusal == code and named in ran.sentence and not list(here.iterdir())
