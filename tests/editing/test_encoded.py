"""What a saved video kept is measured in its file, and outside the mask alone."""

import math
from pathlib import Path

import numpy as np
import pytest

from kinoform.editing.edit import Edited
from kinoform.editing.encode_check import PROMISED, kept
from kinoform.editing.report import EditReport
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video


@pytest.fixture
def edited() -> Edited:
    """Smooth outside, noise inside."""
    rows, columns = np.mgrid[:32, :48]
    frames = np.stack([np.stack([rows * 4 + t, columns * 3, rows + columns], -1) for t in range(6)]).astype(np.uint8)
    alpha = np.zeros((6, 32, 48), np.float32)
    alpha[:, 8:16, 8:24] = 1
    frames[alpha > 0] = np.random.default_rng(0).integers(0, 256, (6 * 8 * 16, 3))
    report = EditReport(
        outside_equal=True, outside_pixels=int((alpha == 0).sum()), raw_psnr_outside_db=None, seam_delta_e=None,
        seam_delta_e_worst=None, colour_shift=(0.0, 0.0, 0.0), changed_share=float(alpha.mean()), segments=(),
    )  # fmt: skip
    return Edited(video=Video(frames=frames, fps=12.0), raw=frames, alpha=alpha, report=report)


@pytest.mark.parametrize("name", ["a.mkv", "frames"])
def test_a_lossless_file_keeps_everything(name: str, edited: Edited, tmp_path: Path) -> None:
    found = kept(edited.video.save(tmp_path / name), edited)
    assert found.psnr_db == math.inf and found.promised
    assert found.as_json() == {"outside_equal": True, "psnr_outside_db": None}


@pytest.mark.parametrize("crf", [10, 45])
def test_what_an_encoder_loses_is_measured_outside(crf: int, edited: Edited, tmp_path: Path) -> None:
    path = edited.video.save(tmp_path / "a.mp4", crf=crf)
    errors = (read_video(path)[0].astype(float) - edited.video.frames)[edited.alpha == 0]
    found = kept(path, edited)
    assert found.psnr_db == pytest.approx(10 * np.log10(255**2 / np.mean(errors**2)), abs=0.5)
    assert found.promised is (found.psnr_db >= PROMISED) is (crf == 10)
    assert found.as_json()["psnr_outside_db"] == round(found.psnr_db, 2)


def test_nothing_is_promised_where_all_was_free(edited: Edited, tmp_path: Path) -> None:
    everywhere = Edited(video=edited.video, raw=edited.raw, alpha=np.ones_like(edited.alpha), report=edited.report)
    found = kept(edited.video.save(tmp_path / "a.mp4", crf=50), everywhere)
    assert found.psnr_db is None and found.promised
    assert found.as_json() == {"outside_equal": False, "psnr_outside_db": None}
