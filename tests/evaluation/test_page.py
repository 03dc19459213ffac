"""The page stands alone, is well formed, shows every prompt and every miss, and is the same bytes each time."""

import io
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image, ImageSequence

from kinoform.evaluation.benchmark import Contender, Place, benchmark
from kinoform.evaluation.page import image, page
from kinoform.evaluation.prompts import Asked
from kinoform.evaluation.report import Report
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.render import render

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
def made(mini: Pipeline) -> tuple[Report, dict[Place, bytes]]:
    """Two videos a split on each of two sides; those of the second side have no object after the first frame."""
    images: dict[Place, bytes] = {}
    painted: list[int] = []

    def half(pipeline: Pipeline, asked: Asked, changes: object) -> Video:
        painted.append(asked.seed)
        frames = render(asked.scene)
        if len(painted) > 4:
            frames[1:] = frames[0, 0, 0]
        return Video(frames=frames, fps=16.0)

    sides = Contender(pipeline=mini), Contender(pipeline=mini, changes={"steps": 3})
    watch = lambda place, video: images.update({place: image(video)})  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kinoform.evaluation.evaluate._video", half)
        return benchmark(*sides, levels=["L1"], count=2, watch=watch), images


def test_the_page_is_whole_and_stands_alone(made) -> None:
    report, images = made
    text = page(report, command="kinoform evaluate mini", images=images)
    read = Reader(text)
    assert read.open == []
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r'"data:[^"]*"', "", text))
    assert "script" not in read.tags and "link" not in read.tags
    shown = "".join(read.words)
    for split in report.first[0].splits:
        for trial in split.videos:
            assert trial.prompt in shown and trial.video.read in shown
    assert report.first[0].fingerprint in shown and "kinoform evaluate mini" in shown
    assert len(read.sources) == len(images) == 8


def test_videos_are_animations_in_the_page(made) -> None:
    report, images = made
    sources = Reader(page(report, command="", images=images)).sources
    for source in sources:
        head, _, encoded = source.partition(",")
        image = Image.open(io.BytesIO(b64decode(encoded)))
        assert head == "data:image/webp;base64"
        assert image.size == (64, 64) and milliseconds(image) == pytest.approx(17 / 16 * 1000, abs=1)


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
    assert both.cards == ["card wrong"] * 4, "the second side is wrong"
    right = Reader(page(Report(first=report.first), command="", images=images))
    assert right.cards == ["card"] * 4
    assert "✗" not in "".join(right.words) and "".join(both.words).count("✗\xa0count constancy") == 4


def test_names_and_prompts_are_text_whatever_they_hold(made) -> None:
    report, images = made
    evil = "<script>alert(1)</script>&\"'"
    splits = tuple(
        replace(split, videos=tuple(replace(video, prompt=evil) for video in split.videos))
        for split in report.first[0].splits
    )
    named = Report(first=(replace(report.first[0], model=evil, splits=splits),))
    text = page(named, command=evil, images=images)
    assert evil not in text and "script" not in Reader(text).tags
    assert "".join(Reader(text).words).count(evil) >= 4 + 3


def test_the_same_evaluation_gives_the_same_bytes(made) -> None:
    report, images = made
    later = Report(
        first=tuple(
            replace(each, splits=tuple(replace(split, seconds_per_video=9.0) for split in each.splits))
            for each in report.first
        ),
        other=report.other,
    )
    first, again = (page(each, command="x", images=images) for each in (report, later))
    differing = [old for old, new in zip(first.splitlines(), again.splitlines(), strict=True) if old != new]
    assert differing and all("seconds a video" in line for line in differing)
    assert page(report, command="x", images=dict(reversed(images.items()))) == first


def test_without_images_there_are_tables_alone(made) -> None:
    report, _ = made
    read = Reader(page(report, command="", images={}))
    assert "table" in read.tags and "img" not in read.tags and not read.cards
