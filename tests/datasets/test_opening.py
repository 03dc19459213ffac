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
        mask=clips / "a.mask.png", references=(clips / "a.reference.png", clips / "a.reference.2.png"),
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


def test_a_table_of_fastvideo_lies_beside_its_folder_of_videos(clips: Path) -> None:
    (clips / "sub").rename(clips / "videos")
    rows = [{"path": "c.png", "resolution": {"width": 16}, "num_frames": 1, "fps": 16.0, "cap": ["one", "two"]}]
    (clips / "videos2caption.json").write_text(json.dumps(rows))
    (found,) = open_dataset(clips).items
    assert found == DatasetItem(name="c.png", target=clips / "videos" / "c.png", caption="one")


def test_captions_may_have_several_lines_and_every_letter(clips: Path) -> None:
    (clips / "table.csv").write_text('video,prompt\r\na.png,"one,\r\ntwo"\r\nb.png,three\r\n', encoding="utf-8")
    assert [item.caption for item in open_dataset(clips / "table.csv").items] == ["one, two", "three"]
    (clips / "table.jsonl").write_text('{"video": "a.png", "prompt": "one\u2028two\u0085"}\n', encoding="utf-8")
    assert open_dataset(clips / "table.jsonl").items[0].caption == "one two"


def test_texts_without_a_clip_are_said(clips: Path) -> None:
    (clips / "c.avi").write_bytes(b"RIFF")
    (clips / "c.txt").write_text("a video of a kind that is not read")
    unread, alone = open_dataset(clips).notes
    assert "c.avi" in unread and ".mp4" in unread and "c.txt" in alone


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("table.csv", "video,prompt\na.png,one, two\n", ("row 1", "quotes")),
        ("table.csv", 'video,prompt\na.png,"one\n', ("table.csv",)),
        ("table.jsonl", '{"video": "a.png"}\n{"video"\n', ("line 2",)),
        ("captions.json", "[]", ("captions.json",)),
        ("captions.json", '{"d.png": 3}', ("d.png",)),
    ],
)
def test_a_file_that_is_damaged_is_named_with_its_line(clips: Path, name: str, text: str, words: tuple) -> None:
    save(clips / "d.png")
    (clips / name).write_text(text)
    with refused("dataset_damaged", *words):
        open_dataset(clips if name == "captions.json" else clips / name)


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        ({"target": "a.png", "captoin": "x"}, "dataset_column_unknown", ("'caption'",)),
        ({"video": "a.png", "image": "b.png"}, "dataset_column_twice", ("target",)),
        ({"caption": "x"}, "dataset_row_incomplete", ("row 1",)),
        ({"target": "gone.png"}, "file_missing", ("gone.png",)),
        ({"target": "https://a.b/c.mp4"}, "link_not_fetched", ("https",)),
        ({"video": "a.png", "animate_pose_video": "b.png"}, "dataset_key_not_read", ("animate_pose_video",)),
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
