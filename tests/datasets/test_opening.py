"""Datasets are opened as people have them, and what is wrong with one is said before any media is read."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.conditions.standard_inputs import VIDEO
from kinoform.datasets.item import DatasetItem
from kinoform.datasets.open import open_dataset
from tests.support.refusals import refused


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name in ("b.png", "a.png", "sub/c.png"):
        save(tmp_path / name)
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        (tmp_path / name).write_text(f"the caption of\n{name}\n", encoding="utf-8")
    return tmp_path


def save(path: Path, value: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(path)


def test_a_folder_is_its_clips_with_their_texts_and_the_files_beside_them(clips: Path) -> None:
    for role in ("source", "mask", "first", "last", "reference", "reference.2"):
        save(clips / f"a.{role}.png")
    (clips / "notes.md").write_text("nothing")
    a, b, c = open_dataset(clips).items
    assert [item.name for item in (a, b, c)] == ["a.png", "b.png", "sub/c.png"]
    assert a == DatasetItem(
        name="a.png", target=clips / "a.png", caption="the caption of a.txt", source=clips / "a.source.png",
        mask=clips / "a.mask.png", references=(clips / "a.reference.2.png", clips / "a.reference.png"),
        first=clips / "a.first.png", last=clips / "a.last.png",
    )  # fmt: skip
    assert b.files == {"target": (clips / "b.png",)}


def test_a_clip_may_have_dots_in_its_name(clips: Path) -> None:
    save(clips / "shot.v2.png")
    (clips / "shot.v2.txt").write_text("a caption")
    assert "shot.v2.png" in [item.name for item in open_dataset(clips).items]


@pytest.mark.parametrize("form", ["jsonl", "csv", "json", "in a folder"])
def test_tables_say_the_same_in_every_form(clips: Path, form: str) -> None:
    rows = [
        {"video": "a.png", "prompt": "one", "vace_video": "b.png", "vace_reference_image": "sub/c.png"},
        {"video": "b.png", "prompt": "two", "vace_video": "", "vace_reference_image": ""},
    ]
    table = clips / f"metadata.{'csv' if form == 'in a folder' else form}"
    if table.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        table.write_text("\n".join(lines), encoding="utf-8")
    else:
        jsonl = "\n".join(map(json.dumps, rows))
        table.write_text(jsonl if form == "jsonl" else json.dumps(rows), encoding="utf-8")
    first, second = open_dataset(clips if form == "in a folder" else table).items
    assert first == DatasetItem(
        name="a.png", target=clips / "a.png", caption="one", source=clips / "b.png", references=(clips / "sub/c.png",)
    )
    assert second == DatasetItem(name="b.png", target=clips / "b.png", caption="two")


def test_a_table_may_repeat_rows_and_list_references(clips: Path) -> None:
    row = {"target": "a.png", "caption": "one", "references": ["b.png", "sub/c.png"], "repeats": 3, "width": 16}
    (clips / "table.jsonl").write_text(json.dumps(row))
    dataset = open_dataset(clips / "table.jsonl")
    assert (len(dataset.items[0].references), dataset.items[0].repeats, len(dataset.notes)) == (2, 3, 1)


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        ({"target": "a.png", "captoin": "x"}, "dataset_column_unknown", ("'caption'",)),
        ({"video": "a.png", "image": "b.png"}, "dataset_column_twice", ("target",)),
        ({"caption": "x"}, "dataset_row_incomplete", ("row 1",)),
        ({"target": "gone.png"}, "file_missing", ("gone.png",)),
        ({"target": ["a.png"] * 2}, "dataset_row_incomplete", ("target",)),
        ({"target": "a.png", "repeats": 0}, "value_out_of_range", ("repeats",)),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused_by_number(clips: Path, row: dict, code: str, words: tuple) -> None:
    (clips / "table.jsonl").write_text(json.dumps(row))
    with refused(code, *words):
        open_dataset(clips / "table.jsonl")


def test_damage_and_emptiness_are_refused(clips: Path, tmp_path: Path) -> None:
    (clips / "table.jsonl").write_text("{")
    (clips / "list.json").write_text("{}")
    (clips / "empty.json").write_text("[]")
    for name, code in (
        ("table.jsonl", "dataset_damaged"),
        ("list.json", "dataset_damaged"),
        ("empty.json", "dataset_empty"),
    ):
        with refused(code):
            open_dataset(clips / name)
    (empty := tmp_path / "empty").mkdir()
    with refused("dataset_empty"):
        open_dataset(empty)
    with refused("file_missing"):
        open_dataset(tmp_path / "gone")
    with refused("dataset_unknown"):
        open_dataset(clips / "a.png")


def test_files_of_no_role_and_of_no_clip_are_refused(clips: Path) -> None:
    save(clips / "a.maks.png")
    with refused("dataset_role_unknown", "'mask'"):
        open_dataset(clips)
    (clips / "a.maks.png").rename(clips / "z.mask.png")
    with refused("dataset_clip_missing", "z.mask.png"):
        open_dataset(clips)


def test_two_clips_of_one_name_are_refused(clips: Path) -> None:
    save(clips / "a.webp")
    with refused("dataset_names_clash", "a.webp"):
        open_dataset(clips)


def test_missing_captions_are_named(clips: Path) -> None:
    (clips / "b.txt").unlink()
    dataset = open_dataset(clips)
    with refused("captions_missing", "b.png", "1 of 3"):
        dataset.check_captions()


def test_a_role_that_the_model_lacks_is_named(clips: Path) -> None:
    save(clips / "a.mask.png")
    dataset = open_dataset(clips)
    with refused("input_not_taken", "a.png", "mask", "source"):
        dataset.check_inputs(frozenset({VIDEO}), "mini")
