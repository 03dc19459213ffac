"""Fidelity of a saved video is measured in its file, and outside the mask alone."""

import math
from pathlib import Path

import numpy as np
import pytest

from kinoform.editing.masks import Alpha
from kinoform.editing.report import MIN_SAVED, saved_report
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video
from tests.support.narrowing import some

Edited = tuple[Video, Alpha]


@pytest.fixture
def edited() -> Edited:
    """Smooth outside, noise inside."""
    rows, columns = np.mgrid[:32, :48]
    frames = np.stack([np.stack([rows * 4 + t, columns * 3, rows + columns], -1) for t in range(6)]).astype(np.uint8)
    alpha = np.zeros((6, 32, 48), np.float32)
    alpha[:, 8:16, 8:24] = 1
    frames[alpha > 0] = np.random.default_rng(0).integers(0, 256, (6 * 8 * 16, 3))
    return Video(frames=frames, fps=12.0), alpha


@pytest.mark.parametrize("name", ["a.mkv", "frames"])
def test_a_lossless_file_keeps_everything(name: str, edited: Edited, tmp_path: Path) -> None:
    video, alpha = edited
    report = saved_report(video.save(tmp_path / name), video, alpha)
    assert report.psnr_db == math.inf and report.good
    assert report.as_json() == {"outside_equal": True, "psnr_outside_db": None}


@pytest.mark.parametrize("crf", [10, 45])
def test_what_an_encoder_loses_is_measured_outside(crf: int, edited: Edited, tmp_path: Path) -> None:
    video, alpha = edited
    path = video.save(tmp_path / "a.mp4", crf=crf)
    errors = (read_video(path)[0].astype(float) - video.frames)[alpha == 0]
    report = saved_report(path, video, alpha)
    assert report.psnr_db == pytest.approx(10 * np.log10(255**2 / np.mean(errors**2)), abs=0.5)
    assert report.good is (some(report.psnr_db) >= MIN_SAVED) is (crf == 10)
    assert report.as_json()["psnr_outside_db"] == round(some(report.psnr_db), 2)


def test_nothing_is_promised_where_all_was_free(edited: Edited, tmp_path: Path) -> None:
    video, alpha = edited
    report = saved_report(video.save(tmp_path / "a.mp4", crf=50), video, np.ones_like(alpha))
    assert report.psnr_db is None and report.good
    assert report.as_json() == {"outside_equal": False, "psnr_outside_db": None}
