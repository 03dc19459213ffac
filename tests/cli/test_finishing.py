"""A finished denoise is never lost: whatever stops the video then, `kinoform decode` makes it from the latents."""

import json
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kinoform import owners
from kinoform.checkpoints.latents import SUFFIX, read_latents, save_latents
from kinoform.cli.latents import video_name
from kinoform.errors import KinoformError
from kinoform.media.metadata import read_params
from kinoform.media.video_writer import read_video
from tests.support import troubled_recipes
from tests.support.command_line import Ran, Run
from tests.support.full_disk import full_disk

PROMPT = "a red ball"
VIDEO = ["--seed", "7", "--dtype", "bfloat16", "--upscale", "8", "-o", "video.mp4"]
LATENTS = "video.mp4" + SUFFIX
"""Names as older versions gave them; now each run has a name of its own."""


def kept_of(here: Path) -> Path:
    return next(file for file in here.iterdir() if video_name(file) is not None)


def names_in(here: Path) -> list[str]:
    """Names of all that lies here; latents without the tag of their run."""
    videos = {file: video_name(file) for file in here.iterdir()}
    return sorted(file.name if video is None else Path(video).name + SUFFIX for file, video in videos.items())


def advised(ran: Ran) -> list[str]:
    """The words after `kinoform` in the command that the run advised."""
    line = next(line for line in ran.err.splitlines() if "finish with: kinoform " in line)
    return shlex.split(line.split("finish with: kinoform ")[1])


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """What the two fixtures below have made once."""
    return {}


@pytest.fixture
def whole(kinoform: Run, model: list[str], here: Path, made: dict[str, bytes]) -> bytes:
    """The video as it should be; nothing of it is left in the folder."""
    if "video" not in made:
        assert kinoform("generate", PROMPT, *model, *VIDEO).code == 0
        made["video"] = (here / "video.mp4").read_bytes()
        (here / "video.mp4").unlink()
    return made["video"]


@pytest.fixture
def kept(
    kinoform: Run, model: list[str], here: Path, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Path:  # fmt: skip
    """Latents of an interrupted run."""
    if "latents" not in made:
        with monkeypatch.context() as patch:
            patch.setattr("kinoform.pipelines.pipeline.decode", interrupted)
            kinoform("generate", PROMPT, *model, *VIDEO)
        made["latents"] = kept_of(here).read_bytes()
        kept_of(here).unlink()
    (here / LATENTS).write_bytes(made["latents"])
    return here / LATENTS


def test_a_full_disk_keeps_the_latents_and_what_was_there(kinoform: Run, model: list[str], here: Path, whole: bytes):
    (here / "video.mp4").write_bytes(b"the video before")
    with full_disk(len(whole) - 1000):
        ran = kinoform("generate", PROMPT, *model, *VIDEO, "--force")
    assert ran.refusal == "disk_full" and "video.mp4" in ran.sentence and ran.out == ""
    assert (here / "video.mp4").read_bytes() == b"the video before"
    assert names_in(here) == ["video.mp4", LATENTS]
    assert kinoform(*advised(ran)).code == 0
    assert (here / "video.mp4").read_bytes() == whole, "the same video, byte for byte"
    assert [file.name for file in here.iterdir()] == ["video.mp4"]


def test_latents_that_do_not_fit_beside_the_video_are_kept_elsewhere(
    kinoform: Run, model: list[str], here: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spare))

    def save(path: Path, latents: torch.Tensor, params: dict) -> None:
        if path.parent.resolve() == here.resolve():
            raise KinoformError("no room")
        save_latents(path, latents, params)

    with monkeypatch.context() as patch:
        patch.setattr("kinoform.cli.latents.save_latents", save)
        assert kinoform("generate", PROMPT, *model, *VIDEO).code == 0
        assert (here / "video.mp4").read_bytes() == whole and not list(spare.iterdir())
        (here / "video.mp4").unlink()
        patch.setattr("kinoform.cli.output.save_contact_sheet", interrupted)
        ran = kinoform("generate", PROMPT, *model, *VIDEO, "--contact-sheet")
    assert ran.code == 130 and len(list(spare.iterdir())) == 1
    assert kinoform(*advised(ran)).code == 0
    assert sorted(file.name for file in here.iterdir()) == ["video.mp4", "video_sheet.png"]


def test_a_disk_with_no_room_for_anything_says_so(kinoform: Run, model: list[str], here: Path) -> None:
    with full_disk(100):
        ran = kinoform("generate", PROMPT, *model, *VIDEO)
    assert ran.code == 1 and "latents could not be kept" in ran.err and "finish with" not in ran.err
    assert not list(here.iterdir())


def interrupted(*words: object, **options: object) -> None:
    raise KeyboardInterrupt


PLACES = ["kinoform.pipelines.pipeline.decode", "kinoform.media.video.Video.save", "kinoform.cli.output.save"]


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_after_the_denoise_keeps_the_latents(
    kinoform: Run, model: list[str], here: Path, whole: bytes, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(place, interrupted)
        ran = kinoform("generate", PROMPT, *model, *VIDEO)
    assert ran.code == 130 and ran.refusal == "interrupted"
    assert names_in(here) == [LATENTS]
    assert kinoform(*advised(ran)).code == 0
    assert (here / "video.mp4").read_bytes() == whole


@pytest.mark.parametrize("recipe", ["ctrl_c", "terminated", "hung_up", "hung_up_twice"])
def test_a_signal_while_denoising_ends_within_the_step_and_leaves_nothing(
    kinoform: Run, folder: Path, here: Path, recipe: str
) -> None:
    troubled_recipes.begun.clear()
    words = [
        "--model",
        folder,
        "--recipe",
        f"tests.support.troubled_recipes:{recipe}",
        "--device",
        "cpu",
        "-o",
        "video.mp4",
    ]
    ran = kinoform("generate", PROMPT, *words)
    assert ran.code == 130 and ran.refusal == "interrupted"
    assert troubled_recipes.begun == list(range(troubled_recipes.TROUBLED_STEP + 1))
    assert ran.out == "" and not list(here.iterdir())


def test_the_videos_before_an_interruption_are_told(
    kinoform: Run, model: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kinoform.cli.output import save

    def second(video: Any, name: str, how: Any) -> Any:
        return interrupted() if name == "video_2.gif" else save(video, name, how)

    monkeypatch.setattr("kinoform.cli.output.save", second)
    ran = kinoform("generate", PROMPT, *model, "--seed", "7", "--count", "3", "-o", "video.gif", "--json")
    assert ran.code == 130 and [told["output"] for told in ran.told] == ["video_1.gif"]
    assert names_in(here) == ["video_1.gif", "video_2.gif" + SUFFIX]


def test_what_was_asked_for_is_advised_again(
    kinoform: Run, model: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("kinoform.pipelines.pipeline.decode", interrupted)
        ran = kinoform(
            "generate", PROMPT, *model, "--seed", "7", "-o", "my video.mp4", "--no-metadata", "--contact-sheet"
        )
    assert kinoform(*advised(ran)).code == 0
    assert sorted(file.name for file in here.iterdir()) == ["my video.mp4", "my video_sheet.png"]
    assert kinoform("info", "my video.mp4").code == 2


def test_every_option_of_decode_changes_what_it_says(kinoform: Run, model: list[str], kept: Path, here: Path) -> None:
    content = kept.read_bytes()

    def made(*words: str) -> Ran:
        kept.write_bytes(content)
        (here / "video.mp4").unlink(missing_ok=True)
        return kinoform("decode", kept.name, *model, *words)

    assert made().out == "video.mp4\n" and not kept.exists()
    assert read_video(here / "video.mp4")[0].shape == (3, 128, 128, 3)
    made("--upscale", "2")
    assert read_video(here / "video.mp4")[0].shape == (3, 32, 32, 3)
    assert made("-o", "other.mp4").out == "other.mp4\n" and kept.exists()
    made("--contact-sheet")
    assert (here / "video_sheet.png").is_file()
    made("--no-metadata")
    assert kinoform("info", "video.mp4").code == 2
    told = made("--json").told[0]
    assert told == {"output": "video.mp4", "contact_sheet": None, **read_params(here / "video.mp4")}
    kept.write_bytes(content)
    assert kinoform("decode", kept.name, *model).code == 2, "the video exists"
    assert kinoform("decode", kept.name, *model, "--force").code == 0
    kept.write_bytes(content)
    absent = "mps" if torch.cuda.is_available() else "cuda"
    assert kinoform("decode", kept.name, *model, "--force", "--device", absent).code == 2


def test_latents_of_another_model_are_not_drawn(kinoform: Run, kept: Path, other_folder: Path) -> None:
    ran = kinoform("decode", kept.name, "--model", other_folder, "--recipe", "tests.support.tiny_recipe:tiny")
    assert ran.refusal == "latents_of_other_model" and "--model" in ran.sentence
    ran = kinoform("decode", kept.name)
    assert ran.refusal == "unknown_model" and "'tiny'" in ran.sentence, "the file's name for it is not a folder here"


DAMAGES = [
    ({"fps": "fast"}, "latents_inconsistent", "'fast'"),
    ({"fps": -1}, "latents_inconsistent", "-1"),
    ({"num_frames": 5}, "latents_inconsistent", "[1, 4, 2, 8, 8]"),
    ({"width": None}, "latents_inconsistent", "[1, 4, 2, 8, 8]"),
    ({"upscale": 10**9}, "value_out_of_range", "--upscale"),
    ({"model": "tiny"}, "latents_of_other_model", "None"),
    ({"model": None}, "latents_of_other_model", "None"),
]


@pytest.mark.parametrize(("change", "code", "named"), DAMAGES, ids=lambda value: str(value)[:30])
def test_parameters_that_were_tampered_with_are_refused(kinoform: Run, model, kept: Path, change, code, named) -> None:
    latents, params = read_latents(kept)
    save_latents(kept, latents, params | change)
    ran = kinoform("decode", kept.name, *model)
    assert ran.refusal == code and named in ran.sentence, ran.sentence


def test_files_that_are_no_latents_are_refused(kinoform: Run, model: list[str], kept: Path, here: Path) -> None:
    latents, params = read_latents(kept)
    about = {"params": json.dumps(params)}

    def refusal(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str | None:
        save_file(tensors, kept, metadata)
        return kinoform("decode", kept.name, *model).refusal

    assert refusal({"latents": torch.full_like(latents, torch.nan)}, about) == "latents_damaged"
    assert refusal({"latents": latents[0]}, about) == "latents_damaged"
    assert refusal({"latents": latents.repeat(2, 1, 1, 1, 1)}, about) == "latents_damaged"
    assert refusal({"latents": latents[:, :, :0]}, about) == "latents_damaged"
    assert refusal({"latents": latents.long()}, about) == "latents_damaged"
    assert refusal({"other": latents}, about) == "latents_damaged"
    assert refusal({"latents": latents}, {}) == "latents_damaged"
    assert refusal({"latents": latents}, {"params": "[1]"}) == "latents_damaged"
    assert refusal({"latents": latents}, {"params": "[" * 100_000}) == "latents_damaged"
    assert refusal({"latents": latents[:, :3].contiguous()}, about) == "latents_inconsistent"
    (here / SUFFIX).write_bytes(b"")
    for name in ("none" + SUFFIX, SUFFIX, "."):
        assert kinoform("decode", name, *model).code == 2


def test_kept_latents_are_exact(kept: Path) -> None:
    with safe_open(kept, framework="pt") as file:
        stored = file.get_tensor("latents")
    latents, params = read_latents(kept)
    assert stored.dtype == torch.float32 and torch.equal(stored, latents)
    assert params["prompt"] == PROMPT and params["upscale"] == 8
    assert np.isfinite(latents.numpy()).all()


def test_of_two_runs_with_one_name_the_second_finishes_beside_the_first(
    kinoform: Run, model: list[str], here: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has latents of its own, and the advice to the second does not cost the first its video."""
    from kinoform.cli.output import save

    def after_the_other(*words: Any) -> dict[str, object]:
        assert names_in(here) == [LATENTS]
        (here / "video.mp4").write_bytes(b"made by the other")
        return save(*words)

    with monkeypatch.context() as patch:
        patch.setattr("kinoform.cli.output.save", after_the_other)
        ran = kinoform("generate", PROMPT, *model, *VIDEO)
    assert ran.refusal == "file_exists"
    assert kinoform(*advised(ran)).code == 0
    assert (here / "video.mp4").read_bytes() == b"made by the other" and (here / "video_2.mp4").read_bytes() == whole
    assert names_in(here) == ["video.mp4", LATENTS, "video_2.mp4"]


def test_latents_of_a_run_at_work_are_left_to_it(kinoform: Run, model: list[str], kept: Path, here: Path) -> None:
    words = ["generate", PROMPT, *model, *VIDEO]
    assert kinoform(*words).refusal == "latents_waiting"
    own = owners.new_tag()
    living = here / f"video.mp4.{own.replace(str(os.getpid()), str(os.getppid()))}{SUFFIX}"
    kept.rename(living)
    assert kinoform(*words).refusal == "output_in_use"
    former = here / f"video.mp4.{own}{SUFFIX}"
    former.write_bytes(b"of an earlier run of this process")
    assert kinoform(*words, "--force").code == 0
    assert living.exists() and not former.exists()
