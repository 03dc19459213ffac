"""`kinoform evaluate` of a model that takes references, beside one that takes none: one command, one report."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Run
from kinoform.evaluation.inputs.making import Made
from kinoform.media.video import Video
from kinoform.world.render import render

FEW = ("--level", "L1", "--count", 2, "--device", "cpu")
CASES = ("reference", "no reference", "other reference")


@pytest.fixture(autouse=True)
def painted() -> Iterator[None]:
    """Videos show what is asked, at no cost, under a codec without loss."""

    def video(pipeline, asked, changes) -> Video:
        return Video(frames=render(asked.scene), fps=16.0)

    def made(pipeline, case, changes) -> Made:
        frames = render(case.target)
        return Made(video=Video(frames=frames, fps=16.0), raw=frames, kept=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kinoform.evaluation.evaluate._video", video)
        patch.setattr("kinoform.evaluation.evaluate.redrawn", lambda pipeline, frames: frames)
        patch.setattr("kinoform.evaluation.inputs.evaluate.made", made)
        patch.setattr("kinoform.evaluation.inputs.evaluate.redrawn", lambda pipeline, frames: frames)
        yield


def test_attributes_identity_and_cost_in_one_report(kinoform: Run) -> None:
    ran = kinoform("evaluate", "--compare", "mini", "mini-factorized", *FEW)
    assert ran.code == 0, ran.err
    titles = ["L1, seen:", "L1, held-out:", "what a video takes", *(f"{case}, of 2 held-out videos" for case in CASES)]
    places = [ran.out.index(f"\n{title}") for title in titles]
    assert places == sorted(places)
    assert all(row in ran.out for row in ("seconds a video", "GFLOP a video", "of these the transformer", "identity"))
    assert ran.out.count("mini takes no references") == 2 and "difference: the second side less the first" in ran.out


def test_the_same_as_json(kinoform: Run) -> None:
    told = kinoform("evaluate", "--compare", "mini", "mini-factorized", *FEW, "--json").told[0]
    assert (told["model"], told["other"]["model"]) == ("mini-factorized", "mini")
    for side in (told, told["other"]):
        assert 0 < side["flops"]["transformer"] < side["flops"]["total"]
    identity = told["identity"]
    assert [case["name"] for case in identity["cases"]] == list(CASES)
    assert {each["attribute"] for each in identity["differences"]} >= {"identity", "colour", "shape"}
    assert identity["other"]["cases"][0]["left_out"] == ["references"]


def test_the_page_shows_images_and_what_was_made_of_them(kinoform: Run, here: Path) -> None:
    words = ("evaluate", "mini-factorized", *FEW, "--html", "page.html", "--html-videos", 1)
    assert kinoform(*words).code == 0
    text = (here / "page.html").read_text(encoding="utf-8")
    assert "--level L1 --count 2</code>" in text and "GFLOP a video" in text
    assert text.count("<img") == 2 + len(CASES) and all(f"<h2>{case}</h2>" in text for case in CASES)


def test_another_level_has_no_identity(kinoform: Run) -> None:
    told = kinoform("evaluate", "mini-factorized", "--level", "L2", "--count", 1, "--device", "cpu", "--json").told[0]
    assert told["identity"] is None and told["flops"]["total"] > 0
