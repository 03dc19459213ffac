"""Dataset files of musubi-tuner and diffusion-pipe are read as they are; what cannot be followed is said."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.datasets.asked import DatasetSettings
from kinoform.datasets.buckets import ClipLengths
from kinoform.datasets.open import open_dataset
from tests.support.refusals import refused


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder, names in (("clips", "ab"), ("more", "c")):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / folder / f"{name}.png")
            (tmp_path / folder / f"{name}.txt").write_text(f"caption of {name}")
    (tmp_path / "table.jsonl").write_text('{"video_path": "more/c.png", "caption": "c", "control_path": "clips/a.png"}')
    return tmp_path


def opened(data: Path, text: str):
    (data / "data.toml").write_text(text)
    return open_dataset(data / "data.toml")


MUSUBI = """
[general]
resolution = [960, 544]
batch_size = 2
enable_bucket = true
bucket_no_upscale = true

[[datasets]]
video_directory = "clips"
cache_directory = "cache"
target_frames = [1, 25, 47]
frame_extraction = "slide"
frame_stride = 10
num_repeats = 3

[[datasets]]
video_jsonl_file = "table.jsonl"
target_frames = [1, 25, 45]
frame_extraction = "slide"
frame_stride = 10
"""


def test_a_file_of_musubi_keeps_its_settings(data: Path) -> None:
    found = opened(data, MUSUBI)
    assert [item.name for item in found.items] == ["clips/a.png", "clips/b.png", "table.jsonl/more/c.png"]
    assert [item.repeats for item in found.items] == [3, 3, 1] and found.items[2].source == data / "clips" / "a.png"
    assert found.asked == DatasetSettings(
        sizes=((960, 544),),
        one_size=False,
        lengths=ClipLengths(frames=(1, 25, 45), each=True),
        rule="sliding=10",
        batch=2,
    )
    assert {note.split()[0] for note in found.notes} == {"cache_directory", "bucket_no_upscale", "target_frames"}
    assert any("[1, 25, 47] are trimmed to [1, 25, 45]" in note for note in found.notes)


@pytest.mark.parametrize(
    ("asked", "rule", "says"),
    [
        ("", None, ""),
        ('frame_extraction = "slide"', "sliding=1", ""),
        ('frame_extraction = "uniform"\nframe_sample = 4', "spread=4", ""),
        ('frame_extraction = "chunk"', "all", "may share frames"),
        ('frame_extraction = "full"', "head", "from their heads"),
    ],
)
def test_what_musubi_does_unasked_is_done_or_said(data: Path, asked: str, rule: str | None, says: str) -> None:
    found = opened(data, f'[[datasets]]\nvideo_directory = "clips"\ntarget_frames = [25]\n{asked}\n')
    assert found.asked == DatasetSettings(one_size=True, lengths=ClipLengths(frames=(25,)), rule=rule)
    assert len(found.notes) == bool(says) and all(says in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[[datasets]]\nimage_directory = "clips"\n', "control_directory"),
        ('resolutions = [512]\n[[directory]]\npath = "clips"\n', "control_path"),
    ],
)
def test_sources_may_be_in_a_folder_of_their_own(data: Path, text: str, key: str) -> None:
    (data / "controls").mkdir()
    for name in "ab":
        Image.fromarray(np.ones((16, 16, 3), np.uint8)).save(data / "controls" / f"{name}.jpg")
    found = opened(data, f'{text}{key} = "controls"\n')
    assert [item.source for item in found.items] == [data / "controls" / "a.jpg", data / "controls" / "b.jpg"]
    (data / "controls" / "b.jpg").unlink()
    with refused("dataset_clip_missing", "b.png"):
        opened(data, f'{text}{key} = "controls"\n')


def test_captions_may_have_an_extension_a_prefix_or_one_file(data: Path) -> None:
    (data / "clips" / "a.txt").rename(data / "clips" / "a.caption")
    (data / "clips" / "b.txt").unlink()
    (data / "clips" / "captions.json").write_text('{"b.png": ["first of b", "second"]}')
    musubi = '[[datasets]]\nimage_directory = "clips"\ncaption_extension = ".caption"\n'
    assert [item.caption for item in opened(data, musubi).items] == ["caption of a", "first of b"]
    pipe = 'resolutions = [512]\ncaption_prefix = "anime, "\n[[directory]]\npath = "clips"\n'
    assert [item.caption for item in opened(data, pipe).items] == ["", "anime, first of b"]


PIPE = """
resolutions = [512]
enable_ar_bucket = true
min_ar = 0.5
frame_buckets = [1, 33]

[[directory]]
path = "clips"
num_repeats = 5

[[directory]]
path = "more"
"""


def test_a_file_of_diffusion_pipe_keeps_its_settings(data: Path) -> None:
    found = opened(data, PIPE)
    assert [item.repeats for item in found.items] == [5, 5, 1]
    assert found.asked == DatasetSettings(sizes=((512, 512),), one_size=False, lengths=ClipLengths(frames=(33,)))
    assert any(note.startswith("min_ar") for note in found.notes)
    several = opened(data, PIPE.replace("[512]", "[512, [832, 480]]").replace("[1, 33]", "[1, 33, 65]")).asked
    assert several.sizes == ((512, 512), (832, 480)) and several.lengths == ClipLengths(frames=(33, 65))


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("frame_stride", "frame_strid", "dataset_key_unknown", ("'frame_stride'", "[[datasets]] 1")),
        ("[general]", "[generel]", "dataset_key_unknown", ("general",)),
        ('"slide"', '"slid"', "unknown_name", ("'slide'",)),
        ('video_directory = "clips"\n', "", "dataset_row_incomplete", ("video_directory",)),
        ("frame_stride = 10\nnum", "frame_stride = 12\nnum", "dataset_settings_differ", ("sliding=12",)),
        ("[960, 544]", "[960, 544, 3]", "wrong_type", ("resolution",)),
        ("num_repeats = 3", 'control_directory = "x"', "file_missing", ("x",)),
        ("num_repeats = 3", "multiple_target = true", "dataset_key_not_read", ("multiple_target",)),
        ("num_repeats = 3", "num_repeats = 0", "value_out_of_range", ("num_repeats",)),
        ("batch_size = 2", 'batch_size = "2"', "not_a_whole_number", ("batch_size",)),
        ("[[datasets]]", "[[datasetz]]", "dataset_unknown", ("[[datasets]]",)),
        ("[general]", "[general", "dataset_damaged", ("TOML",)),
    ],
)
def test_what_cannot_be_followed_is_named(data: Path, old: str, new: str, code: str, words: tuple[str, ...]) -> None:
    assert old in MUSUBI
    with refused(code, *words):
        opened(data, MUSUBI.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("[512]", "512", "wrong_type"),
        ("[512]", "[]", "wrong_type"),
        ('path = "more"', 'path = "gone"', "file_missing"),
        ("min_ar", "min_arr", "dataset_key_unknown"),
        ("num_repeats = 5", 'mask_path = "masks"', "dataset_key_not_read"),
    ],
)
def test_so_it_is_for_diffusion_pipe(data: Path, old: str, new: str, code: str) -> None:
    with refused(code):
        opened(data, PIPE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('video_directory = "clips"', "video_directory = 3"),
        ('frame_extraction = "slide"', "frame_extraction = [1]"),
        ("target_frames = [1, 25, 47]", 'target_frames = "25"'),
        ("target_frames = [1, 25, 47]", "target_frames = [true]"),
    ],
)
def test_values_of_another_kind_are_refused_by_their_key(data: Path, old: str, new: str) -> None:
    assert old in MUSUBI
    with refused("wrong_type", new.split()[0]):
        opened(data, MUSUBI.replace(old, new, 1))
    for key in ("path", "frame_buckets"):
        with refused("wrong_type", key):
            opened(data, f"[[directory]]\n{'' if key == 'path' else 'path = {}'}\n{key} = 3\n".replace("{}", '"clips"'))
