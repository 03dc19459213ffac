"""`kinoform generate`: the videos are those of the Python interface, and everything about them is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.checkpoints.latents import SUFFIX, save_latents
from kinoform.media.metadata import read_params
from kinoform.media.video_writer import read_video
from tests.support.command_line import Run
from tests.support.tiny_recipe import tiny_pipeline

PROMPT = "a red ball moves left"


def frames_of(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])


def test_the_video_is_the_one_that_python_makes(kinoform: Run, model: list[str], folder: Path, here: Path) -> None:
    ran = kinoform("generate", PROMPT, *model, "--seed", 7, "-o", "video/", "--upscale", 1)
    assert ran.code == 0 and ran.out == "video/\n"
    video = tiny_pipeline(folder)(PROMPT, seed=7)
    assert np.array_equal(frames_of(here / "video"), video.frames)
    assert read_params(here / "video") == video.saved_params("video/", upscale=1)
    assert [file.name for file in here.iterdir()] == ["video"], "the latents are gone"


def test_a_video_that_nobody_named_is_named_after_prompt_and_seed(kinoform: Run, model: list[str], here: Path) -> None:
    ran = kinoform("generate", PROMPT, *model, "--seed", 7)
    assert ran.out == "kinoform_a-red-ball-moves-left_7.mp4\n"
    frames, fps = read_video(here / ran.out.strip())
    assert frames.shape == (3, 32, 32, 3) and fps == 8
    assert kinoform("generate", PROMPT, *model, "--seed", 7, "--frames", 1).out.strip().endswith("_7.png")


def test_json_is_one_object_a_video_and_nothing_else(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "prompts.txt").write_text("\ufeffa red ball\n\n  红色的球 \n", encoding="utf-8")
    words = ["--prompts", "prompts.txt", "--count", 2, "--seed", 5, "--json", "-o", "video.gif", "--contact-sheet"]
    ran = kinoform("generate", *model, *words)
    assert ran.code == 0 and len(ran.told) == 4
    assert [told["output"] for told in ran.told] == [f"video_{n}.gif" for n in range(1, 5)]
    assert [told["seed"] for told in ran.told] == [5, 6, 5, 6]
    assert [told["prompt"] for told in ran.told] == ["a red ball"] * 2 + ["红色的球"] * 2
    for told in ran.told:
        about = {key: value for key, value in told.items() if key not in ("output", "contact_sheet")}
        assert read_params(here / told["output"]) == about
        assert Image.open(here / told["contact_sheet"]).format == "PNG"


def test_each_video_of_a_batch_is_the_video_made_alone(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "prompts.txt").write_text("a red ball\na blue cat\n")
    assert kinoform("generate", *model, "--prompts", "prompts.txt", "--count", 2, "--seed", 5, "-o", "all/").code == 0
    cases = [("a red ball", 5), ("a red ball", 6), ("a blue cat", 5), ("a blue cat", 6)]
    for number, (prompt, seed) in enumerate(cases, start=1):
        assert kinoform("generate", prompt, *model, "--seed", seed, "-o", f"alone_{number}/").code == 0
        assert np.array_equal(frames_of(here / f"all_{number}"), frames_of(here / f"alone_{number}"))


def test_videos_of_one_prompt_and_seed_do_not_replace_each_other(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "prompts.txt").write_text("a red ball\na RED ball\n")
    ran = kinoform("generate", *model, "--prompts", "prompts.txt", "--seed", 5)
    assert len(set(ran.out.splitlines())) == 2 and all((here / name).is_file() for name in ran.out.splitlines())


def test_a_soft_break_does_not_end_a_prompt(kinoform: Run, model: list[str], here: Path) -> None:
    """A text file knows only three ends of a line; what word processors leave within one is white space."""
    soft, ends = "\u2028\u2029\x0b\x0c\x85\x1c\x1d\x1e", ["\n", "\r\n", "\r"]
    text = "".join(f"a red ball{mark}moves left{ends[n % 3]}" for n, mark in enumerate(soft))
    (here / "prompts.txt").write_bytes(text.encode())
    ran = kinoform("generate", *model, "--prompts", "prompts.txt", "--seed", 5, "--dry-run", "--json")
    assert ran.code == 0 and len(ran.told[0]["outputs"]) == len(soft), ran.err


def test_a_prompt_with_a_soft_break_makes_the_video_of_one_with_a_space(
    kinoform: Run, model: list[str], here: Path
) -> None:
    (here / "prompts.txt").write_text("a red ball\u2028moves left\n", encoding="utf-8")
    assert kinoform("generate", *model, "--prompts", "prompts.txt", "--seed", 5, "-o", "soft/").code == 0
    assert kinoform("generate", PROMPT, *model, "--seed", 5, "-o", "plain/").code == 0
    assert np.array_equal(frames_of(here / "soft"), frames_of(here / "plain"))


def test_a_drawn_seed_is_told_and_makes_the_video_again(kinoform: Run, model: list[str], here: Path) -> None:
    ran = kinoform("generate", PROMPT, *model, "-o", "first/")
    seed = next(line for line in ran.err.splitlines() if line.startswith("seed ")).removeprefix("seed ")
    kinoform("generate", PROMPT, *model, "-o", "again/", "--seed", seed)
    assert np.array_equal(frames_of(here / "first"), frames_of(here / "again"))
    assert "seed" not in kinoform("generate", PROMPT, *model, "-o", "x/", "--seed", seed).err


def test_the_same_command_writes_the_same_bytes(kinoform: Run, model: list[str], here: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        kinoform("generate", PROMPT, *model, "--seed", 7, "-o", name)
    assert (here / "one.mp4").read_bytes() == (here / "two.mp4").read_bytes()


def test_unknown_words_are_told_of(kinoform: Run, model: list[str]) -> None:
    ran = kinoform("generate", "a red zebra", *model, "--seed", 7, "-o", "x.gif")
    assert ran.code == 0 and "warning: words the model does not know: zebra" in ran.err


def test_info_prints_what_the_video_carries(kinoform: Run, model: list[str], here: Path) -> None:
    kinoform("generate", PROMPT, *model, "--seed", 7, "-o", "video.mp4")
    ran = kinoform("info", "video.mp4", "--json")
    assert ran.code == 0 and ran.told == [read_params(here / "video.mp4")]
    lines = dict(line.split(maxsplit=1) for line in kinoform("info", "video.mp4").out.splitlines())
    assert lines["prompt"] == PROMPT and lines["seed"] == "7" and lines["solver"] == "unipc"


def test_info_shows_the_parameters_of_strangers_without_obeying_them(kinoform: Run, here: Path) -> None:
    about = {"prompt": "\x1b[2Jgone\u202e\nseed 1", "half": "\ud800"}
    image = Image.new("RGB", (2, 2))
    image.save(here / "video.gif", comment=json.dumps(about).encode())
    ran = kinoform("info", "video.gif")
    assert ran.code == 0 and len(ran.out.splitlines()) == 2
    assert r"\x1b[2Jgone\u202e\nseed 1" in ran.out and r"\ud800" in ran.out
    assert kinoform("info", "video.gif", "--json").told == [about]


def test_info_of_a_video_without_parameters_is_refused(kinoform: Run, model: list[str]) -> None:
    kinoform("generate", PROMPT, *model, "--seed", 7, "-o", "video.mp4", "--no-metadata")
    for name, code in [("video.mp4", "metadata_missing"), ("none.mp4", "file_missing"), ("a.avi", "file_missing")]:
        ran = kinoform("info", name)
        assert ran.refusal == code and name in ran.sentence and ran.out == ""


def test_a_recipe_is_found_in_the_current_folder(kinoform: Run, folder: Path, here: Path) -> None:
    (here / "my_idea.py").write_text(
        "from dataclasses import replace\nfrom tests.support.tiny_recipe import tiny\n"
        "def video(): return replace(tiny(), name='mine', num_frames=5)\n"
    )
    ran = kinoform("generate", PROMPT, "--model", folder, "--recipe", "my_idea:video", "--seed", 7, "--json")
    assert ran.told[0]["model"]["name"] == "mine" and ran.told[0]["num_frames"] == 5


@pytest.mark.parametrize("size", ["24x12", "24*12", "24×12", " 24X12 "])
def test_sizes_are_read_in_every_spelling(kinoform: Run, model: list[str], size: str) -> None:
    ran = kinoform("generate", PROMPT, *model, "--seed", 7, "--size", size, "--json", "-o", "x/")
    assert (ran.told[0]["width"], ran.told[0]["height"]) == (24, 12)


@pytest.mark.parametrize(("seconds", "frames"), [(0.01, 1), (0.4, 3), (0.6, 5), (1, 9)])
def test_seconds_become_the_nearest_legal_number_of_frames(kinoform: Run, model: list[str], seconds, frames) -> None:
    ran = kinoform("generate", PROMPT, *model, "--seed", 7, "--seconds", seconds, "--steps", 1, "--json", "-o", "x/")
    assert ran.told[0]["num_frames"] == frames


NAMED = "kinoform_a-red-ball-moves-left_7.mp4"


@pytest.mark.parametrize("output", ["videos/", "videos", ".", "videos/../videos"])
@pytest.mark.parametrize("holds", [[], ["diary.txt"], ["frame_00000.png", "diary.txt"]], ids=len)
def test_a_folder_that_is_there_gets_a_video_of_its_own_name(
    kinoform: Run, model: list[str], here: Path, output: str, holds: list[str]
) -> None:
    (here / "videos").mkdir()
    for name in holds:
        (here / "videos" / name).write_text("mine")
    ran = kinoform("generate", PROMPT, *model, "--seed", 7, "--steps", 1, "-o", output)
    place = here / output
    assert ran.code == 0 and Path(ran.out.strip()) == Path(output, NAMED) and (place / NAMED).is_file()
    assert sorted(path.name for path in (here / "videos").iterdir()) == sorted(
        holds if output == "." else [*holds, NAMED]
    )


def test_several_videos_go_into_a_folder_that_is_there(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "videos").mkdir()
    ran = kinoform("generate", PROMPT, *model, "--seed", 7, "--count", 2, "--steps", 1, "-o", "videos/")
    assert ran.out.split() == [f"videos/{NAMED}", f"videos/{NAMED.replace('7', '8')}"]


def test_a_folder_of_frames_is_a_video_itself(kinoform: Run, model: list[str], here: Path) -> None:
    words = ["generate", PROMPT, *model, "--seed", 7, "--steps", 1, "-o", "frames/"]
    assert kinoform(*words).code == 0
    assert kinoform(*words).refusal == "file_exists"
    assert kinoform(*words, "--force").out == "frames/\n" and frames_of(here / "frames").shape == (3, 32, 32, 3)


def test_what_makes_a_video_again_goes_into_a_folder_that_is_there(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "videos").mkdir()
    for name in ("video.gif", "frames/"):
        assert kinoform("generate", PROMPT, *model, "--seed", 7, "--steps", 1, "-o", name).code == 0
        ran = kinoform("rerun", name, *model, "-o", "videos")
        again = name.replace(".", "_again.").replace("s/", "s_again/")
        assert ran.out == f"videos/{again}\n" and (here / "videos" / again).exists()
    latents, tiny = here / f"video.gif{SUFFIX}", tiny_pipeline(Path(model[1]))
    request = tiny.request(PROMPT, seed=7)
    save_latents(latents, next(tiny.latents([request], lambda now: None)), tiny.params(request))
    assert kinoform("decode", latents.name, *model, "-o", "videos").out == "videos/video.gif\n"


def test_a_folder_that_is_missing_is_named_and_can_be_made(kinoform: Run, model: list[str], here: Path) -> None:
    words = ["generate", PROMPT, *model, "--seed", 7, "--steps", 1, "-o", "new/videos/a.gif"]
    ran = kinoform(*words)
    assert ran.refusal == "folder_missing" and "new/videos" in ran.sentence
    (here / "new" / "videos").mkdir(parents=True)
    assert kinoform(*words).code == 0
