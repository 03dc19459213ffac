"""The page and the tables of inputs show every case, every video that was kept, and what it was made from."""

import re

import numpy as np
import pytest

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import FRAMES, MASK
from kinoform.evaluation.benchmark import Contender
from kinoform.evaluation.inputs.benchmark import InputsPlace, benchmark_inputs
from kinoform.evaluation.inputs.case import Case
from kinoform.evaluation.inputs.evaluate import tasks_for
from kinoform.evaluation.inputs.making import Made
from kinoform.evaluation.inputs.page import inputs_page, strip
from kinoform.evaluation.inputs.report import InputsReport
from kinoform.evaluation.inputs.tables import inputs_tables
from kinoform.evaluation.page import image
from kinoform.media.types import InputImage
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.render import render
from kinoform.world.sampling import scene_from_seed


@pytest.fixture(scope="module")
def made(mini: Pipeline) -> tuple[InputsReport, dict[InputsPlace, bytes]]:
    """Two scenes of two kinds of edit on each of two sides; those of the second side show nothing."""
    images: dict[InputsPlace, bytes] = {}
    videos: list[str] = []

    def half(pipeline: Pipeline, case: Case, changes: object) -> Made:
        videos.append(case.prompt)
        frames = render(case.target) if len(videos) <= 4 else np.zeros((17, 64, 64, 3), dtype=np.uint8)
        assert case.inputs[MASK] is not None
        kept = case.inputs[MASK].values < 128
        return Made(video=Video(frames=frames, fps=16.0), raw=frames, kept=kept, figures={"seam_delta_e": 1.25})

    def watch(place: InputsPlace, case: Case, video: Video) -> None:
        images[place] = image(strip(case, video))

    sides = Contender(pipeline=mini), Contender(pipeline=mini, changes={"steps": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kinoform.evaluation.inputs.evaluate.made", half)
        patch.setattr("kinoform.evaluation.inputs.evaluate.redrawn", lambda pipeline, frames: frames)
        return benchmark_inputs(*sides, tasks_for(mini, ["recolour", "remove"]), count=2, watch=watch), images


def test_every_case_has_its_table(made) -> None:
    report, _ = made
    recolour, remove, joined = inputs_tables(report)
    assert recolour.title == "recolour, of 2 held-out videos"
    assert joined.title == "all edits (recolour, remove), of 4 held-out videos"
    assert remove.heading == ("", "mini steps=16", "mini steps=3", "difference")
    for table in (recolour, remove, joined):
        assert all(len(row) == len(table.heading) for row in table.rows)
        rows = {row[0]: row[1:] for row in table.rows}
        assert rows["edit right"][0].startswith("1.00") and rows["edit right"][1].startswith("0.00")
        assert rows["edit right"][2].startswith("-1.00")
        assert rows["kept PSNR, dB"][0] == "100.00 (+0.00)"
        assert re.fullmatch(r"\d+\.\d\d \(-\d+\.\d\d\)", rows["kept PSNR, dB"][1])
        assert rows["seam Delta E"][:2] == ("1.25", "1.25")


def test_one_side_stands_beside_the_codec_and_chance(made) -> None:
    report, _ = made
    for table in inputs_tables(InputsReport(first=report.first)):
        rows = {row[0]: row[1:] for row in table.rows}
        assert table.heading == ("", "videos", "codec ceiling", "chance")
        assert rows["edit right"][1] == "1.00" and 0 < float(rows["edit right"][2]) < 1
        assert rows["kept PSNR, dB"] == ("100.00 (+0.00)", "100.00", "")


def test_the_page_shows_every_video_that_was_kept(made) -> None:
    report, images = made
    text = inputs_page(report, command="kinoform evaluate <&>", images=images)
    assert text.count("<img") == len(images) == 8 and text.count('<div class="card wrong">') == 4
    assert "kinoform evaluate &lt;&amp;&gt;" in text and "all edits" in text
    assert all(video.prompt in text for case in report.first.cases for video in case.videos)
    assert inputs_page(report, command="", images={}).count("<img") == 0
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r'"data:[^"]*"', "", text))


def test_a_video_stands_to_the_right_of_what_it_was_made_from() -> None:
    scene = scene_from_seed(0)
    frames = render(scene)
    video = Video(frames=frames, fps=16.0)
    known = InputImage(pixels=255 - frames[3])
    shown = strip(Case(prompt="", seed=0, target=scene, inputs=Inputs({FRAMES: {0: known}})), video)
    assert shown.frames.shape == (17, 64, 128, 3) and np.array_equal(shown.frames[:, :, 64:], frames)
    assert all(np.array_equal(frame, known.pixels) for frame in shown.frames[:, :, :64])
    assert np.array_equal(strip(Case(prompt="", seed=0, target=scene), video).frames, frames)
