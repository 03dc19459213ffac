"""What an image shows is judged beside words where a side takes references; what videos take stands beside both."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from kinoform.errors import UsageError
from kinoform.evaluation.benchmark import Contender, Place
from kinoform.evaluation.combined_report import Judgement, judgement, judgement_page, judgement_tables, stages_of
from kinoform.evaluation.inputs.benchmark import InputsPlace
from kinoform.evaluation.inputs.case import Case
from kinoform.evaluation.inputs.making import Made
from kinoform.evaluation.prompts import Asked
from kinoform.evaluation.tables import Table, tables
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.render import render

CASES = ["reference", "no reference", "other reference"]
Seen = list[tuple[str, int, tuple[str, ...]]]


@pytest.fixture
def lossless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec without loss."""
    for module in ("kinoform.evaluation.evaluate", "kinoform.evaluation.inputs.evaluate"):
        monkeypatch.setattr(f"{module}.redrawn", lambda pipeline, frames: frames)


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch, paint: Callable, lossless: None) -> Seen:
    """Videos show what they are told: all that words say, and of an image's object nothing without the image."""
    seen: Seen = []

    def painted(asked: Asked) -> np.ndarray:
        seen.append((asked.prompt, asked.seed, ()))
        return render(asked.scene)

    def made(pipeline: Pipeline, case: Case, changes: object) -> Made:
        given = tuple(item.said for item in case.inputs)
        seen.append((case.prompt, case.seed, given))
        frames = render(case.target)
        if not given:
            frames[:] = frames[0, 0, 0]
        return Made(video=Video(frames=frames, fps=16.0), raw=frames, kept=None)

    paint(painted)
    monkeypatch.setattr("kinoform.evaluation.inputs.evaluate.made", made)
    return seen


def rows(table: Table) -> dict[str, tuple[str, ...]]:
    return {name: tuple(cells) for name, *cells in table.rows}


def test_both_sides_are_told_the_same_but_for_what_one_does_not_take(
    mini: Pipeline, factorized: Pipeline, seeing: Seen
) -> None:
    found = judgement(Contender(pipeline=factorized), Contender(pipeline=mini), levels=["L1"], count=2)
    assert found.identity is not None and found.identity.other is not None
    words, images = seeing[:8], seeing[8:]
    assert words[:4] == words[4:]
    assert [each[:2] for each in images[:6]] == [each[:2] for each in images[6:]]
    assert [given for *_, given in images] == [("references",), (), ("references",)] * 2 + [()] * 6
    assert [case.name for case in found.identity.first.cases] == CASES
    assert [case.left_out for case in found.identity.other.cases] == [("references",), (), ("references",)]
    by_mark = {name: {each.attribute: each for each in several} for name, several in found.identity.differences.items()}
    for name in CASES:
        for mark in ("identity", "colour", "shape"):
            each = by_mark[name][mark]
            assert each.difference == (0 if name == "no reference" else -1) and each.trials == 2, (name, mark)
            assert each.low < each.high
    assert all(each.difference == 0 for each in found.words.differences)
    told = json.loads(json.dumps(found.as_json()))
    assert [case["name"] for case in told["identity"]["cases"]] == CASES
    assert told["model"] == told["identity"]["model"] == "mini-factorized" and told["other"]["model"] == "mini"


@pytest.mark.parametrize(("sides", "judged"), [("m", False), ("f", True), ("mf", True)])
def test_identity_is_judged_where_a_side_takes_references(
    mini: Pipeline, factorized: Pipeline, seeing: Seen, sides: str, judged: bool
) -> None:
    first, *rest = (Contender(pipeline={"m": mini, "f": factorized}[side]) for side in sides)
    other = rest[0] if rest else None
    told: list[str] = []
    found = judgement(first, other, levels=["L1"], count=1, tell=lambda stage, *_: told.append(stage))
    assert (found.identity is not None) == judged == (found.as_json()["identity"] is not None)
    stages = list(stages_of(first, other, ["L1"]))
    assert set(stages) == set(told) and ("identity" in stages) == judged
    assert len(seeing) == len(sides) * (2 + 3 * judged)


def test_identity_has_the_level_of_its_scenes(factorized: Pipeline, seeing: Seen) -> None:
    side = Contender(pipeline=factorized)
    assert judgement(side, levels=["L2"], count=1).identity is None and len(seeing) == 2
    assert list(stages_of(side, None, ["L2", "L1"])) == ["L2 seen", "L2 held-out", "L1 seen", "L1 held-out", "identity"]


def test_tables_say_what_videos_take(mini: Pipeline, factorized: Pipeline, seeing: Seen) -> None:
    found = judgement(Contender(pipeline=factorized), Contender(pipeline=mini), levels=["L1"], count=1)
    *_, cost, reference, without, _ = judgement_tables(found)
    assert cost.heading == ("", "mini-factorized", "mini")
    flops = [side[0].flops for side in found.words.sides]
    assert None not in flops
    assert rows(cost)["GFLOP a video"] == tuple(f"{each.total / 1e9:.2f}" for each in flops if each)
    assert rows(cost)["of these the transformer"] == tuple(f"{each.transformer / 1e9:.2f}" for each in flops if each)
    assert all(float(cell) >= 0 for cell in rows(cost)["seconds a video"])
    assert "mini takes no references" in reference.title and "takes no" not in without.title
    shown, hidden = rows(reference)["GFLOP a video"], rows(without)["GFLOP a video"]
    assert float(shown[0]) > float(hidden[0]) == float(rows(cost)["GFLOP a video"][0])
    assert shown[1] == hidden[1], "what is not handed over takes nothing"


def test_operations_that_nobody_tells_are_a_dash(mini: Pipeline, seeing: Seen) -> None:
    words = judgement(Contender(pipeline=mini), levels=["L1"], count=1).words
    *_, cost = tables(replace(words, first=tuple(replace(each, flops=None) for each in words.first)))
    assert rows(cost)["GFLOP a video"] == rows(cost)["of these the transformer"] == ("-",)


def test_the_page_shows_videos_of_words_and_of_images(mini: Pipeline, factorized: Pipeline, seeing: Seen) -> None:
    places: dict[Place, bytes] = {}
    strips: dict[InputsPlace, bytes] = {}
    found = judgement(
        Contender(pipeline=factorized), Contender(pipeline=mini), levels=["L1"], count=1,
        watch=lambda place, video: places.update({place: b"word"}),
        watch_identity=lambda place, case, video: strips.update({place: b"strip"}),
    )  # fmt: skip
    assert len(places) == 2 * 2 and len(strips) == 2 * 3
    text = judgement_page(found, command="kinoform evaluate", images=places, strips=strips)
    assert text.count("<img") == 10 and all(f"<h2>{name}</h2>" in text for name in CASES)
    assert all(f"<caption>{table.title}</caption>" in text for table in judgement_tables(found))
    alone = judgement_page(Judgement(words=found.words, identity=None), command="", images={}, strips={})
    assert "GFLOP a video" in alone and "no reference" not in alone and "Identity" not in alone


@pytest.mark.usefixtures("lossless")
def test_a_reference_reaches_the_model_that_takes_it(mini: Pipeline, factorized: Pipeline, paint: Callable) -> None:
    paint(lambda asked: render(asked.scene))
    videos: dict[tuple[int, str], np.ndarray] = {}

    def watch(place: InputsPlace, case: Case, video: Video) -> None:
        videos[place.side, place.case] = video.frames

    sides = (Contender(pipeline=each, changes={"steps": 1}) for each in (factorized, mini))
    judgement(*sides, levels=["L1"], count=1, watch_identity=watch)
    assert not np.array_equal(videos[0, "reference"], videos[0, "no reference"])
    assert not np.array_equal(videos[0, "reference"], videos[0, "other reference"])
    assert all(np.array_equal(videos[1, name], videos[1, "no reference"]) for name in CASES), "it sees no images"


@pytest.mark.parametrize("words", [{"levels": ["L4"]}, {"count": 0}, {"levels": ["L4", "L1"]}])
def test_what_cannot_be_measured_is_refused_before_any_video(factorized: Pipeline, seeing: Seen, words: dict) -> None:
    with pytest.raises(UsageError):
        judgement(Contender(pipeline=factorized), **words)
    assert not seeing
