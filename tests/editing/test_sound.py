"""Videos that `edit`, `extend` and `outpaint` give back are saved with the sound of their source, at its time."""

from pathlib import Path

import numpy as np
import pytest

from kinoform.editing.edit import edit
from kinoform.editing.extend import extend
from kinoform.editing.outpaint import outpaint
from tests.editing.pretend import copied, noise, painted, pretended
from tests.support.sounding_video import CLICK, FPS, click, write_sounding_video

PROMPT = "a blue cat"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_sounding_video(tmp_path / "source.mp4", "aac", seconds=1.0)


def test_an_edited_video_is_saved_with_its_sound(folder: Path, source: Path, tmp_path: Path) -> None:
    edited = edit(pretended(folder, painted(1, 2, 3)), source, PROMPT, seed=1, mask=np.eye(32, dtype=bool))
    source.unlink()
    assert click(edited.video.save(tmp_path / "new.mp4")) == pytest.approx(CLICK, abs=0.01)
    again = edit(pretended(folder, painted(3, 2, 1)), edited.video, PROMPT, seed=1, mask=np.eye(32, dtype=bool))
    assert click(again.video.save(tmp_path / "again.mkv")) == pytest.approx(CLICK, abs=0.01)


def test_an_extended_video_is_saved_with_its_sound(folder: Path, source: Path, tmp_path: Path) -> None:
    pipeline = pretended(folder, lambda asked: noise(asked))
    longer = extend(pipeline, source, PROMPT, num_frames=4, seed=1, context=2, before=True)
    assert click(longer.video.save(tmp_path / "new.mp4")) == pytest.approx(CLICK + 4 / FPS, abs=0.01)


def test_an_outpainted_video_is_saved_with_its_sound(folder: Path, source: Path, tmp_path: Path) -> None:
    wider = outpaint(pretended(folder, copied), source, PROMPT, width=48, height=32, seed=1)
    assert click(wider.video.save(tmp_path / "new.mp4")) == pytest.approx(CLICK, abs=0.01)


def test_arrays_have_none(folder: Path, tmp_path: Path) -> None:
    edited = edit(pretended(folder, painted(1, 2, 3)), np.zeros((9, 16, 16, 3), np.uint8), PROMPT, seed=1)
    assert edited.video.sound is None and edited.video.times is None
