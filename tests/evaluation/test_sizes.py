"""Skill at other sizes: the same prompts and seeds, scenes of that size, and a size that stands in every result."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from kinoform.conditions.protocols import VideoSize
from kinoform.editing.settings import EditSettings
from kinoform.evaluation.benchmark import ModelUnderTest, benchmark
from kinoform.evaluation.case import Case
from kinoform.evaluation.evaluate import evaluate
from kinoform.evaluation.generate import EXACT, generated
from kinoform.evaluation.tables import tables
from kinoform.evaluation.tasks import INPUT_TASKS, LEVELS, prompt_tasks
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.render import render
from tests.support.refusals import refused

SMALL = VideoSize(num_frames=17, height=64, width=64)
SIZES = ((33, 96, 96), (33, 64, 112), (17, 128, 128))


@pytest.mark.parametrize(("num_frames", "height", "width"), SIZES)
def test_every_size_has_the_same_prompts_and_seeds(num_frames: int, height: int, width: int) -> None:
    size = VideoSize(num_frames=num_frames, height=height, width=width)
    for task in (*prompt_tasks(), *INPUT_TASKS):
        small, large = (
            [(name, case.prompt, case.seed, case.target) for name, case in task.cases(0, item).items()]
            for item in (SMALL, size)
        )
        assert small == large


@pytest.mark.parametrize(("num_frames", "height", "width"), SIZES)
def test_rendered_videos_are_right_and_steady(
    mini: Pipeline, paint: Callable, lossless: None, num_frames: int, height: int, width: int
) -> None:
    paint(lambda case: render(case.target, num_frames=num_frames, height=height, width=width))
    found = evaluate(mini, prompt_tasks(["L1", "L3"]), count=1, num_frames=num_frames, height=height, width=width)
    for case in found.cases:
        for shares in (case.skill, case.ceiling):
            assert shares["all_right_and_steady"].share == shares["count_constancy"].share == 1, case.name
        assert case.figures.get("background_drift", 0) == 0
        assert case.ceiling_figures["psnr"] == case.ceiling_figures["foreground_psnr"] == EXACT
    assert found.size == f"{width}x{height}, {num_frames} frames"


def test_two_sizes_of_a_model_are_compared_by_prompt_and_told_apart(mini: Pipeline, paint: Callable) -> None:
    sizes: list[tuple[int, ...]] = []

    def first_wrong(case: Case) -> np.ndarray:
        sizes.append((17, 64, 64) if len(sizes) < 2 else (9, 64, 96))
        num_frames, height, width = sizes[-1]
        video = render(case.target, num_frames=num_frames, height=height, width=width)
        return video * (len(sizes) > 1)

    paint(first_wrong)
    wide = ModelUnderTest(pipeline=mini, changes={"width": 96, "num_frames": 9})
    report = benchmark(ModelUnderTest(pipeline=mini), [wide], prompt_tasks(["L1"]), count=1)
    assert report.names == ("mini size=64x64 frames=17", "mini size=96x64 frames=9")
    assert report.differences[0]["L1 seen"]["all_right"].only_other == 1
    assert report.differences[0]["L1 held-out"]["all_right"].difference == 0
    assert not any("frames" in table.title for table in tables(report)), "the sides have different sizes"
    plain = json.loads(json.dumps(report.as_json()))
    assert plain["settings"]["width"] == 64
    assert plain["others"][0]["settings"]["width"] == 96 and plain["others"][0]["settings"]["num_frames"] == 9


@pytest.mark.parametrize(("side", "grow"), [(64, 2), (96, 3), (128, 4)])
def test_masks_of_edits_grow_with_the_frame(
    mini: Pipeline, monkeypatch: pytest.MonkeyPatch, side: int, grow: int
) -> None:
    grown: list[int] = []

    def stop(*words: object, settings: EditSettings, **others: object) -> None:
        grown.append(settings.edge((side, side))[0])
        raise KeyboardInterrupt

    monkeypatch.setattr("kinoform.evaluation.generate.edit", stop)
    (case,) = INPUT_TASKS[2].cases(0, VideoSize(num_frames=1, height=side, width=side + 16)).values()
    with pytest.raises(KeyboardInterrupt):
        generated(mini, case, {})
    assert grown == [grow]


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("size_not_multiple", {"width": 72}),
        ("frames_not_multiple", {"num_frames": 18}),
        ("value_out_of_range", {"height": 100_001}),
    ],
)
@pytest.mark.parametrize("task", [prompt_tasks(list(LEVELS)[:1])[0], INPUT_TASKS[2]], ids=lambda task: task.name)
def test_a_size_that_the_model_cannot_make_is_refused_before_a_scene_is_drawn(
    mini: Pipeline, monkeypatch: pytest.MonkeyPatch, task, code: str, changes: dict
) -> None:
    monkeypatch.setattr(type(task), "cases", lambda *_: pytest.fail("a scene was drawn"))
    with refused(code):
        evaluate(mini, [task], count=1, **changes)
