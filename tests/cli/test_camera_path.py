"""An input from outside the package: declared in one file, it reaches every place where inputs do."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.conditions.input_kinds import FlagKind, NumberKind
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.loading.additions import with_additions
from kinoform.media.metadata import read_params
from kinoform.media.video_writer import read_video
from kinoform.models.dit import DiT
from kinoform.pipelines.pipeline import Pipeline
from tests.support.command_line import Run
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, tiny_pipeline, write_tiny_folder

IDEAS = Path(__file__).parents[2] / "examples" / "ideas"
PROMPT = "a red ball moves left"
PATH = "0 0 0  # still\n0.5 0 0\n1 -1 0.25\n"
WORDS = ["generate", PROMPT, "--recipe", "camera_path:recipe", "--seed", "3", "--steps", "1", "--size", "32x32",
         "--frames", "5"]  # fmt: skip


@pytest.fixture
def idea(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(IDEAS))
    return importlib.import_module("camera_path")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def pipe(idea: ModuleType, folder: Path) -> Pipeline:
    """The tiny model, trained, so that the path shows."""
    made, base = idea.put_onto(tiny()), tiny_pipeline(folder)
    parts = with_additions(base.parts, made.additions, made.transformers)

    def trained(dtype: torch.dtype, device: torch.device) -> DiT:
        model = parts.transformers[0](dtype, device)
        with torch.no_grad():
            model.patch_embedding.weight[:, made.transformers[0].in_channels :] = 1.0
        return model

    return replace(base, recipe=made, parts=replace(parts, transformers=(trained,)))


def path_file(folder: Path, text: str = PATH) -> Path:
    (folder / "path.txt").write_text(text)
    return folder / "path.txt"


def test_a_keyword_of_python_is_the_declared_input(pipe: Pipeline, tmp_path: Path) -> None:
    file = path_file(tmp_path)
    still, moving, again = (pipe(PROMPT, seed=1, camera_path=given) for given in (None, file, str(file)))
    assert not np.array_equal(still.frames, moving.frames) and np.array_equal(moving.frames, again.frames)
    assert moving.params["inputs"]["camera_path"]["file"] == "path.txt" and not still.params["inputs"]  # type: ignore[index]


def test_untrained_it_makes_the_videos_of_the_base_bit_for_bit(idea: ModuleType, folder: Path, tmp_path: Path) -> None:
    made, base = idea.put_onto(tiny()), tiny_pipeline(folder)
    wide = replace(base, recipe=made, parts=with_additions(base.parts, made.additions, made.transformers))
    video = wide(PROMPT, seed=1, camera_path=path_file(tmp_path))
    assert np.array_equal(video.frames, base(PROMPT, seed=1).frames)


def test_latent_frames_have_the_mean_of_their_frames(idea: ModuleType) -> None:
    path = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 4, 6]])
    assert idea.by_latent_frame(path, 2).tolist() == [[1, 0], [0, 3], [0, 3]]
    assert idea.by_latent_frame(path[:1], 2).tolist() == [[1], [0], [0]]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("0 0 0\n0 0 0\n", "camera_path_length"),
        ("0 0 0\n0 0\n0 0 0\n", "camera_path_line"),
        ("0 0 0\n0 0 left\n0 0 0\n", "camera_path_line"),
        ("0 0 0\n0 0 nan\n0 0 0\n", "camera_path_line"),
        ("0 0 0\n0 0 2\n0 0 0\n", "camera_path_line"),
    ],
)
def test_a_path_that_is_none_is_refused_before_any_weight_is_read(
    pipe: Pipeline, tmp_path: Path, text: str, code: str
) -> None:
    with refused(code):
        pipe(PROMPT, seed=1, camera_path=path_file(tmp_path, text))


def test_another_model_does_not_take_it(idea: ModuleType, pipe: Pipeline, folder: Path, tmp_path: Path) -> None:
    with refused("input_unknown"):
        tiny_pipeline(folder)(PROMPT, seed=1, camera_path=path_file(tmp_path))
    with refused("input_unknown") as caught:
        pipe(PROMPT, seed=1, camera_pth=path_file(tmp_path))
    assert "did you mean 'camera_path'" in str(caught.value)
    with refused("input_not_taken"):
        tiny_pipeline(folder)(PROMPT, seed=1, inputs=Inputs({idea.CAMERA_PATH: None, OTHER: 1}))


OTHER: InputField[float | None] = InputField(name="loudness", kind=NumberKind(least=0.0), help="How loud.")


@pytest.mark.parametrize(
    "name", ["video", "image", "reference", "seed", "steps", "prompt", "fit_mask", "guidance_scale"]
)
def test_a_recipe_whose_input_has_a_name_that_is_taken_is_refused(idea: ModuleType, pipe: Pipeline, name: str) -> None:
    taken = InputField(name=name, kind=FlagKind(), help="Mine.")

    class Rival(idea.CameraPath):  # type: ignore[misc, name-defined]
        @property
        def inputs(self) -> tuple[InputField[Any], ...]:
            return (taken,)

    with refused("input_name_taken"):
        replace(pipe, recipe=replace(pipe.recipe, conditioners=(Rival(),)))


def test_from_the_command_line_to_a_video_that_is_made_again(
    kinoform: Run, idea: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path_file(tmp_path, "0 0 0\n" * 5)
    words = [*WORDS, "--input", "camera_path=path.txt"]
    assert kinoform(*words, "--dry-run").code == 0 and not list(tmp_path.glob("*.mkv"))
    assert kinoform(*words, "-o", "video.mkv").code == 0
    told = read_params(tmp_path / "video.mkv")
    assert told["inputs"]["camera_path"]["file"] == "path.txt", json.dumps(told)  # type: ignore[index]
    rerun = ["rerun", "video.mkv", "--model", "mini", "--recipe", "camera_path:recipe"]
    assert kinoform(*rerun, "-o", "again.mkv").code == 0
    first, again = (read_video(tmp_path / name)[0] for name in ("video.mkv", "again.mkv"))
    assert np.array_equal(first, again)
    path_file(tmp_path, "1 0 0\n" * 5)
    assert kinoform(*rerun, "-o", "third.mkv").refusal == "file_changed"


def test_what_the_command_line_cannot_take_is_refused(
    kinoform: Run, idea: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path_file(tmp_path)
    for words, refusal in (
        (["--input", "camera=path.txt"], "input_unknown"),
        (["--input", "camera_path"], "bad_value"),
        (["--input", "camera_path=path.txt", "--input", "camera_path=path.txt"], "options_conflict"),
        (["--input", "camera_path=none.txt"], "file_missing"),
        (["--input", "camera_path=path.txt"], "camera_path_length"),
        (["--input", "strength=much"], "bad_value"),
        (["--strength", "0.5", "--input", "strength=0.5"], "options_conflict"),
    ):
        assert kinoform(*WORDS, *words).refusal == refusal, words
    plan = ["plan", "--recipe", "camera_path:recipe", "--frames", "5"]
    assert kinoform(*plan, "--input", "camera_path=path.txt").refusal == "camera_path_length"
