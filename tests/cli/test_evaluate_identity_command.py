"""`kinoform evaluate` of a model that takes references, beside one that takes none: one command, one report."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kinoform.evaluation.generate import Generated
from kinoform.media.video import Video
from kinoform.world.render import render
from tests.support.command_line import Run

FEW = ("--level", "L1", "--count", 2, "--device", "cpu")
CASES = ("reference", "no reference", "other reference")


@pytest.fixture(autouse=True)
def painted() -> Iterator[None]:
    """Videos show what is asked, at no cost, under a codec without loss."""

    def made(pipeline, case, changes) -> Generated:
        frames = render(case.target)
        return Generated(video=Video(frames=frames, fps=16.0), raw=frames, kept=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kinoform.evaluation.evaluate.generated", made)
        patch.setattr("kinoform.evaluation.evaluate.redrawn", lambda pipeline, frames: frames)
        yield


def test_attributes_identity_and_cost_in_one_report(kinoform: Run) -> None:
    ran = kinoform("evaluate", "--compare", "mini", "mini-factorized", *FEW)
    assert ran.code == 0, ran.err
    titles = [f"{case}: of 2 videos" for case in ("L1 seen", "L1 held-out", *CASES)]
    places = [ran.out.index(f"\n{title}") for title in titles]
    assert places == sorted(places)
    assert all(row in ran.out for row in ("seconds a video", "GFLOP a video", "transformer GFLOP", "identity"))
    assert ran.out.count("mini takes no references") == 2 and "difference: the second side less the first" in ran.out


def test_the_same_as_json(kinoform: Run) -> None:
    told = kinoform("evaluate", "--compare", "mini", "mini-factorized", *FEW, "--json").told[0]
    assert (told["model"], told["others"][0]["model"]) == ("mini-factorized", "mini")
    for side in (told, told["others"][0]):
        assert all(0 < case["flops"]["transformer"] < case["flops"]["total"] for case in side["cases"])
    assert [case["name"] for case in told["cases"]] == ["L1 seen", "L1 held-out", *CASES]
    assert {each["mark"] for each in told["others"][0]["differences"]} >= {"identity", "colour", "shape"}
    assert told["others"][0]["cases"][2]["left_out"] == ["references"]


def test_the_page_shows_images_and_what_was_made_of_them(kinoform: Run, here: Path) -> None:
    words = ("evaluate", "mini-factorized", *FEW, "--html", "page.html", "--html-videos", 1)
    assert kinoform(*words).code == 0
    text = (here / "page.html").read_text(encoding="utf-8")
    assert "--level L1 --count 2</code>" in text and "GFLOP a video" in text
    assert text.count("<img") == 2 + len(CASES) and all(f"<h3>{case}: 1 of 2 videos</h3>" in text for case in CASES)


def test_another_level_has_no_identity(kinoform: Run) -> None:
    told = kinoform("evaluate", "mini-factorized", "--level", "L2", "--count", 1, "--device", "cpu", "--json").told[0]
    assert [case["name"] for case in told["cases"]] == ["L2 seen", "L2 held-out"]
