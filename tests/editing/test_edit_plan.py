"""What an edit asks of the model, segment by segment, and what it is refused for before any weight is read."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinoform.conditions.standard_inputs import CONTEXT_SCALE, MASK, REFERENCE_IMAGES, STRENGTH, VIDEO
from kinoform.conditions.vace import Vace
from kinoform.conditions.vace_inputs import GREY
from kinoform.conditions.video_to_video import StartVideo
from kinoform.editing.edit import carry_out
from kinoform.editing.edit_plan import EditPlan, plan_edit
from kinoform.editing.settings import EditSettings
from kinoform.pipelines.pipeline import Pipeline
from kinoform.solvers.flow_edit import FlowEdit
from tests.editing.pretend import copied, noise, painted, pretended, video
from tests.support.narrowing import some
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline

PROMPT, SHOWN = "a red ball moves left", "a blue cat"


def plan(pipe: Pipeline, **changes: Any) -> EditPlan:
    return plan_edit(pipe, **{"video": video(14, 16, 16), "prompt": PROMPT, "seed": 7, **changes})


def hole(frames: int = 1) -> np.ndarray:
    """White on the right half."""
    white = np.zeros((frames, 16, 16), bool)
    white[:, :, 8:] = True
    return white


@pytest.fixture
def weightless(folder: Path) -> Pipeline:
    """A pipeline whose weights cannot be read."""

    def refuse(*asked: object) -> Any:
        raise AssertionError("weights were read")

    pipe = tiny_pipeline(folder, conditioners=(StartVideo(),), num_frames=9)
    parts = replace(pipe.parts, tokenizer=refuse, text_encoder=refuse, transformers=(refuse,), codec=refuse)
    return replace(pipe, parts=parts)


def test_later_segments_know_what_was_made_of_the_frames_they_share(folder: Path) -> None:
    pipe, settings = pretended(folder, painted(200, 10, 30)), EditSettings(grow=0, feather=0.0, overlap=4)
    source = video(14, 16, 16)
    edited = carry_out(plan(pipe, video=source, mask=hole(), settings=settings))
    first, second = (asked.inputs for asked in pipe.seen)
    assert first[VIDEO] is not None and first[MASK] is not None
    assert second[VIDEO] is not None and second[MASK] is not None
    assert np.array_equal(some(first[VIDEO]).frames, source[:9])
    assert (some(first[MASK]).values[:, :, 8:] == 255).all() and not some(first[MASK]).values[:, :, :8].any()
    held = 3  # of the 4 shared frames, 1 + 2n fill latent frames
    assert not some(second[MASK]).values[:held].any()
    assert np.array_equal(some(second[MASK]).values[held:], some(first[MASK]).values[held:])
    assert np.array_equal(some(second[VIDEO]).frames[:held], edited.video.frames[5 : 5 + held])
    assert np.array_equal(some(second[VIDEO]).frames[held:], source[5 + held :])
    assert [asked.seed for asked in pipe.seen] == [7, 8]


def test_a_whole_video_goes_on_from_segment_to_segment_as_well(folder: Path) -> None:
    pipe = pretended(folder, noise)
    carry_out(plan(pipe))
    first, second = (asked.inputs for asked in pipe.seen)
    assert first[MASK] is None and second[MASK] is not None
    assert not some(second[MASK]).values[0].any() and some(second[MASK]).values[-1].all()


@pytest.mark.parametrize(
    ("wishes", "strength"),
    [({}, 0.7), ({"mask": hole()}, 1.0), ({"source_prompt": SHOWN}, 0.7), ({"strength": 0.4}, 0.4)],
)
def test_all_segments_are_redone_as_strongly_as_one_alone(
    folder: Path, wishes: Mapping[str, Any], strength: float
) -> None:
    pipe = pretended(folder, noise)
    carry_out(plan(pipe, **wishes))
    assert [asked.inputs[STRENGTH] for asked in pipe.seen] == [strength] * 2
    assert all(isinstance(asked.sampler, FlowEdit) == ("source_prompt" in wishes) for asked in pipe.seen)


def test_a_short_video_is_filled_up_with_its_last_frame(folder: Path) -> None:
    pipe, source = pretended(folder, noise), video(6, 16, 16)
    edited = carry_out(plan(pipe, video=source, mask=hole()))
    clip = pipe.seen[0].inputs[VIDEO]
    assert clip is not None and len(clip.frames) == 7 and len(edited.video.frames) == 6
    assert np.array_equal(clip.frames[-1], source[-1])


def test_what_is_under_the_mask_is_shown_or_grey(folder: Path) -> None:
    for shown in (True, False):
        pipe = pretended(folder, noise)
        settings = EditSettings(grow=0, feather=0.0, show_source=shown)
        carry_out(plan(pipe, video=video(9, 16, 16), mask=hole(), settings=settings))
        clip = pipe.seen[0].inputs[VIDEO]
        assert clip is not None
        assert np.array_equal(clip.frames[:, :, :8], video(9, 16, 16)[:, :, :8])
        assert (clip.frames[:, :, 8:] == GREY).all() == (not shown)


def test_a_mask_that_leaves_the_model_nothing_is_not_handed_to_it(folder: Path) -> None:
    white = np.ones((1, 16, 16), bool)
    white[0, 0, 0] = False
    pipe, source = pretended(folder, noise), video(9, 16, 16)
    edited = carry_out(plan(pipe, video=source, mask=white, settings=EditSettings(grow=0, feather=0.0)))
    assert pipe.seen[0].inputs[MASK] is None and pipe.seen[0].inputs[STRENGTH] == 1.0
    assert np.array_equal(edited.video.frames[:, 0, 0], source[:, 0, 0])


def test_a_prompt_is_rewritten_once(folder: Path) -> None:
    calls: list[str] = []

    def extend(prompt: str) -> str:
        calls.append(prompt)
        return f"{prompt} {len(calls)}"

    pipe = replace(pretended(folder, noise), extend=extend)
    carry_out(plan(pipe))
    assert calls == [PROMPT] and {asked.prompt for asked in pipe.seen} == {f"{PROMPT} 1"}


def test_references_and_their_scale_reach_models_that_take_them(folder: Path) -> None:
    pipe = pretended(folder, noise, conditioners=(Vace(),))
    carry_out(plan(pipe, mask=hole(), reference_images=[video(1, 8, 8)[0]], context_scale=0.5))
    for asked in pipe.seen:
        assert len(asked.inputs[REFERENCE_IMAGES]) == 1 and asked.inputs[CONTEXT_SCALE] == 0.5
        assert (asked.num_frames, asked.height, asked.width) == (9, 16, 16)


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"mask": np.zeros((1, 16, 16), bool)}, "mask_empty", "0 of 255"),
        ({"mask": hole()[:, :, 1:]}, "mask_size_differs", "15x16"),
        ({"mask": hole(12)}, "mask_length_differs", "12 frames"),
        ({"video": video(1, 16, 16)}, "video_too_short", "1 frames"),
        ({"strength": 0.0}, "value_out_of_range", "0.0"),
        ({"strength": 1.5}, "value_out_of_range", "1.5"),
        ({"strength": math.nan}, "value_out_of_range", "nan"),
        ({"prompt": "  "}, "prompt_missing", "prompt"),
        ({"seed": -1}, "value_out_of_range", "seed"),
        ({"seed": 2**63 - 1}, "value_out_of_range", "seed"),
        ({"width": 18}, "size_not_multiple", "16 and 20"),
        ({"num_frames": 8}, "frames_not_multiple", "7 and 9"),
        ({"reference_images": [video(1, 8, 8)[0]]}, "input_not_taken", "mini:reference"),
        ({"context_scale": 1.0}, "input_not_taken", "mini:vace"),
        ({"settings": EditSettings(overlap=9)}, "value_out_of_range", "9"),
        ({"settings": EditSettings(show_source=False)}, "input_missing", "show_source=False"),
        (
            {"mask": hole(), "strength": 0.5, "settings": EditSettings(show_source=False)},
            "inputs_conflict",
            "show_source",
        ),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else "-".join(value),
)
def test_bad_input_is_refused_before_any_weight_is_read(
    weightless: Pipeline, changes: dict[str, Any], code: str, named: str
) -> None:
    with refused(code, named):
        plan(weightless, **changes)


def test_a_model_that_takes_no_video_is_refused_naming_those_that_do(folder: Path) -> None:
    with refused("input_not_taken", "mini"):
        plan(tiny_pipeline(folder))


def test_a_good_plan_reads_no_weight_and_says_nothing(weightless: Pipeline) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = plan(weightless, mask=hole(), settings=EditSettings(overlap=5))
    assert [(each.span.start, each.span.stop) for each in made.passes] == [(0, 9), (2, 11), (5, 14)]


def test_a_prompt_that_changes_nothing_is_told_of(weightless: Pipeline) -> None:
    with pytest.warns(UserWarning, match="it changes nothing"):
        plan(weightless, source_prompt=f" {PROMPT} ")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        *[({"grow": grow}, "value_out_of_range") for grow in (-1, 513)],
        *[({"feather": feather}, "value_out_of_range") for feather in (math.nan, -0.1)],
        ({"margin": math.inf}, "value_out_of_range"),
        ({"overlap": 0}, "value_out_of_range"),
        ({"overlap": True}, "not_a_whole_number"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], code: str) -> None:
    with refused(code, next(iter(wrong))):
        EditSettings(**wrong)


def test_a_rim_follows_the_size_of_the_video() -> None:
    assert EditSettings().edge((64, 64)) == (1, 2.0)
    assert EditSettings().edge((480, 832)) == (8, 15.0)
    assert EditSettings(grow=0, feather=3.5).edge((480, 832)) == (0, 3.5)


def test_warnings_of_the_plan_are_not_said_again(folder: Path) -> None:
    pipe = pretended(folder, copied, conditioners=(StartVideo(),))
    made = plan(pipe, mask=hole())
    with pytest.warns(UserWarning) as told:
        carry_out(made)
    assert len(told) == 1 and "next to nothing" in str(told[0].message)
