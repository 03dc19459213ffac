"""Previews and dry runs of the commands that change videos: no weight is read, and no video is written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.media.video import Video
from tests.support.command_line import Ran, Run

SIZE, COUNT = (24, 32), 7
OWN = {
    "edit": ["--mask", "mask.png"],
    "extend": ["--context", 2, "--frames", 6],
    "outpaint": ["--to", "48x24"],
}

pytestmark = pytest.mark.usefixtures("unread", "source")
every = pytest.mark.parametrize("command", OWN)


@pytest.fixture
def model(folder: Path) -> list[str]:
    return ["--model", str(folder), "--recipe", "tests.support.tiny_recipe:tiny_of_videos", "--device", "cpu"]


@pytest.fixture
def source(here: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, *SIZE, 3), dtype=np.uint8)
    Video(frames=noise, fps=12.0).save(here / "video.mkv")
    values = np.zeros(SIZE, np.uint8)
    values[8:14, 10:18] = 255
    Image.fromarray(values).save(here / "mask.png")


def asked(kinoform: Run, model: list[str], command: str, *words: object) -> Ran:
    usual = ["--prompt", "a cat", "--seed", 7, *OWN[command]]
    return kinoform(command, "video.mkv", *usual, *model, "-o", "new.mkv", *words)


@every
def test_a_preview_is_a_image_beside_the_video_to_come(
    kinoform: Run, model: list[str], here: Path, command: str
) -> None:
    ran = asked(kinoform, model, command, "--preview")
    assert ran.code == 0 and ran.out == "new_preview.png\n", ran.err
    assert {file.name for file in here.iterdir()} == {"video.mkv", "mask.png", "new_preview.png"}
    sheet = np.asarray(Image.open("new_preview.png")).reshape(-1, 3)
    assert {(40, 170, 250)} <= set(map(tuple, sheet)) and len(np.unique(sheet, axis=0)) > 100
    assert asked(kinoform, model, command, "--preview").code == 2, "an older preview is not replaced"
    assert asked(kinoform, model, command, "--preview", "--json", "--force").told == [{"preview": "new_preview.png"}]


@every
def test_a_dry_run_tells_the_plan_of_what_is_made_at_once(
    kinoform: Run, model: list[str], here: Path, command: str
) -> None:
    ran = asked(kinoform, model, command, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    (told,) = ran.told
    assert told["outputs"] == ["new.mkv"] and told["plan"]["num_frames"] == 3
    assert told["plan"]["width"] * told["plan"]["height"] <= 16 * 16
    assert {file.name for file in here.iterdir()} == {"video.mkv", "mask.png"}


@every
@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["-o", "video.mkv"], "file_exists", "video.mkv"),
        (["-o", "new.avi"], "unknown_format", "'.avi'"),
        (["--reference", "mask.png"], "input_not_taken", "vace-14b"),
    ],
    ids=["taken", "format", "input"],
)
def test_a_dry_run_refuses_what_the_work_would(
    kinoform: Run, model: list[str], command: str, words: list[str], code: str, named: str
) -> None:
    ran = asked(kinoform, model, command, "--dry-run", *words)
    assert ran.refusal == code and named in ran.sentence and ran.out == ""
