"""The page stands alone, is well formed, shows every prompt and every miss, and is the same bytes each time."""

import io
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageSequence

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import FRAMES, MASK
from kinoform.evaluation.benchmark import ModelUnderTest, VideoKey, benchmark
from kinoform.evaluation.case import Case
from kinoform.evaluation.evaluate import input_tasks
from kinoform.evaluation.generate import Generated
from kinoform.evaluation.metrics import Evaluation
from kinoform.evaluation.page import page, thumbnail
from kinoform.evaluation.report import Report
from kinoform.evaluation.tables import tables
from kinoform.evaluation.tasks import prompt_tasks
from kinoform.media.types import InputImage
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.render import render
from kinoform.world.sampling import scene_from_seed

EMPTY = {"meta", "img"}


class Reader(HTMLParser):
    """Text, classes and sources of a page whose elements close in the order in which they open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.sources: list[str] = []
        self.cards: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        self.cards += [value or "" for name, value in attrs if name == "class" and (value or "").startswith("card")]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def made(mini: Pipeline) -> tuple[Report, dict[VideoKey, bytes]]:
    """Two videos a split, and of two kinds of edit, on each of two sides; those of the second show no object later."""
    images: dict[VideoKey, bytes] = {}
    painted: list[int] = []

    def half(pipeline: Pipeline, case: Case, changes: object) -> Generated:
        painted.append(case.seed)
        frames = render(case.target)
        if len(painted) > 8:
            frames[1:] = 0
        mask = case.inputs[MASK]
        kept, figures = (None, {}) if mask is None else (mask.values < 128, {"boundary_delta_e": 1.25})
        return Generated(video=Video(frames=frames, fps=16.0), raw=frames, kept=kept, figures=figures)

    sides = ModelUnderTest(pipeline=mini), ModelUnderTest(pipeline=mini, changes={"steps": 3})
    tasks = (*prompt_tasks(["L1"]), *input_tasks(mini, ["recolour", "remove"]))
    keep = lambda key, case, video: images.update({key: thumbnail(case, video)})  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kinoform.evaluation.evaluate.generated", half)
        patch.setattr("kinoform.evaluation.evaluate.redrawn", lambda pipeline, frames: frames)
        return benchmark(sides[0], sides[1:], tasks, count=2, on_video=keep), images


def trials(report: Report):
    return [trial for side in report.sides for case in side.cases for trial in case.videos]


def test_the_page_is_whole_and_stands_alone(made) -> None:
    report, images = made
    text = page(report, command="kinoform evaluate <&>", images=images)
    read = Reader(text)
    assert read.open == []
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r'"data:[^"]*"', "", text))
    assert "script" not in read.tags and "link" not in read.tags
    shown = "".join(read.words)
    assert all(trial.prompt in shown and trial.video.read in shown for trial in trials(report))
    assert report.first.fingerprint in shown and "kinoform evaluate <&>" in shown
    assert all(table.title in shown for table in tables(report)) and "all edits" in shown
    assert len(read.sources) == len(images) == 16, "pooled cases show no video twice"


def test_videos_are_animations_in_the_page(made) -> None:
    report, images = made
    sources = Reader(page(report, command="", images=images)).sources
    for number, source in enumerate(sources):
        head, _, encoded = source.partition(",")
        image = Image.open(io.BytesIO(b64decode(encoded)))
        assert head == "data:image/webp;base64"
        assert image.size == (64 if number < 8 else 3 * 64, 64), "an edit stands beside its source and its mask"
        assert milliseconds(image) == pytest.approx(17 / 16 * 1000, abs=1)


def milliseconds(image: Image.Image) -> int:
    """Of the whole animation, whose encoder joins frames that are alike."""
    total = 0
    for frame in ImageSequence.Iterator(image):
        frame.load()
        total += frame.info["duration"]
    return total


def test_misses_can_be_seen(made) -> None:
    report, images = made
    both = Reader(page(report, command="", images=images))
    assert both.cards == ["card wrong"] * 8, "the second side is wrong"
    right = Reader(page(Report(first=report.first), command="", images=images))
    assert right.cards == ["card"] * 8
    assert "✗" not in "".join(right.words) and "✗\xa0count constancy" in "".join(both.words)


def renamed(evaluation: Evaluation, evil: str) -> Evaluation:
    cases = (
        replace(case, videos=tuple(replace(trial, prompt=evil) for trial in case.videos)) for case in evaluation.cases
    )
    return replace(evaluation, model=evil, cases=tuple(cases))


def test_names_and_prompts_are_text_whatever_they_hold(made) -> None:
    report, images = made
    evil = "<script>alert(1)</script>&\"'"
    text = page(Report(first=renamed(report.first, evil)), command=evil, images=images)
    assert evil not in text and "script" not in Reader(text).tags
    assert "".join(Reader(text).words).count(evil) >= 8 + 3


def test_the_same_evaluation_gives_the_same_bytes(made) -> None:
    report, images = made
    later = replace(report.first, cases=tuple(replace(case, seconds_per_video=9.0) for case in report.first.cases))
    first, again = (page(each, command="x", images=images) for each in (report, replace(report, first=later)))
    differing = [old for old, new in zip(first.splitlines(), again.splitlines(), strict=True) if old != new]
    assert differing and all("seconds a video" in line for line in differing)
    assert page(report, command="x", images=dict(reversed(images.items()))) == first


def test_without_images_there_are_tables_alone(made) -> None:
    report, _ = made
    read = Reader(page(report, command="", images={}))
    assert "table" in read.tags and "img" not in read.tags and not read.cards


def test_every_case_has_its_table(made) -> None:
    report, _ = made
    *_, recolour, remove, joined = tables(report)
    assert recolour.title == "recolour: of 2 videos at 64x64, 17 frames"
    assert joined.title == "all edits (recolour, remove): of 4 videos at 64x64, 17 frames"
    assert remove.heading == ("", "mini steps=16", "mini steps=3", "difference")
    for table in (recolour, remove, joined):
        assert all(len(row) == len(table.heading) for row in table.rows)
        rows = {row[0]: row[1:] for row in table.rows}
        assert rows["all right"][0].startswith("1.00") and rows["all right"][1].startswith("0.00")
        assert rows["all right"][2].startswith("-1.00")
        assert rows["kept PSNR, dB"][0] == "100.00 (+0.00)"
        assert re.fullmatch(r"\d+\.\d\d \(-\d+\.\d\d\)", rows["kept PSNR, dB"][1])
        assert rows["boundary Delta E"][:2] == ("1.25", "1.25")


def test_one_side_stands_beside_the_codec_and_chance(made) -> None:
    level, recolour, remove, joined = tables(Report(first=made[0].first))
    assert level.heading == ("", "seen", "held-out", "codec ceiling", "chance")
    assert level.title == "L1: of 2 videos each at 64x64, 17 frames" and level.cases == ("L1 seen", "L1 held-out")
    rows = {row[0]: row[1:] for row in level.rows}
    assert rows["PSNR, dB"] == ("", "", "100.00", "") and rows["all right"][2] == "1.00"
    for table in (recolour, remove, joined):
        rows = {row[0]: row[1:] for row in table.rows}
        assert table.heading == ("", "videos", "codec ceiling", "chance")
        assert rows["edit right"][1] == "1.00" and 0 < float(rows["edit right"][2]) < 1
        assert rows["kept PSNR, dB"] == ("100.00 (+0.00)", "100.00", "")
        assert all(len(row) == len(table.heading) for row in table.rows)


def test_a_video_stands_to_the_right_of_what_it_was_made_from() -> None:
    scene = scene_from_seed(0)
    video = Video(frames=render(scene), fps=16.0)
    known = InputImage(pixels=255 - video.frames[3])
    beside = Image.open(
        io.BytesIO(thumbnail(Case(prompt="", seed=0, target=scene, inputs=Inputs({FRAMES: {0: known}})), video))
    )
    pixels = np.asarray(beside.convert("RGB")).astype(int)
    assert pixels.shape == (64, 128, 3)
    assert np.abs(pixels[:, :64] - known.pixels).mean() < 12 < np.abs(pixels[:, 64:] - known.pixels).mean()
    assert np.abs(pixels[:, 64:] - video.frames[0]).mean() < 12
