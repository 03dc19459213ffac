"""Frames and sound stay together in every command that changes a video, also of an uneven pace."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from kinoform.editing import edit as editing
from kinoform.media.video_writer import read_video
from tests.support.command_line import Run
from tests.support.sounding_video import SEEN_AND_HEARD, click, seen, write_uneven_video

WORDS = ["--prompt", "a blue cat moves left", "--seed", "7", "--steps", "1"]


@pytest.fixture
def model(folder: Path, here: Path) -> list[str]:
    write_uneven_video(here / "phone.mp4")
    return ["--model", str(folder), "--recipe", "tests.support.tiny_recipe:tiny_of_videos", "--device", "cpu"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_an_edit_keeps_the_times_of_the_source(kinoform: Run, model: list[str], suffix: str) -> None:
    ran = kinoform("edit", "phone.mp4", *WORDS, "--strength", 0.01, *model, "-o", f"new{suffix}")
    assert ran.code == 0, ran.err
    assert click(Path(f"new{suffix}")) == pytest.approx(SEEN_AND_HEARD, abs=0.02)
    assert times(f"new{suffix}") == pytest.approx(times("phone.mp4"), abs=0.0011)


def test_an_outpainted_video_keeps_them(kinoform: Run, model: list[str]) -> None:
    ran = kinoform("outpaint", "phone.mp4", *WORDS, "--to", "48x24", *model, "-o", "wide.mkv")
    assert ran.code == 0, ran.err
    assert seen(Path("wide.mkv"), 12, 24) == pytest.approx(SEEN_AND_HEARD, abs=0.002)
    assert click(Path("wide.mkv")) == pytest.approx(SEEN_AND_HEARD, abs=0.02)


@pytest.mark.parametrize(("where", "later"), [([], 0.0), (["--before"], 4 * 0.1)])
def test_new_frames_go_on_at_the_pace_that_is_beside_them(
    kinoform: Run, model: list[str], where: list[str], later: float
) -> None:
    ran = kinoform("extend", "phone.mp4", *WORDS, "--frames", 4, "--context", 2, *where, *model, "-o", "long.mkv")
    assert ran.code == 0, ran.err
    assert times("long.mkv")[4 if where else 0 :][:25] == pytest.approx(
        [time + later for time in times("phone.mp4")], abs=0.0011
    )
    assert click(Path("long.mkv")) == pytest.approx(SEEN_AND_HEARD + later, abs=0.02)
    if not where:
        assert times("long.mkv")[25:] == pytest.approx([1.5 + place / 30 for place in range(4)], abs=0.0011)


def test_seconds_of_new_frames_are_those_of_their_pace(kinoform: Run, model: list[str]) -> None:
    words = [*WORDS, "--context", 2, "--dry-run", "--json", *model]
    after = kinoform("extend", "phone.mp4", *words, "--seconds", 0.2)
    before = kinoform("extend", "phone.mp4", *words, "--seconds", 0.2, "--before")
    assert after.code == 0 and before.code == 0, after.err + before.err
    ran = kinoform("extend", "phone.mp4", *WORDS, "--context", 2, "--seconds", 0.2, *model, "-o", "long.mkv")
    assert ran.code == 0 and len(read_video(Path("long.mkv"))[0]) == 25 + 6


def test_a_source_that_is_gone_when_the_work_is_done_costs_nothing(
    kinoform: Run, model: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = editing.carry_out

    def carry_out(*words: Any, **options: Any) -> object:
        Path("phone.mp4").unlink()
        return made(*words, **options)

    monkeypatch.setattr(editing, "carry_out", carry_out)
    ran = kinoform("edit", "phone.mp4", *WORDS, "--strength", 0.5, *model, "-o", "new.mp4")
    assert ran.code == 0, ran.err
    assert click(Path("new.mp4")) == pytest.approx(SEEN_AND_HEARD, abs=0.02)


def times(name: str) -> list[float]:
    with av.open(name) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def test_a_video_whose_pixels_are_not_square_stands_as_players_show_it(
    kinoform: Run, model: list[str], here: Path
) -> None:
    with av.open(str(here / "tv.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=8)
        video.width, video.height, video.pix_fmt = 24, 24, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for place in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((24, 24, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 8)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    ran = kinoform("edit", "tv.mp4", *WORDS, "--strength", 0.5, *model, "-o", "new.mp4")
    assert ran.code == 0 and "32x24, as players do" in ran.err
    with av.open("new.mp4") as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == (32, 24) and video.sample_aspect_ratio in (None, 0, 1)
