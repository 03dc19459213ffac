"""Declared inputs: fields with kinds, and the values that a request gives."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinoform.conditions.coerce import restored, split, to_inputs
from kinoform.conditions.input_kinds import FileKind, ImageKind, NumberKind, ReadOptions, TextKind
from kinoform.conditions.inputs import NO_INPUTS, InputField, Inputs, by_name
from kinoform.conditions.standard_inputs import (
    CONTEXT_SCALE,
    EXACT_SIZE,
    FRAMES,
    MASK,
    REFERENCE_IMAGES,
    SOURCE_PROMPT,
    STANDARD_INPUTS,
    STRENGTH,
    VIDEO,
)
from kinoform.media.types import InputFile, InputImage, InputVideo
from tests.support.narrowing import some
from tests.support.refusals import refused
from tests.support.unchecked import unchecked

CLIP = InputVideo(frames=np.zeros((3, 8, 8, 3), np.uint8))
PATH: InputField[InputFile | None] = InputField(name="path", kind=FileKind(largest=10), help="A path.")


def test_a_field_that_is_not_given_has_its_default() -> None:
    assert NO_INPUTS[VIDEO] is None and NO_INPUTS[FRAMES] == {} and NO_INPUTS[REFERENCE_IMAGES] == ()
    assert NO_INPUTS[CONTEXT_SCALE] == 1.0 and NO_INPUTS[STRENGTH] is None and NO_INPUTS[EXACT_SIZE] is False
    empty = Inputs({VIDEO: None, FRAMES: {}, REFERENCE_IMAGES: (), EXACT_SIZE: False})
    assert not empty and [*empty] == [] and VIDEO not in empty


def test_inputs_are_changed_by_making_others() -> None:
    given = Inputs({VIDEO: CLIP, STRENGTH: np.float32(0.5)})
    assert given[STRENGTH] == 0.5 and type(given[STRENGTH]) is float
    assert [*(given | {STRENGTH: None, EXACT_SIZE: True})] == [VIDEO, EXACT_SIZE] and [*given] == [VIDEO, STRENGTH]
    assert [*given.only([STRENGTH, MASK])] == [STRENGTH]
    assert pickle.loads(pickle.dumps(given))[STRENGTH] == 0.5


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with refused("value_out_of_range"):
        Inputs({STRENGTH: strength})


@pytest.mark.parametrize("scale", [-0.1, 11.0, float("nan"), float("inf")])
def test_a_context_scale_out_of_range_is_refused(scale: float) -> None:
    with refused("value_out_of_range"):
        Inputs({CONTEXT_SCALE: scale})


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        (STRENGTH, "half", "wrong_type"),
        (STRENGTH, True, "wrong_type"),
        (EXACT_SIZE, 1, "wrong_type"),
        (SOURCE_PROMPT, 3, "wrong_type"),
        (SOURCE_PROMPT, "a\x00", "character_not_allowed"),
        (SOURCE_PROMPT, "a" * 20_001, "too_long"),
    ],
)
def test_a_value_of_another_kind_is_refused(field: InputField[Any], value: object, code: str) -> None:
    with refused(code):
        Inputs({field: value})


@pytest.mark.parametrize("name", ["", "Camera", "camera-path", "1st", "_x"])
def test_a_field_has_a_name_that_is_a_keyword(name: str) -> None:
    with refused("input_name_invalid"):
        InputField(name=name, kind=ImageKind(), help="")


@pytest.mark.parametrize("kind", ["image", ImageKind, None])
def test_a_field_of_an_unknown_kind_is_refused(kind: Any) -> None:
    with unchecked(), refused("input_kind_unknown"):
        InputField(name="camera", kind=kind, help="")


@pytest.mark.parametrize("name", ["video", "image", "last_image", "frame", "reference", "seed", "prompt"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    with refused("input_name_taken"):
        by_name([*STANDARD_INPUTS, InputField(name=name, kind=TextKind(), help="Mine.")], ("seed", "prompt"))
    assert by_name([VIDEO, VIDEO, replace(VIDEO)]) == {"video": VIDEO}


def test_parts_of_a_field_have_names_of_their_own() -> None:
    pixels = [np.full((8, 8, 3), value, np.uint8) for value in range(4)]
    given = to_inputs(STANDARD_INPUTS, {"image": pixels[0], "frames": {4: pixels[1]}, "last_image": pixels[2]})
    assert {number: int(image.pixels[0, 0, 0]) for number, image in given[FRAMES].items()} == {0: 0, 4: 1, -1: 2}
    with refused("frame_given_twice"):
        to_inputs(STANDARD_INPUTS, {"image": pixels[0], "frames": {0: pixels[1]}})


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with refused("input_unknown") as caught:
        to_inputs((*STANDARD_INPUTS, PATH), {"pth": "a"})
    assert "did you mean 'path'" in str(caught.value)


def test_names_of_inputs_are_told_from_others() -> None:
    assert split(STANDARD_INPUTS, {"image": 1, "steps": 2, "mask": 3}) == ({"image": 1, "mask": 3}, {"steps": 2})


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "path.txt").write_text("1 2 3")
    given = to_inputs([PATH], {"path": tmp_path / "path.txt"})
    assert some(given[PATH]).text == "1 2 3"
    ((key, origin),) = given.files()
    assert key == "path" and origin is not None and origin.file == "path.txt"
    (tmp_path / "path.txt").write_text("1 2 3 4 5 6")
    for value, code in (("path.txt", "file_too_large"), ("", "not_a_file"), ("none.txt", "file_missing")):
        with refused(code):
            to_inputs([PATH], {"path": tmp_path / value})
    with refused("wrong_type"):
        to_inputs([PATH], {"path": 3})
    with refused("file_unreadable"):
        InputFile(data=b"\xff\xfe").text  # noqa: B018


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.fromarray(np.full((8, 8, 3), ord(name), np.uint8)).save(tmp_path / f"{name}.png")
    files = {name: tmp_path / f"{name}.png" for name in ("a", "b", "c")}
    given = to_inputs(
        STANDARD_INPUTS,
        {
            "last_image": files["a"],
            "reference_images": [files["b"], files["c"]],
            "context_scale": 0.5,
            "exact_size": True,
        },
    )
    origins = {key: tmp_path / origin.file for key, origin in given.files() if origin is not None}
    assert origins == {"frame:-1": files["a"], "reference:0": files["b"], "reference:1": files["c"]}
    assert given.records() == {"context_scale": 0.5, "exact_size": True}
    again = restored(STANDARD_INPUTS, origins, given.records(), ReadOptions())
    assert [*again] == [*given] and dict(again.records()) == given.records()
    assert np.array_equal(again[FRAMES][-1].pixels, given[FRAMES][-1].pixels)
    assert [image.origin for image in again[REFERENCE_IMAGES]] == [image.origin for image in given[REFERENCE_IMAGES]]


@pytest.mark.parametrize(
    ("files", "records", "code"),
    [
        ({"sound": "a.wav"}, {}, "input_not_taken"),
        ({}, {"loudness": 3}, "input_not_taken"),
        ({"frame:x": "a.png"}, {}, "metadata_damaged"),
        ({"video:0": "a.png"}, {}, "metadata_damaged"),
        ({"strength": "a.png"}, {}, "metadata_damaged"),
        ({}, {"video": 3}, "metadata_damaged"),
        ({}, {"strength": "half"}, "wrong_type"),
        ({}, {"exact_size": 1}, "wrong_type"),
    ],
)
def test_a_record_that_no_field_has_is_refused(files: dict[str, str], records: dict[str, object], code: str) -> None:
    paths = {name: Path(file) for name, file in files.items()}
    with refused(code):
        restored(STANDARD_INPUTS, paths, records, ReadOptions())


def test_a_number_may_exclude_its_lower_end() -> None:
    assert NumberKind(least=0.0, most=1.0).check(0, "x") == 0
    with refused("value_out_of_range"):
        NumberKind(least=0.0, most=1.0, exclusive=True).check(0, "x")


def test_images_are_read_from_what_stands_for_them() -> None:
    field = InputField(name="sketch", kind=ImageKind(), help="")
    given = to_inputs([field], {"sketch": np.zeros((8, 8, 3), np.uint8)})
    assert isinstance(given[field], InputImage)
