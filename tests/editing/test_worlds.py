"""A model that knows only its own world says so before it is given another, and says how well it did."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.standard_inputs import FRAMES, VIDEO
from kinoform.editing.edit import carry_out
from kinoform.editing.edit_plan import plan_edit
from kinoform.editing.extend_plan import plan_extend
from kinoform.editing.image_to_video import animate, bridge
from kinoform.editing.outpaint import plan_outpaint
from kinoform.editing.passes import warn_unfamiliar_inputs
from kinoform.editing.settings import ExtendSettings
from kinoform.media.types import InputImage, InputVideo
from kinoform.pipelines.generate import Progress
from kinoform.recipes.catalogue import RELEASED
from kinoform.recipes.load import load
from tests.editing.pretend import copied, noise, painted, pretended, spots, video

KNOWS = "knows only its own world, coloured shapes"


def test_it_is_said_of_a_video_that_is_none_of_its_own(folder: Path) -> None:
    pipeline = pretended(folder, copied, world="coloured shapes")
    with pytest.warns(UserWarning, match=KNOWS):
        plan_edit(pipeline, video(9, 24, 32), "a cat", seed=1)
    with pytest.warns(UserWarning, match=KNOWS):
        plan_extend(pipeline, video(9, 24, 32), "a cat", num_frames=4, seed=1, settings=ExtendSettings())
    with pytest.warns(UserWarning, match=KNOWS):
        plan_outpaint(pipeline, video(9, 24, 32), "a cat", width=48, height=32, seed=1)


def test_nothing_is_said_of_its_own_videos_and_by_models_that_know_more(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for side in (16, 64):
            plan_edit(pretended(folder, copied, world="coloured shapes"), video(9, side, side), "a cat", seed=1)
        plan_outpaint(
            pretended(folder, copied, world="coloured shapes"), video(9, 16, 16), "a cat", width=24, height=16, seed=1
        )
        plan_edit(pretended(folder, copied), video(9, 24, 32), "a cat", seed=1)


def test_it_is_said_of_images_too(folder: Path) -> None:
    recipe = pretended(folder, copied, world="coloured shapes").recipe
    image = InputImage(pixels=np.zeros((24, 32, 3), np.uint8))
    with pytest.warns(UserWarning, match=rf"{KNOWS}.*kinoform download i2v-14b-480p"):
        warn_unfamiliar_inputs(recipe, Inputs({FRAMES: {0: image}}))
    with pytest.warns(UserWarning, match=rf"{KNOWS}.*kinoform download vace-1.3b"):
        warn_unfamiliar_inputs(recipe, Inputs({VIDEO: InputVideo(frames=video(9, 24, 32))}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_unfamiliar_inputs(recipe, Inputs())
    assert {"i2v-14b-480p", "vace-1.3b"} <= set(RELEASED)


def test_python_says_it_as_the_commands_do(folder: Path) -> None:
    pipeline = pretended(folder, noise, world="coloured shapes", conditioners=(KnownFrames(),))
    first, last = video(2, 24, 32)
    with pytest.warns(UserWarning, match=KNOWS):
        animate(pipeline, first, "a cat", seed=1)
    with pytest.warns(UserWarning, match=KNOWS):
        bridge(pipeline, first, last, "a cat", seed=1)


@pytest.mark.parametrize("name", ["mini", "mini:vace", "mini:frames", "mini:reference", "mini-factorized"])
def test_every_embedded_model_says_what_it_knows(name: str) -> None:
    assert load(name, device="cpu").recipe.world is not None


def test_progress_names_the_work_after_the_model(folder: Path) -> None:
    told: list[Progress] = []
    plan = plan_edit(pretended(folder, painted(1, 2, 3)), video(13, 24, 32), "a cat", seed=1, mask=spots(13, 24, 32))
    carry_out(plan, lambda now: told.append(now))
    composed = [each for each in told if each.stage == "compose"]
    assert [each.done for each in composed] == list(range(1, composed[0].total + 1))
    assert told[-1].stage == "compose" and len(plan.passes) > 1
    assert np.all([each.done <= each.total for each in told])
