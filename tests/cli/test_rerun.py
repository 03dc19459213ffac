"""`kinoform rerun`: a video makes itself again, frame by frame, and what a stranger wrote into one is not followed."""

import getpass
import json
import platform
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kinoform.checkpoints.hashes import file_hash
from kinoform.media.metadata import read_params
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video
from kinoform.pipelines.recorded import RecordedFile, find_inputs
from tests.support.command_line import Run
from tests.support.refusals import refused

PROMPT = "a red ball moves left"
MINI = ["a red ball bounces on a blue background", "--model", "mini", "--device", "cpu", "--steps", 2, "--frames", 5]


def frames_of(path: Path) -> np.ndarray:
    if path.is_dir():
        return np.stack([np.asarray(Image.open(file)) for file in sorted(path.iterdir())])
    if path.suffix in (".gif", ".webp"):
        with Image.open(path) as image:
            return np.stack([_still(image, place) for place in range(getattr(image, "n_frames", 1))])
    return read_video(path)[0]


def _still(image: Image.Image, place: int) -> np.ndarray:
    image.seek(place)
    return np.asarray(image.convert("RGB"))


KINDS = {
    "video.mp4": [],
    "best.mp4": ["--crf", 3, "--codec", "av1", "--upscale", 3],
    "video.webm": ["--codec", "av1", "--guidance-scale", 3.5, "--shift", 2],
    "video.mkv": ["--solver", "dpm++", "--dtype", "bfloat16"],
    "video.webp": ["--negative", "blur"],
    "video.gif": ["--fps", 11],
    "frames/": ["--size", "48x32", "--solver", "euler", "--upscale", 1],
}


@pytest.mark.parametrize(("name", "options"), KINDS.items(), ids=KINDS)
def test_a_video_of_the_embedded_model_makes_itself_again(kinoform: Run, here: Path, name: str, options: list) -> None:
    assert kinoform("generate", *MINI, *options, "-o", name).code == 0
    ran = kinoform("rerun", name, "-o", f"again_{name}", "--json")
    assert ran.code == 0, ran.err
    assert "note:" not in ran.err and ran.told[0]["output"] == f"again_{name}"
    first, second = here / name, here / f"again_{name}"
    assert np.array_equal(frames_of(first), frames_of(second))
    assert read_params(first) == read_params(second)


def test_a_video_in_another_format_holds_the_same_frames(kinoform: Run, here: Path) -> None:
    kinoform("generate", *MINI, "-o", "video.mp4", "--crf", 40)
    assert kinoform("rerun", "video.mp4", "-o", "video.mkv").code == 0
    assert kinoform("rerun", "video.mkv", "-o", "frames/").code == 0
    assert np.array_equal(frames_of(here / "video.mkv"), frames_of(here / "frames"))
    assert read_params(here / "video.mkv")["encoding"] == {"upscale": 4, "codec": "ffv1"}
    assert not np.array_equal(frames_of(here / "video.mkv"), frames_of(here / "video.mp4"))


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """What the fixture below has made once."""
    return {}


@pytest.fixture
def video(kinoform: Run, here: Path, model: list[str], made: dict[str, bytes]) -> Path:
    if not made:
        assert kinoform("generate", PROMPT, *model, "--seed", 7, "-o", "video.mkv").code == 0
        made["video"] = (here / "video.mkv").read_bytes()
    (here / "video.mkv").write_bytes(made["video"])
    return here / "video.mkv"


@pytest.fixture
def own(model: list[str]) -> list[str]:
    """The tiny model has no name that a video may choose."""
    return [word for word in model if word not in ("--device", "cpu")]


def changed(video: Path, **changes: Any) -> Path:
    """The same video with other parameters; None takes one out."""
    params = {name: value for name, value in (read_params(video) | changes).items() if value is not None}
    return rewritten(video, params)


def rewritten(video: Path, params: dict[str, Any]) -> Path:
    target = video.with_name("changed.png")
    still = Image.fromarray(frames_of(video)[0])
    about = PngInfo()
    about.add_text("parameters_json", json.dumps(params))
    still.save(target, pnginfo=about)
    return target


def with_comment(video: Path, params: dict[str, Any]) -> Path:
    """A copy as another program makes it, with all parameters in the comment."""
    target = video.with_name("copied.mkv")
    with av.open(str(video)) as source, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        copy.metadata["comment"] = json.dumps(params)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return target


def test_unnamed_reruns_stand_beside_each_other(kinoform: Run, video: Path, own: list[str], here: Path) -> None:
    ran = kinoform("rerun", video, *own)
    assert ran.out == "video_again.mkv\n" and (here / "video_again.mkv").read_bytes() == video.read_bytes()
    ran = kinoform("rerun", video, *own)
    assert ran.refusal == "file_exists" and "video_again.mkv" in ran.sentence
    assert kinoform("rerun", video, *own, "--force", "--no-metadata", "--contact-sheet").code == 0
    assert (here / "video_again_sheet.png").is_file()
    with refused("metadata_missing"):
        read_params(here / "video_again.mkv")


def test_a_video_names_no_folder_and_no_user(video: Path, folder: Path) -> None:
    secrets = {str(folder), str(video.parent), str(Path.home()), getpass.getuser(), platform.node()} - {"root", "/root"}
    text = json.dumps(read_params(video))
    assert not [secret for secret in secrets if secret in text]


def test_solvers_with_options_and_of_idea_files_are_found_again(kinoform: Run, here: Path, folder: Path) -> None:
    (here / "third_order.py").write_text(
        "from dataclasses import replace\nfrom tests.support.tiny_recipe import tiny\n"
        "from kinoform.solvers.unipc import UniPC\n"
        "def third(): return replace(tiny(), solver=UniPC(order=3), steps=6)\n"
    )
    kinoform("generate", PROMPT, "--model", folder, "--recipe", "third_order:third", "--seed", 7, "-o", "video.mkv")
    assert read_params(here / "video.mkv")["solver"] == "unipc(order=3)"
    for recipe in ("third_order:third", "tests.support.tiny_recipe:tiny"):
        ran = kinoform("rerun", "video.mkv", "--model", folder, "--recipe", recipe, "-o", "again.mkv", "--force")
        assert ran.code == 0, ran.err
        assert np.array_equal(frames_of(here / "video.mkv"), frames_of(here / "again.mkv"))


def hash_of(video: Path) -> str:
    params: dict[str, Any] = read_params(video)
    return params["model"]["hash"]


def test_the_model_must_be_the_one_of_the_video(kinoform: Run, video: Path, other_folder: Path, here: Path) -> None:
    words = ["rerun", video, "--model", other_folder, "--recipe", "tests.support.tiny_recipe:tiny", "-o", "again.mkv"]
    made = hash_of(video)
    ran = kinoform(*words)
    assert ran.refusal == "weights_wrong_model" and made in ran.sentence and "--force-model" in ran.sentence
    found = ran.sentence.split("one has '")[1][:16]
    assert found != made and not (here / "again.mkv").exists()
    ran = kinoform(*words, "--force-model")
    assert ran.code == 0 and "the video will be another one" in ran.err
    assert hash_of(here / "again.mkv") == found
    assert not np.array_equal(frames_of(video), frames_of(here / "again.mkv"))


NOTES = [
    ({"version": "0.0.1"}, "made by kinoform 0.0.1"),
    ({"machine": {"threads": 64}}, "made with threads 64, this is 1"),
    ({"machine": {"torch": "1.13"}}, "made with PyTorch 1.13"),
]


@pytest.mark.parametrize(("change", "sentence"), NOTES, ids=str)
def test_what_may_differ_is_told(kinoform: Run, video: Path, own: list[str], change: dict, sentence: str) -> None:
    ran = kinoform("rerun", changed(video, **change), *own, "-o", "again.mkv")
    assert ran.code == 0 and f"note: the video was {sentence}" in ran.err


def test_a_video_that_another_program_has_encoded_takes_the_usual_codec(
    kinoform: Run, video: Path, own: list[str]
) -> None:
    for encoding in ({"codec": "h265"}, {"codec": "ffv1", "crf": 3}, {"crf": 99}):
        params = {**read_params(video), "encoding": {"upscale": 2, **encoding}}
        frames, rate = read_video(video)
        Video(frames=frames, fps=rate, params=params).save(video.with_name("mute.mkv"), metadata=False, force=True)
        ran = kinoform("rerun", with_comment(video.with_name("mute.mkv"), params), *own, "-o", "again.mkv", "--force")
        assert ran.code == 0 and "codec of .mkv by default" in ran.err
        assert read_params(video.with_name("again.mkv"))["encoding"] == {"upscale": 2, "codec": "ffv1"}


def test_a_video_that_does_not_tell_its_machine_is_made_here(kinoform: Run, video: Path, own: list[str]) -> None:
    ran = kinoform("rerun", changed(video, machine=None, encoding=None), *own, "-o", "again.mkv")
    assert ran.code == 0 and "note:" not in ran.err


HUGE = int("9" * 4000)
HOSTILE = [
    ({"schema": 2}, "metadata_unsupported", "schema 2"),
    ({"schema": True}, "metadata_unsupported", "schema True"),
    ({"schema": "1"}, "metadata_unsupported", "'1'"),
    ({"tool": "other"}, "metadata_of_other_tool", "'other'"),
    ({"tool": None}, "metadata_of_other_tool", "None"),
    ({"task": "i2v"}, "task_differs", '"i2v"'),
    ({"prompt": None, "steps": None}, "metadata_incomplete", "prompt, steps"),
    ({"masks": []}, "metadata_unsupported", "'masks'"),
    ({"loras": []}, "metadata_damaged", "loras"),
    ({"loras": {"lora:0": 1.0}}, "metadata_unsupported", "'loras.lora:0'"),
    ({"inputs": {"lora:0": {"file": "a", "sha256": "0" * 64}}, "loras": {"lora:0": {}}}, "metadata_damaged", "lora:0"),
    ({"boundaries": [0.5]}, "boundary_invalid", "leave them out"),
    ({"prompt": ["a"]}, "metadata_damaged", "prompt"),
    ({"prompt": " "}, "prompt_missing", "prompt"),
    ({"prompt": "a\x07"}, "character_not_allowed", "U+0007"),
    ({"prompt": "x" * 20_001}, "too_long", "20001"),
    ({"negative_prompt": 7}, "metadata_damaged", "negative_prompt"),
    ({"seed": "7"}, "metadata_damaged", "seed"),
    ({"seed": 7.0}, "metadata_damaged", "seed"),
    ({"seed": True}, "metadata_damaged", "seed"),
    ({"seed": -1}, "value_out_of_range", "seed"),
    ({"seed": HUGE}, "metadata_damaged", "seed"),
    ({"width": HUGE}, "metadata_damaged", "width"),
    ({"width": 17}, "size_not_multiple", "16 and 20"),
    ({"num_frames": 10**6}, "value_out_of_range", "num_frames"),
    ({"num_frames": 4}, "frames_not_multiple", "3 and 5"),
    ({"fps": HUGE}, "metadata_damaged", "fps"),
    ({"fps": 0}, "value_out_of_range", "fps"),
    ({"fps": True}, "metadata_damaged", "fps"),
    ({"guidance_scale": "4"}, "metadata_damaged", "guidance_scale"),
    ({"guidance_scale": [4, 3]}, "metadata_damaged", "guidance_scale"),
    ({"guidance_scale": {"high": "4"}}, "metadata_damaged", "guidance_scale"),
    ({"guidance_scale": {"a:/b": 4}}, "metadata_damaged", "names no transformer"),
    ({"guidance_scale": {"high": 4, "low": 3}}, "one_transformer", "guidance_scale"),
    ({"guidance_scale": -1}, "value_out_of_range", "guidance_scale"),
    ({"shift": {}}, "metadata_damaged", "shift"),
    ({"steps": 10**9}, "value_out_of_range", "steps"),
    ({"solver": "unipcc"}, "unknown_solver", "'unipc'"),
    ({"solver": "unipc(order=open('x'))"}, "bad_value", "unipc"),
    ({"dtype": "float23"}, "unknown_dtype", "'float23'"),
    ({"dtype": 32}, "metadata_damaged", "dtype"),
    ({"model": "tiny"}, "metadata_damaged", "model"),
    ({"model": {"name": "tiny"}}, "metadata_incomplete", "model.hash"),
    ({"model": {"name": "tiny", "hash": 7}}, "metadata_damaged", "model.hash"),
    ({"machine": {"device": "cdua"}}, "unknown_device", "'cdua'"),
    ({"machine": {"device": None}}, "metadata_damaged", "machine.device"),
    ({"machine": {"user": "me"}}, "metadata_unsupported", "'machine.user'"),
    ({"encoding": []}, "metadata_damaged", "encoding"),
    ({"encoding": {"upscale": 65}}, "value_out_of_range", "upscale"),
    ({"encoding": {"upscale": 0}}, "value_out_of_range", "upscale"),
    ({"encoding": {"crf": 18.5}}, "metadata_damaged", "encoding.crf"),
    ({"inputs": {"image": "a.png"}}, "metadata_damaged", "'image'"),
    ({"inputs": {"image": {"file": "a.png"}}}, "metadata_incomplete", "input.sha256"),
    ({"inputs": {"image": {"file": "../a.png", "sha256": "0" * 64}}}, "metadata_damaged", "'../a.png'"),
    ({"inputs": {"image": {"file": "a" * 256, "sha256": "0" * 64}}}, "metadata_damaged", "aaaa"),
    ({"inputs": {"image": {"file": "a.png", "sha256": "0"}}}, "metadata_damaged", "SHA-256 '0'"),
    ({"inputs": {"image": {"file": "a.png", "sha256": "0" * 64}}}, "file_missing", "'a.png'"),
]


@pytest.mark.parametrize(("change", "code", "named"), HOSTILE, ids=lambda value: str(value)[:40].replace("/", "_"))
def test_parameters_of_strangers_are_refused_by_name(
    kinoform: Run,
    video: Path,
    own: list[str],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict,
    code: str,
    named: str,
) -> None:
    source = changed(video, **change)
    before = sorted(here.iterdir())
    monkeypatch.setattr(
        "kinoform.loading.parts.load_module", lambda *words, **options: pytest.fail("weights were read")
    )
    ran = kinoform("rerun", source, *own, "-o", "again.mkv")
    assert ran.refusal == code and named in ran.sentence, ran.err
    assert "changed.png" in ran.sentence and len(ran.sentence) < 400
    assert sorted(here.iterdir()) == before


def test_a_video_does_not_choose_a_folder(kinoform: Run, video: Path, folder: Path, here: Path) -> None:
    about = {"hash": hash_of(video)}
    (here / "near").symlink_to(folder)
    for name in (str(folder), "near", ".", "org/model", "\x1b[2J"):
        ran = kinoform("rerun", changed(video, model=about | {"name": name}), "-o", "again.mkv")
        assert ran.refusal == "model_not_trusted" and "--model" in ran.sentence


def test_a_video_without_a_seed_is_lost(kinoform: Run, video: Path, own: list[str]) -> None:
    ran = kinoform("rerun", rewritten(video, read_params(video) | {"seed": None}), *own)
    assert ran.refusal == "seed_missing"


def test_a_model_that_cannot_be_read_is_refused_as_weights(kinoform: Run, video: Path, here: Path) -> None:
    (here / "empty").mkdir()
    assert kinoform("rerun", video, "--model", "empty", "--recipe", "tests.support.tiny_recipe:tiny").code == 3


def test_inputs_are_those_that_were(tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for place, content in ((near, "one"), (far, "two")):
        place.mkdir()
        (place / "a.png").write_text(content)
    given = {"image": RecordedFile(file="a.png", sha256=file_hash(near / "a.png"))}
    assert find_inputs(given, (near, far), Path("video.mp4")) == {"image": near / "a.png"}
    with refused("file_changed", "far/a.png", "video.mp4"):
        find_inputs(given, (far, near), Path("video.mp4"))
    (near / "a.png").unlink()
    with refused("file_missing", "'a.png'"):
        find_inputs(given, (near,), Path("video.mp4"))


def test_what_is_no_video_of_kinoform_is_refused(kinoform: Run, here: Path) -> None:
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    Video(frames=frames, fps=16.0, params={"prompt": "a cat"}).save(here / "a.png")
    Video(frames=frames, fps=16.0).save(here / "b.png", metadata=False)
    for name, code in [("a.png", "metadata_incomplete"), ("b.png", "metadata_missing"), ("c.png", "file_missing")]:
        ran = kinoform("rerun", name)
        assert ran.refusal == code and name in ran.sentence


def test_another_dtype_may_be_asked_for_and_is_told(kinoform: Run, video: Path, own: list[str]) -> None:
    ran = kinoform("rerun", video.name, *own, "--dtype", "bfloat16", "-o", "other.mkv")
    assert ran.code == 0 and "float32" in ran.err and "bfloat16" in ran.err
    assert read_params(Path("other.mkv"))["dtype"] == "bfloat16"
    refusal = kinoform("rerun", video.name, *own, "--dtype", "float23", "-o", "third.mkv")
    assert refusal.code == 2
