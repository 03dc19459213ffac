"""`kinoform evaluate --inputs`: its tables, its JSON, its page, and what it refuses before any video."""

import re
from pathlib import Path

import numpy as np
import pytest

from kinoform.evaluation.generate import Generated
from kinoform.media.video import Video
from kinoform.world.render import render
from tests.support.command_line import Run

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
FEW = ("evaluate", "mini", "--inputs", "--count", 1, "--device", "cpu")


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Videos show what is asked, at no cost; the changes with which each was asked for."""
    asked_for: list[dict] = []

    def made(pipeline, case, changes) -> Generated:
        asked_for.append(dict(changes))
        frames = render(case.target)
        kept = np.ones(frames.shape[:3], dtype=bool)
        return Generated(video=Video(frames=frames, fps=16.0), raw=frames, kept=kept)

    monkeypatch.setattr("kinoform.evaluation.evaluate.generated", made)
    monkeypatch.setattr("kinoform.evaluation.evaluate.redrawn", lambda pipeline, frames: frames)
    return asked_for


def test_all_tasks_of_the_model_without_a_word(kinoform: Run, painted: list[dict]) -> None:
    ran = kinoform(*FEW, "--json")
    assert ran.code == 0, ran.err
    told = ran.told[0]
    assert [case["name"] for case in told["cases"]] == ["recolour", "reshape", "remove", "insert", "all edits"]
    assert told["cases"][0]["skill"]["edit_right"]["right"] == 1 and told["cases"][-1]["videos"] == []
    assert told["model"] == "mini" and told["others"] == []
    section = PAGE.split("### Result of `evaluate`")[1].split("###")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == told.keys()
    assert all(f"`{name}`" in section for name in told["cases"][0])
    assert len(painted) == 4


def test_the_table_has_a_row_for_each_mark(kinoform: Run, painted: list[dict]) -> None:
    shown = kinoform(*FEW, "--task", "insert").out
    rows = (
        "edit right",
        "background",
        "motion",
        "all right",
        "kept PSNR, dB",
        "seconds a video",
        "codec ceiling",
        "chance",
    )
    assert all(row in shown for row in rows) and "insert: of 1 videos" in shown


def test_named_tasks_beside_other_settings(kinoform: Run, painted: list[dict]) -> None:
    sides = ("--steps", 2, "--compare", "steps=3", "--compare", "steps=4")
    ran = kinoform(*FEW, "--task", "reshape", "--task", "insert", *sides)
    assert ran.code == 0, ran.err
    assert [asked["steps"] for asked in painted] == [2, 2, 3, 3, 4, 4]
    assert "reshape: of 1 videos" in ran.out and "recolour" not in ran.out
    assert all(words in ran.out for words in ("edit right", "difference", "kept PSNR, dB"))
    assert all(words in ran.out for words in ("steps=3", "steps=4", "difference of each to", "each side less"))


def test_the_page_tells_its_own_command(kinoform: Run, painted: list[dict], here: Path) -> None:
    assert kinoform(*FEW, "--task", "remove", "--html", "page.html").code == 0
    text = (here / "page.html").read_text(encoding="utf-8")
    assert "<code>kinoform evaluate mini --device cpu --inputs --task remove --count 1</code>" in text
    assert text.count("<img") == 1


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--inputs", "--task", "remov"], "unknown_name", "'remove'"),
        (["--inputs", "--level", "L1"], "options_conflict", "--level"),
        (["--task", "remove"], "option_missing", "--task"),
        (["--inputs", "--steps", 0], "value_out_of_range", "steps"),
        (["--inputs", "--html", "no/such/page.html"], "folder_missing", "no/such"),
    ],
)
def test_what_is_refused_is_refused_before_any_video(
    kinoform: Run, here: Path, words: list, code: str, named: str
) -> None:
    ran = kinoform("evaluate", "mini", "--device", "cpu", *words)
    assert ran.refusal == code and named in ran.sentence and ran.out == "" and not list(here.iterdir())
