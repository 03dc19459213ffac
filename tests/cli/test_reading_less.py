"""Commands read no more of a long video than they use."""

import numpy as np

from kinoform.media.read import read_clip
from tests.support.strange_media import decoded_here, long_video


def test_the_command_reads_no_more_than_it_needs(kinoform, tmp_path, monkeypatch):
    monkeypatch.setattr("kinoform.media.read.decoded", decoded_here)
    monkeypatch.setattr("kinoform.media.resample.MAX_RESULT", 18 * 64 * 64 * 3)
    path = long_video(tmp_path / "a.mkv", 20, 30)
    run = kinoform("generate", "a red ball", "--video", str(path), "--frames", "17", "--steps", "1", "--size", "64x64",
                   "--seed", "1", "--strength", ".1", "--upscale", "1", "-o", str(tmp_path / "b.mkv"))  # fmt: skip
    assert run.code == 0, run.err
    again = kinoform("rerun", str(tmp_path / "b.mkv"), "-o", str(tmp_path / "c.mkv"))
    assert again.code == 0, again.err
    assert np.array_equal(read_clip(tmp_path / "b.mkv").frames, read_clip(tmp_path / "c.mkv").frames)
