"""The example inputs are what their script makes, and the loader takes each of them as what it is."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from kinoform.media.read import read_clip, read_image, read_mask
from tests.support.strange_media import decoded_here

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGES = ("first.png", "last.png", "reference.png", "second_reference.png")


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr("kinoform.media.read.decoded", decoded_here)


@pytest.fixture(scope="module")
def remade(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    script = runpy.run_path(str(EXAMPLES / "make_inputs.py"))
    script["make"](folder, **script["MINI"])
    return folder


def test_the_script_makes_the_files_that_are_there(remade):
    there = EXAMPLES / "inputs" / "mini"
    assert {path.name for path in remade.iterdir()} == {path.name for path in there.iterdir()}
    for name in IMAGES:
        assert np.array_equal(read_image(remade / name).pixels, read_image(there / name).pixels)
    assert np.array_equal(read_mask(remade / "mask.png").values, read_mask(there / "mask.png").values)
    for name in ("video.mp4", "mask.mp4"):  # another version of the encoder may lose other details
        ours, theirs = (read_clip(folder / name).frames.astype(float) for folder in (remade, there))
        assert np.abs(ours - theirs).mean() < 2


@pytest.mark.parametrize("folder, frames, size", [("inputs", 33, (480, 832)), ("inputs/mini", 17, (64, 64))])
def test_the_inputs_fit_each_other(folder, frames, size):
    there = EXAMPLES / folder
    video, mask = read_clip(there / "video.mp4"), read_mask(there / "mask.mp4")
    first, last = (read_image(there / name) for name in IMAGES[:2])
    assert video.fps == 16 and video.frames.shape == (frames, *size, 3) and mask.values.shape == (frames, *size)
    assert first.size == last.size == read_mask(there / "mask.png").size == size
    assert np.abs(video.frames[0].astype(float) - first.pixels).mean() < 4
    assert np.abs(video.frames[-1].astype(float) - last.pixels).mean() < 4
    for place in (0, frames // 2, frames - 1):
        object_here = np.abs(video.frames[place].astype(int) - video.frames[0, 0, 0]).max(axis=2) > 40
        assert object_here.any() and (mask.values[place][object_here] > 250).mean() > 0.99


@pytest.mark.parametrize("name", ["ball", "star", "cross", "square"])
def test_edits_differ_from_their_sources_where_the_mask_is_white(name):
    there = EXAMPLES / "edits"
    target, source = (read_clip(there / f"{name}{ending}").frames.astype(int) for ending in (".mp4", ".source.mp4"))
    mask = read_mask(there / f"{name}.mask.mp4").values
    assert target.shape == source.shape == (17, 64, 64, 3) and mask.shape == (17, 64, 64)
    differs = np.abs(target - source).max(axis=3) > 60
    assert differs.any(axis=(1, 2)).all() and (mask[differs] > 128).mean() > 0.99
    assert (there / f"{name}.txt").read_text(encoding="utf-8").strip()
    assert read_image(there / f"{name}.reference.png").size == (64, 64)
