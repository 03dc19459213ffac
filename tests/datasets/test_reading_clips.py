"""Clips are read from real files: lengths that are shared, damage that is found in headers, images, masks, rates."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinoform.conditions.input_kinds import FileKind, NumberKind, VideoKind
from kinoform.conditions.inputs import InputField
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import Units, declared
from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.conditions.vace import Vace
from kinoform.datasets.buckets import ClipLengths, buckets_of
from kinoform.datasets.clips import Clip, HeadClip, SlidingClips, choose_clips
from kinoform.datasets.item import DatasetItem
from kinoform.datasets.open import open_dataset
from kinoform.datasets.read import read_sample
from kinoform.datasets.survey import Survey, survey
from kinoform.errors import UsageError
from kinoform.media.types import InputFile, InputVideo
from kinoform.media.video import Video
from tests.support.refusals import refused

UNITS = Units(stride=(4, 8, 8), patch=(1, 2, 2))


def save_video(path: Path, frames: int, *, fps: float = 16.0, height: int = 32, width: int = 32, step: int = 8) -> None:
    grey = np.arange(frames, dtype=np.uint8) * step
    Video(frames=np.broadcast_to(grey[:, None, None, None], (frames, height, width, 3)).copy(), fps=fps).save(path)


def save_image(path: Path, value: int) -> None:
    Image.fromarray(np.full((32, 32, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clip.txt").write_text("a caption")
    save_video(tmp_path / "clip.mkv", 12)
    return tmp_path


def clips_in(folder: Path, length: int, rule=None) -> tuple[Clip, ...]:
    dataset = open_dataset(folder)
    return choose_clips(
        dataset, list(survey(dataset, 16.0)), rule=rule or HeadClip(), lengths=ClipLengths(frames=(length,)),
        buckets=[buckets_of(32, 32, UNITS)], units=UNITS, fps=16.0, seed=0,
    ).clips  # fmt: skip


def test_a_survey_counts_the_frames_that_all_files_share(folder: Path) -> None:
    save_video(folder / "clip.source.mkv", 10, step=7)
    save_video(folder / "clip.mask.mkv", 9)
    (found,) = survey(open_dataset(folder), 16.0)
    assert isinstance(found, Survey) and found.num_frames == 9 and len(set(found.hashes)) == 3
    (slower,) = survey(open_dataset(folder), 8.0)
    assert isinstance(slower, Survey) and slower.num_frames == 5 and slower.fps == 16.0
    with refused("clips_too_short", "clip.mkv has 9"):
        clips_in(folder, 13)


def test_damage_in_any_file_of_an_item_is_found_before_a_frame_is_learnt(folder: Path) -> None:
    (folder / "clip.reference.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (fault,) = survey(open_dataset(folder), 16.0)
    assert isinstance(fault, UsageError) and "clip.reference.png" in str(fault)
    with refused("dataset_damaged", "1 of 1", "clip.reference.png"):
        clips_in(folder, 9)


def test_a_triple_is_a_sample_with_source_mask_and_references(folder: Path) -> None:
    save_video(folder / "clip.source.mkv", 12, step=7)
    save_image(folder / "clip.mask.png", 255)
    save_image(folder / "clip.reference.png", 77)
    (_, second) = clips_in(folder, 9, SlidingClips(stride=3))
    sample = read_sample(second, (Vace(),))
    source, mask, references = sample.inputs[VIDEO], sample.inputs[MASK], sample.inputs[REFERENCE_IMAGES]
    assert source is not None and mask is not None and references is not None
    assert sample.video[:, 0, 0, 0].tolist() == [8 * frame for frame in range(3, 12)]
    assert source.frames[:, 0, 0, 0].tolist() == [7 * frame for frame in range(3, 12)]
    assert mask.values.shape == (1, 32, 32) and references[0].pixels.max() == 77


DEPTH: InputField[InputVideo | None] = InputField(name="depth", kind=VideoKind(), help="How far away things are.")
CAMERA: InputField[InputFile | None] = InputField(name="camera", kind=FileKind(), help="Where the camera is.")
FORCE: InputField[float | None] = InputField(
    name="force", kind=NumberKind(least=0.0, most=1.0), help="How much it counts."
)


@dataclass(frozen=True, kw_only=True)
class Depth(Vace):
    """Conditioner with inputs that no role of a dataset is for."""

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (DEPTH, CAMERA, FORCE)


def opened_with_own(path: Path) -> DatasetItem:
    (found,) = open_dataset(path, declared((Depth(),))).items
    return found


def test_inputs_of_a_model_of_ones_own_are_files_beside_a_clip_and_columns(folder: Path) -> None:
    save_video(folder / "clip.depth.mkv", 12, step=5, height=64)
    (folder / "clip.camera.txt").write_text("0 0 0")
    beside = opened_with_own(folder)
    assert beside.own == (("camera", (folder / "clip.camera.txt",)), ("depth", (folder / "clip.depth.mkv",)))
    row = {"target": "clip.mkv", "depth": "clip.depth.mkv", "camera": "clip.camera.txt", "force": 0.5}
    (folder / "table.jsonl").write_text(json.dumps(row))
    item = opened_with_own(folder / "table.jsonl")
    assert item.own == (*beside.own, ("force", 0.5))

    dataset = open_dataset(folder / "table.jsonl", declared((Depth(),)))
    (_, clip) = choose_clips(
        dataset, list(survey(dataset, 16.0)), rule=SlidingClips(stride=3), lengths=ClipLengths(frames=(9,)),
        buckets=[buckets_of(32, 32, UNITS)], units=UNITS, fps=16.0, seed=0,
    ).clips  # fmt: skip
    inputs = read_sample(clip, (Depth(),)).inputs
    depth, camera = inputs[DEPTH], inputs[CAMERA]
    assert depth is not None and depth.frames.shape == (9, 32, 32, 3)
    assert depth.frames[:, 0, 0, 0].tolist() == [5 * frame for frame in range(3, 12)]
    assert camera is not None and inputs[FORCE] == 0.5
    assert replace(clip, item=replace(item, own=(*beside.own, ("force", 0.6)))).key != clip.key


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        ({"dept": "clip.mkv"}, "dataset_column_unknown", ("'depth'",)),
        ({"depth": "gone.mkv"}, "file_missing", ("row 1", "gone.mkv")),
        ({"force": 2}, "value_out_of_range", ("row 1", "force")),
    ],
)
def test_values_that_an_own_input_cannot_have_are_refused(folder: Path, row: dict, code: str, words: tuple) -> None:
    (folder / "table.jsonl").write_text(json.dumps({"target": "clip.mkv", **row}))
    with refused(code, *words):
        opened_with_own(folder / "table.jsonl")


def test_frames_within_a_video_are_its_own_images(folder: Path) -> None:
    save_image(folder / "clip.first.png", 99)
    save_image(folder / "clip.last.png", 98)
    conditioners = (KnownFrames(),)
    for clip, first, last in zip(clips_in(folder, 9, SlidingClips(stride=3)), (99, 24), (64, 98), strict=True):
        shown = read_sample(clip, conditioners).inputs[FRAMES]
        assert shown is not None and (shown[0].pixels.max(), shown[-1].pixels.max()) == (first, last)
