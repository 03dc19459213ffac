"""`kinoform edit`: what it keeps, what it tells, what it refuses, and what it leaves behind."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.media.metadata import read_params
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video
from tests.support.command_line import Ran, Run
from tests.support.sounding_video import CLICK, FPS, click, write_sounding_video

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
PROMPT = "a blue cat moves left"
WORDS = ["--prompt", PROMPT, "--seed", "7"]
SIZE, COUNT = (24, 32), 7
RIM = ["--grow", "1", "--feather", "2"]
WHITE = (slice(8, 14), slice(10, 18))
CHANGED = (slice(5, 17), slice(7, 21))
"""The mask, and what holds it with its rim."""


@pytest.fixture
def model(folder: Path) -> list[str]:
    return ["--model", str(folder), "--recipe", "tests.support.tiny_recipe:tiny_of_videos", "--device", "cpu"]


@pytest.fixture
def source(here: Path) -> np.ndarray:
    """A lossless video, `video.mkv`, and `mask.png`."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    frames = np.stack(
        [np.stack([rows * 9, columns * 7, np.full(SIZE, 20 * place)], axis=-1) for place in range(COUNT)]
    ).astype(np.uint8)
    Video(frames=frames, fps=12.0).save(here / "video.mkv")
    values = np.zeros(SIZE, np.uint8)
    values[WHITE] = 255
    Image.fromarray(values).save(here / "mask.png")
    return frames


def documented(what: str) -> set[str]:
    """The fields of a result as docs/json.md has them."""
    section = re.split(r"^### ", PAGE.read_text().split(f"### Result of `{what}")[1], flags=re.MULTILINE)[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def edited(kinoform: Run, model: list[str], *words: object) -> Ran:
    return kinoform("edit", "video.mkv", *WORDS, "--mask", "mask.png", *RIM, *model, *words)


def test_outside_the_mask_every_pixel_stays(kinoform: Run, model: list[str], source: np.ndarray) -> None:
    ran = edited(kinoform, model, "-o", "new.mkv")
    assert ran.code == 0 and ran.out == "new.mkv\n", ran.err
    frames, fps = read_video(Path("new.mkv"))
    assert frames.shape == source.shape and fps == 12.0
    outside = np.ones(SIZE, bool)
    outside[CHANGED] = False
    assert np.array_equal(frames[:, outside], source[:, outside])
    assert not np.array_equal(frames[:, WHITE[0], WHITE[1]], source[:, WHITE[0], WHITE[1]])
    assert "every pixel equals the source" in ran.err and "there new.mkv is equal too" in ran.err


def test_the_report_is_told_and_stands_in_the_video(kinoform: Run, model: list[str], source: np.ndarray) -> None:
    told = edited(kinoform, model, "--json", "-o", "new.mp4", "--contact-sheet").told[0]
    carried = read_params(Path("new.mp4"))
    assert told["output"] == "new.mp4" and Path(told["contact_sheet"]).is_file()
    assert carried == {name: value for name, value in told.items() if name in carried}
    assert carried["task"] == "edit" and {"video", "mask"} == carried["inputs"].keys()  # type: ignore[attr-defined]
    edit = told["edit"]
    assert documented("generate`, `animate") == told.keys() - {"edit", "file"}
    assert documented("edit`, `extend") == {"edit", "file"} | edit.keys()
    assert edit["outside_equal"] is True and 0 < edit["changed_share"] < 0.3
    assert edit["settings"]["grow"] == 1 and edit["settings"]["feather"] == 2
    assert [each["seed"] for each in edit["segments"]] == list(range(7, 7 + len(edit["segments"])))
    file = told["file"]
    before, after = source.astype(float), read_video(Path("new.mp4"))[0].astype(float)
    outside = np.ones(SIZE, bool)
    outside[CHANGED] = False
    psnr = 10 * np.log10(255**2 / np.mean((after - before)[:, outside] ** 2))
    assert file["outside_equal"] is False and file["psnr_outside_db"] == pytest.approx(psnr, abs=0.5)


def test_a_file_that_keeps_too_little_is_told_of_with_the_remedy(
    kinoform: Run, model: list[str], source: np.ndarray
) -> None:
    ran = edited(kinoform, model, "-o", "new.mp4", "--crf", 45)
    assert ran.code == 0 and "below 35; pass a lower --crf, or write a lossless .mkv" in ran.err
    assert "warning" not in edited(kinoform, model, "-o", "new.mkv").err


def test_the_sound_stays_at_its_time(kinoform: Run, model: list[str], here: Path) -> None:
    write_sounding_video(here / "loud.mp4", "aac", seconds=1.0)
    words = ["--prompt", PROMPT, "--seed", 7, "--strength", 0.5, *model]
    assert kinoform("edit", "loud.mp4", *words, "-o", "new.mp4").code == 0
    assert click(Path("new.mp4")) == pytest.approx(CLICK, abs=0.03)
    ran = kinoform("extend", "loud.mp4", "--prompt", PROMPT, "--seed", 7, *model, "--context", 2, "--frames", 4,
                   "--before", "-o", "long.mp4")  # fmt: skip
    assert ran.code == 0, ran.err
    assert click(Path("long.mp4")) == pytest.approx(CLICK + 4 / FPS, abs=0.03)
    ran = kinoform("edit", "loud.mp4", *words, "-o", "new.gif")
    assert ran.code == 0 and "warning: loud.mp4 loses its sound, since .gif has none" in ran.err


def test_a_preview_reads_no_weight(kinoform: Run, model: list[str], source: np.ndarray, unread: None) -> None:
    ran = edited(kinoform, model, "--preview", "-o", "new.mp4")
    assert ran.code == 0 and ran.out == "new_preview.png\n"
    sheet = np.asarray(Image.open("new_preview.png")).reshape(-1, 3)
    assert len(np.unique(sheet, axis=0)) > 100 and not Path("new.mp4").exists()
    assert edited(kinoform, model, "--preview", "-o", "new.mp4").code == 2, "an older preview is not replaced"


def test_a_dry_run_reads_no_weight_and_plans(kinoform: Run, model: list[str], source: np.ndarray, unread: None) -> None:
    told = edited(kinoform, model, "--dry-run", "--json").told[0]
    assert told["outputs"] == ["kinoform_a-blue-cat-moves-left_7.mp4"] and told["plan"]
    assert not list(Path().glob("*.mp4"))


def test_a_video_of_odd_sides_goes_where_it_can(kinoform: Run, model: list[str], here: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 19, 23, 3), dtype=np.uint8)
    Video(frames=noise, fps=8.0).save(here / "odd.mkv")
    ran = kinoform("edit", "odd.mkv", *WORDS, *model)
    assert ran.code == 0 and read_video(Path(ran.out.strip()))[0].shape == noise.shape
    assert ran.out == "kinoform_a-blue-cat-moves-left_7.mkv\n"


def write_masks(here: Path) -> None:
    masks = {
        "empty": np.zeros(SIZE), "small": np.full((8, 8), 255), "grey": np.full(SIZE, 100),
        "painted": np.full(SIZE, 200), "full": np.full(SIZE, 255),
    }  # fmt: skip
    for name, values in masks.items():
        Image.fromarray(values.astype(np.uint8)).save(here / f"{name}.png")
    Video(frames=np.full((3, *SIZE, 3), 255, np.uint8), fps=12.0).save(here / "short_mask.mkv")
    Video(frames=np.full((1, *SIZE, 3), 90, np.uint8), fps=12.0).save(here / "short.mkv")
    Image.fromarray(np.full((8, 8, 4), 0, np.uint8)).save(here / "nothing.png")


REFUSED = [
    (["--mask", "empty.png"], "mask_empty", ["empty.png", "0 of 255"]),
    (["--mask", "grey.png"], "mask_empty", ["grey.png", "100"]),
    (["--mask", "small.png"], "mask_size_differs", ["small.png", "8x8", "32x24"]),
    (["--mask", "short_mask.mkv"], "mask_length_differs", ["short_mask.mkv", "3 frames", "7"]),
    (["--mask", "none.png"], "file_missing", ["none.png"]),
    (["--strength", "0"], "value_out_of_range", ["strength", "0"]),
    (["--strength", "1.5"], "value_out_of_range", ["strength", "1.5"]),
    (["--strength", "nan"], "value_out_of_range", ["strength", "nan"]),
    (["--grow", "-1"], "value_out_of_range", ["grow", "-1"]),
    (["--feather", "nan"], "value_out_of_range", ["feather", "nan"]),
    (["--overlap", "0"], "value_out_of_range", ["overlap", "0"]),
    (["--reference", "mask.png"], "input_not_taken", ["vace-14b"]),
    (["--context-scale", "2"], "input_not_taken", ["mini:vace"]),
    (["--frames", "4"], "frames_not_multiple", ["3 and 5"]),
    (["--size", "18x16"], "size_not_multiple", ["16 and 20"]),
    (["-o", "new.avi"], "unknown_format", ["'.avi'"]),
    (["-o", "video.mkv"], "file_exists", ["video.mkv"]),
    (["--hide-source"], "input_missing", ["show_source=False"]),
]


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("words", "code", "named"), REFUSED, ids=lambda value: value if isinstance(value, str) else " ".join(value)[:40]
)
def test_what_cannot_be_meant_is_refused(
    kinoform: Run, model: list[str], source: np.ndarray, here: Path, words: list[str], code: str, named: list[str]
) -> None:
    write_masks(here)
    before = sorted(here.iterdir())
    ran = kinoform("edit", "video.mkv", *WORDS, *model, *words)
    assert ran.refusal == code and all(name in ran.sentence for name in named), ran.sentence
    assert ran.out == "" and sorted(here.iterdir()) == before


@pytest.mark.usefixtures("unread")
def test_videos_that_cannot_be_edited_are_refused(
    kinoform: Run, model: list[str], source: np.ndarray, here: Path
) -> None:
    write_masks(here)
    for name, code in {"none.mp4": "file_missing", "short.mkv": "video_too_short"}.items():
        ran = kinoform("edit", name, *WORDS, *model)
        assert ran.refusal == code and name in ran.sentence, ran.sentence


def test_what_changes_nothing_or_everything_is_told(
    kinoform: Run, model: list[str], source: np.ndarray, here: Path
) -> None:
    write_masks(here)
    words = [*WORDS, *model, "--dry-run"]
    assert "changes nothing" in kinoform("edit", "video.mkv", *words, "--source-prompt", PROMPT).err
    assert "full.png is white everywhere" in kinoform("edit", "video.mkv", *words, "--mask", "full.png").err
    assert "painted.png is grey in 100%" in kinoform("edit", "video.mkv", *words, "--mask", "painted.png").err


def test_ctrl_c_leaves_nothing(kinoform: Run, folder: Path, source: np.ndarray, here: Path) -> None:
    before = sorted(here.iterdir())
    words = [
        "--model",
        folder,
        "--recipe",
        "tests.support.editing_recipes:interrupted",
        "--device",
        "cpu",
        "-o",
        "new.mp4",
    ]
    ran = kinoform("edit", "video.mkv", *WORDS, *words, "--strength", 1)  # or the steps would begin behind the signal
    assert ran.code == 130 and ran.out == "" and sorted(here.iterdir()) == before


def test_an_edited_video_says_how_to_make_it_again(kinoform: Run, model: list[str], source: np.ndarray) -> None:
    Path("parts").mkdir()
    Path("mask.png").rename("parts/mask.png")
    words = ["--mask", "parts/mask.png", *RIM, "--steps", 4, "--no-colour-match"]
    assert kinoform("edit", "video.mkv", *WORDS, *words, *model, "-o", "new.mkv").code == 0
    ran = kinoform("rerun", "new.mkv")
    assert ran.refusal == "video_was_edited" and "new.mkv" in ran.sentence
    command = shlex.split(ran.sentence.split("again: ")[1])
    assert "--recipe" not in command and "parts/mask.png" not in command
    Path("parts/mask.png").rename("mask.png")
    again = [str(model[1]) if word == Path(model[1]).name else word for word in command[1:]]
    assert kinoform(*again, "--recipe", "tests.support.tiny_recipe:tiny_of_videos", "-o", "again.mkv").code == 0
    assert np.array_equal(read_video(Path("new.mkv"))[0], read_video(Path("again.mkv"))[0])


@pytest.mark.parametrize(
    "command",
    [None, "edit", [], ["generate", "x"], ["edit", "x", "--recipe", "os:system"], ["edit", 7], ["edit"] * 500],
    ids=lambda value: str(value)[:30],
)
def test_a_strangers_command_is_not_shown(kinoform: Run, source: np.ndarray, here: Path, command: object) -> None:
    params: dict[str, object] = {"tool": "kinoform", "schema": 1, "edit": {"command": command}}
    Video(frames=source, fps=12.0, params=params).save(here / "strange.mkv")
    ran = kinoform("rerun", "strange.mkv")
    assert ran.refusal == "video_was_edited"
