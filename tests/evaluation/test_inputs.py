"""What is counted of inputs is what the videos show: perfect videos are right, blind ones are at chance."""

import json
import weakref
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.references import InContextReferences
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES, VIDEO
from kinoform.conditions.video_to_video import StartVideo
from kinoform.evaluation.benchmark import ModelUnderTest, benchmark
from kinoform.evaluation.case import Case, rendered
from kinoform.evaluation.evaluate import evaluate, input_tasks
from kinoform.evaluation.generate import Generated, generated, in_place, redrawn
from kinoform.evaluation.metrics import CaseMetrics
from kinoform.evaluation.result import judge
from kinoform.evaluation.tasks import INPUT_TASKS
from kinoform.loading.additions import with_additions
from kinoform.media.video import Video
from kinoform.mini import adapters as mini_adapters
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipe import Recipe
from kinoform.world.caption import SHAPE_PHRASES, words
from kinoform.world.render import render
from kinoform.world.sampling import L1, scene_from_seed
from tests.support.narrowing import some
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline, write_tiny_folder

SIZE = VideoSize(num_frames=17, height=64, width=64)
BLACK = np.zeros((17, 64, 64, 3), dtype=np.uint8)
EDITS = ("recolour", "reshape", "remove", "insert")


@pytest.fixture
def reader_of_all(mini: Pipeline) -> Pipeline:
    """A model that takes every input, of which only the requests are made."""
    conditioners = (StartVideo(), KnownFrames(required=False), InContextReferences())
    return replace(mini, recipe=replace(mini.recipe, conditioners=conditioners))


def by_name(cases: tuple[CaseMetrics, ...]) -> Mapping[str, CaseMetrics]:
    return {case.name: case for case in cases}


def test_perfect_videos_are_right_in_every_task(reader_of_all: Pipeline, paint, lossless) -> None:
    paint(lambda case: rendered(case.target, SIZE))
    found = evaluate(reader_of_all, INPUT_TASKS, count=1)
    names = {
        "first frame",
        "first and last",
        "text alone",
        "other caption",
        *EDITS,
        "insert reference",
        "replace reference",
        "all edits",
    }
    references = {"reference", "no reference", "other reference", "reference or words"}
    assert {case.name for case in found.cases} == names | references
    for case in found.cases:
        few = {"binding_error", "former_motion"}
        assert all(share.right == (0 if mark in few else share.trials) for mark, share in case.skill.items()), case.name
        assert case.ceiling.keys() == case.skill.keys() and case.left_out == ()
        given = case.name not in references | {"text alone"}
        assert case.figures == ({"kept_psnr": 100.0} if given else {}) | {"background_drift": 0.0}
        assert case.ceiling_figures == case.figures | {"psnr": 100.0, "foreground_psnr": 100.0}


def test_videos_of_noise_are_wrong_in_every_task(reader_of_all: Pipeline, paint, lossless) -> None:
    noise = np.random.default_rng(0)
    paint(lambda case: noise.integers(0, 256, (17, 64, 64, 3), dtype=np.uint8))
    for case in evaluate(reader_of_all, INPUT_TASKS, count=1).cases:
        assert not any(case.skill[mark].right for mark in ("edit_right", "identity", "all_right") if mark in case.skill)
        assert case.figures.get("kept_psnr", 0.0) < 15


def test_videos_that_look_at_nothing_are_at_chance(reader_of_all: Pipeline, paint, lossless) -> None:
    scenes = iter(range(1000))
    paint(lambda case: render(scene_from_seed(next(scenes))))
    (task,) = (task for task in INPUT_TASKS if task.name == "identity")
    cases = evaluate(reader_of_all, [task], count=20).cases
    for mark in ("colour", "shape", "motion", "background", "identity"):
        right = sum(case.skill[mark].right for case in cases)
        assert right / 60 == pytest.approx(cases[0].chance[mark], abs=0.12), mark


def test_a_model_without_references_is_told_in_words(reader_of_all: Pipeline, mini: Pipeline, paint, lossless) -> None:
    told: list[tuple[str, bool]] = []

    def painted(case: Case) -> np.ndarray:
        told.append((case.prompt, REFERENCE_IMAGES in case.inputs))
        return rendered(case.target, SIZE)

    paint(painted)
    tasks = input_tasks(reader_of_all, ["identity beside words"])
    sides = [ModelUnderTest(pipeline=each) for each in (reader_of_all, mini)]
    found = benchmark(sides[0], sides[1:], tasks, count=2)
    shapes = {word for choices in SHAPE_PHRASES.values() for phrase in choices for word in words(phrase)}
    assert [(given, bool(shapes & {*words(text)})) for text, given in told] == 2 * [(True, False)] + 2 * [(False, True)]
    assert found.differences[0]["reference or words"]["identity"].trials == 2


def test_the_source_is_no_edit(reader_of_all: Pipeline, paint, lossless) -> None:
    def source(case: Case) -> np.ndarray:
        assert case.inputs[VIDEO] is not None
        return some(case.inputs[VIDEO]).frames

    paint(source)
    found = by_name(evaluate(reader_of_all, input_tasks(reader_of_all, EDITS), count=2).cases)
    for name in (*EDITS, "all edits"):
        assert found[name].skill["edit_right"].right == 0 and found[name].skill["background"].right > 0
        assert found[name].figures["kept_psnr"] == 100.0, "outside the mask nothing is changed"


def test_a_video_that_goes_on_as_its_frame_began_is_seen(reader_of_all: Pipeline, paint, lossless) -> None:
    """The frame alone may give a motion away; then the words count for nothing."""

    def former(case: Case) -> np.ndarray:
        assert case.former is not None
        scene = replace(case.target, story=case.former)
        return rendered(replace(scene, things=(replace(scene.things[0], subject=case.former.subjects[0]),)), SIZE)

    paint(former)
    (case,) = evaluate(reader_of_all, input_tasks(reader_of_all, ["other caption"]), count=3).cases
    assert case.skill["motion"].right == 0 and case.skill["former_motion"].right == 3
    assert case.skill["colour"].right == 3


def test_cases_are_pooled_video_by_video(reader_of_all: Pipeline, paint, lossless) -> None:
    paint(lambda case: rendered(case.target, SIZE) if len(case.target.things) == 2 else BLACK)
    *single, joined = evaluate(reader_of_all, input_tasks(reader_of_all, EDITS), count=1).cases
    assert joined.name == "all edits" and joined.joins == EDITS and len(joined.videos) == 4
    assert joined.skill["edit_right"].right == sum(case.skill["edit_right"].right for case in single)
    assert joined.skill["edit_right"].trials == 4 and joined.skill["count"].right == 1
    assert joined.chance["edit_right"] == pytest.approx(np.mean([case.chance["edit_right"] for case in single]))


def test_the_ceiling_is_what_the_codec_makes_of_the_scene(mini: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = lambda case: rendered(case.target, SIZE)  # noqa: E731
    monkeypatch.setattr(
        "kinoform.evaluation.evaluate.generated",
        lambda pipeline, case, changes: Generated(
            video=Video(frames=frames(case), fps=16.0), raw=BLACK, kept=BLACK[..., 0] == 0
        ),
    )
    case, _ = evaluate(mini, input_tasks(mini, ["recolour"]), count=1).cases
    assert 20 < case.ceiling_figures["kept_psnr"] < 60 and case.figures["kept_psnr"] < 15
    assert case.ceiling["edit_right"].right == 1


def test_the_codec_redraws_a_scene_once(reader_of_all: Pipeline, paint, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(lambda case: BLACK)
    drawn: list[bytes] = []
    monkeypatch.setattr(
        "kinoform.evaluation.evaluate.redrawn",
        lambda pipeline, frames: drawn.append(frames.tobytes()) or frames,
    )
    evaluate(reader_of_all, input_tasks(reader_of_all, ["known frames", "identity"]), count=2)
    assert len(drawn) == 2 * (1 + 2) == len(set(drawn)), "one of known frames; of identity one for each object"


def test_a_side_that_takes_less_gets_less(mini: Pipeline, reader_of_all: Pipeline, paint, lossless) -> None:
    seen: list[tuple[str, ...]] = []

    def painted(case: Case) -> np.ndarray:
        seen.append(tuple(item.said for item in case.inputs))
        return rendered(case.target, SIZE) if case.inputs else BLACK

    paint(painted)
    tasks = input_tasks(reader_of_all, ["identity", "insert reference"])
    found = benchmark(ModelUnderTest(pipeline=reader_of_all), [ModelUnderTest(pipeline=mini)], tasks, count=1)
    assert seen[4:] == [("video", "mask"), (), (), ()], "what the model does not take is not handed over"
    assert by_name(found.others[0].cases)["reference"].left_out == ("references",)
    (shape,) = (each for each in found.differences[0]["reference"].values() if each.mark == "identity")
    assert (shape.only_first, shape.only_other, shape.difference) == (1, 0, -1.0)
    assert all(each.difference == 0 for each in found.differences[0]["insert reference"].values())
    told = json.loads(json.dumps(found.as_json()))
    assert told["others"][0]["cases"][0]["name"] == told["cases"][0]["name"] == "insert reference"
    assert told["others"][0]["differences"][0].keys() >= {"case", "mark", "difference", "low", "high"}


def test_videos_are_edited_one_at_a_time_and_each_as_if_alone(mini: Pipeline) -> None:
    kept: list[weakref.ref] = []
    frames: dict[tuple[str, int], np.ndarray] = {}
    told: list[tuple[str, int, int]] = []

    def on_video(name: str, number: int, case: Case, video: Video) -> None:
        kept.append(weakref.ref(video.frames))
        assert sum(each() is not None for each in kept) <= 2
        frames[name, number] = video.frames.copy()

    tasks = input_tasks(mini, ["reshape"])
    found = evaluate(mini, tasks, count=2, steps=2, on_video=on_video, on_progress=lambda *words: told.append(words))
    assert told == [("reshape", 1, 2), ("reshape", 2, 2)] and found.settings["steps"] == 2
    case = by_name(found.cases)["reshape"]
    assert case.skill["outside_equal"].right == 2 and case.figures["boundary_delta_e"] >= 0
    again: dict[tuple[str, int], np.ndarray] = {}
    evaluate(
        mini, tasks, count=1, steps=2, on_video=lambda name, n, case, video: again.update({(name, n): video.frames})
    )
    assert np.array_equal(again["reshape", 0], frames["reshape", 0])
    assert not np.array_equal(frames["reshape", 0], frames["reshape", 1])


def put_onto(mini: Pipeline, recipe: Recipe) -> Pipeline:
    """The embedded model with additions as they are before training."""
    parts = with_additions(mini.parts, recipe.additions, mini.recipe.transformers)
    return replace(mini, recipe=recipe, parts=parts)


def test_what_the_codec_spoils_outside_the_mask_does_not_count_against_an_edit(mini: Pipeline) -> None:
    (task,) = input_tasks(mini, ["remove"])
    case = task.cases(1, SIZE)["remove"]
    codec = redrawn(mini, rendered(case.target, SIZE))
    found = generated(mini, case, {"steps": 1})
    laid, figures = in_place(case, found, codec)
    assert case.inputs[VIDEO] is not None and found.alpha is not None
    outside = found.alpha == 0
    assert np.array_equal(laid[outside], some(case.inputs[VIDEO]).frames[outside])
    assert np.array_equal(laid[found.alpha == 1], codec[found.alpha == 1]) and figures["boundary_delta_e"] >= 0
    marks = [judge(case.target.story, L1, frames).marks["all_right"] for frames in (codec, laid)]
    assert marks == [False, True], "small things that bounce are too fast for this codec"


def test_a_first_frame_that_is_imposed_comes_back_as_the_codec_has_it(mini: Pipeline) -> None:
    model = put_onto(mini, mini_adapters.frames())
    cases = by_name(evaluate(model, input_tasks(model, ["known frames"]), count=1, steps=1).cases)
    first, both = cases["first frame"], cases["first and last"]
    assert first.figures["kept_psnr"] == pytest.approx(first.ceiling_figures["kept_psnr"], abs=0.5)
    assert both.figures["kept_psnr"] < first.figures["kept_psnr"], "nothing has learnt to end in the last frame"
    assert "kept_psnr" not in cases["text alone"].figures


def test_references_and_videos_reach_a_model_that_takes_both(mini: Pipeline) -> None:
    model = put_onto(mini, mini_adapters.vace())
    references = ["insert reference", "replace reference", "identity", "identity beside words"]
    assert [task.name for task in input_tasks(model)] == [*EDITS, *references]
    tasks = input_tasks(model, ["insert reference", "identity"])
    cases = by_name(evaluate(model, tasks, count=1, steps=1).cases)
    assert cases["insert reference"].skill["outside_equal"].right == 1
    assert cases["reference"].videos[0].seed == cases["other reference"].videos[0].seed


def test_tasks_follow_from_what_a_model_takes(mini: Pipeline, reader_of_all: Pipeline) -> None:
    assert [task.name for task in input_tasks(mini)] == list(EDITS)
    assert input_tasks(reader_of_all) == INPUT_TASKS
    with refused("unknown_name", "'recolor'", "'recolour'"):
        input_tasks(mini, ["recolor"])
    deaf = replace(mini, recipe=replace(mini.recipe, conditioners=()))
    with refused("task_missing"):
        input_tasks(deaf)


@pytest.mark.parametrize("words", [{"count": 0}, {"steps": 0}])
def test_what_cannot_be_measured_is_refused_before_any_video(mini: Pipeline, paint, words: dict) -> None:
    paint(lambda case: pytest.fail("a video was made"))
    with refused("value_out_of_range", next(iter(words))):
        evaluate(mini, input_tasks(mini), **words)


def test_a_model_of_other_words_is_refused_before_any_video(mini: Pipeline, paint, tmp_path) -> None:
    paint(lambda case: pytest.fail("a video was made"))
    other = tiny_pipeline(write_tiny_folder(tmp_path / "tiny"))
    with refused("weights_wrong_vocabulary"):
        evaluate(other, input_tasks(mini))
