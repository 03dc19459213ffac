"""The scenes of every task are such that what it counts means what it says."""

from hashlib import sha256

import numpy as np
import pytest

from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.evaluation.case import Case, Task, rendered
from kinoform.evaluation.result import judge
from kinoform.evaluation.tasks import INPUT_TASKS, prompt_tasks, starting_alike
from kinoform.world.caption import SHAPE_PHRASES, words
from kinoform.world.palette import BACKGROUND_COLOURS, OBJECT_COLOURS
from kinoform.world.parse import parse
from kinoform.world.reader import read
from kinoform.world.sampling import L1, is_held_out, scene_from_seed
from kinoform.world.shapes import Shape
from tests.support.narrowing import some

SIZE = VideoSize(num_frames=17, height=64, width=64)
BY_NAME = {task.name: task for task in INPUT_TASKS}
EVERY = [pytest.param(task, id=task.name.replace(" ", "_")) for task in INPUT_TASKS]
EDITS = [pytest.param(task, id=task.name.replace(" ", "_")) for task in INPUT_TASKS if MASK in task.needs]


def nouns(shape: Shape) -> set[str]:
    return {word for phrase in SHAPE_PHRASES[shape] for word in words(phrase)}


NOUNS = set().union(*map(nouns, SHAPE_PHRASES)) - {"circle"}
"""But for the one in which things also move."""


def cases(task: Task, count: int) -> list[Case]:
    return [case for number in range(count) for case in task.cases(number, SIZE).values()]


def test_the_same_scenes_and_seeds_everywhere() -> None:
    """Figures of different days are comparable only while this holds."""
    text = "".join(f"{case.seed} {case.prompt}\n" for task in INPUT_TASKS for case in cases(task, 20))
    assert sha256(text.encode()).hexdigest()[:16] == "45d95dd3b9401e58"


def test_no_stream_is_that_of_another_task_or_of_the_prompts() -> None:
    streams = [task.stream for task in (*prompt_tasks(), *INPUT_TASKS)]
    assert len(set(streams)) == len(streams)


@pytest.mark.parametrize("task", EVERY)
def test_a_scene_is_its_number_and_its_cases_share_prompt_and_noise(task: Task) -> None:
    first, again = (task.cases(3, SIZE) for _ in range(2))
    assert [each.prompt for each in first.values()] == [each.prompt for each in again.values()]
    assert len({(each.prompt, each.seed) for each in first.values()}) == 1
    assert len({each.seed for each in cases(task, 10)}) == 10


@pytest.mark.parametrize("task", EVERY)
def test_what_is_asked_for_is_held_out_of_training(task: Task) -> None:
    for number in range(10):
        asked = next(iter(task.cases(number, SIZE).values()))
        assert is_held_out(asked.target.story)


@pytest.mark.parametrize("task", EVERY)
def test_no_case_gives_more_than_its_task_needs(task: Task) -> None:
    for case in task.cases(0, SIZE).values():
        assert {*case.inputs} - {EXACT_SIZE} <= task.needs


def test_a_video_of_another_motion_begins_with_the_same_frame() -> None:
    found = 0
    for seed in range(15):
        scene = scene_from_seed(seed, L1)
        first = rendered(scene, SIZE)[0].astype(int)
        for other in starting_alike(scene):
            found += 1
            assert other.story.subjects[0].motion != scene.story.subjects[0].motion
            video = rendered(other, SIZE)
            assert np.abs(video[0] - first).max() <= 1, "the last bit of a place may differ"
            assert judge(other.story, L1, video).marks["motion"], "and moves as it is told"
    assert found > 15


def test_the_other_caption_tells_another_motion_than_the_frame_was_taken_from() -> None:
    for case in cases(BY_NAME["other caption"], 10):
        assert case.former is not None and parse(case.prompt) == case.target.story
        (said,), (was,) = case.target.story.subjects, case.former.subjects
        assert said.motion != was.motion and (said.colour, said.shape) == (was.colour, was.shape)
        assert np.array_equal(case.inputs[FRAMES][0].pixels, rendered(case.target, SIZE)[0])


@pytest.mark.parametrize("task", EDITS)
def test_all_that_an_edit_changes_is_inside_its_mask(task: Task) -> None:
    for case in cases(task, 5):
        source, target = some(case.inputs[VIDEO]).frames, rendered(case.target, SIZE)
        white = some(case.inputs[MASK]).values >= 128
        assert np.array_equal(source[~white], target[~white]) and not np.array_equal(source, target)
        assert 0 < white.mean() < 0.6


@pytest.mark.parametrize("task", EDITS)
def test_the_target_is_right_and_the_source_is_not(task: Task) -> None:
    for case in cases(task, 5):
        for frames, right in ((rendered(case.target, SIZE), True), (some(case.inputs[VIDEO]).frames, False)):
            marks = judge(case.target.story, L1, frames).marks
            assert all(marks[name] for name in case.joint["edit_right"]) is right


def test_prompts_of_references_name_neither_colour_nor_shape() -> None:
    for case in cases(BY_NAME["identity"], 10):
        said, ground = set(words(case.prompt)), case.target.story.background.colour.name
        assert not said & NOUNS and not said & ({colour.name for colour in OBJECT_COLOURS} - {ground})


def test_another_reference_differs_in_colour_and_shape_and_in_nothing_else() -> None:
    for number in range(10):
        one, none, other = BY_NAME["identity"].cases(number, SIZE).values()
        (mine,), (theirs,) = one.target.story.subjects, other.target.story.subjects
        assert mine.colour != theirs.colour and mine.shape != theirs.shape and mine.motion == theirs.motion
        assert one.target.story.background == other.target.story.background
        assert not none.inputs and none.target == one.target
        assert not np.array_equal(one.inputs[REFERENCE_IMAGES][0].pixels, other.inputs[REFERENCE_IMAGES][0].pixels)


def test_only_what_is_inserted_loses_its_noun() -> None:
    for case in cases(BY_NAME["insert reference"], 10):
        (stays,) = read(some(case.inputs[VIDEO]).frames).things
        (comes,) = (thing for thing in case.target.story.subjects if thing.colour != stays.colour)
        ground = case.target.story.background.colour.name
        assert {stays.colour.name, ground} == set(words(case.prompt)) & {colour.name for colour in BACKGROUND_COLOURS}
        assert set(words(case.prompt)) & NOUNS <= nouns(stays.shape) and comes.colour.name not in words(case.prompt)
