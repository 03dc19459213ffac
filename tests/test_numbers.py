"""Numbers of any library are taken where a number is asked for, and kept as plain ones; bools are none."""

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.numbers import real, real_of, whole, whole_of
from kinoform.pipelines.pipeline import Pipeline
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline, write_tiny_folder
from tests.support.unchecked import unchecked

WHOLE = [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.uint8)]
REAL = [2.5, np.float32(2.5), np.float64(2.5), np.longdouble(2.5), Fraction(5, 2), np.array(2.5), torch.tensor(2.5)]
NO_WHOLE = [True, np.bool_(True), torch.tensor(True), 3.0, np.float32(3), "3", None, [3], np.array([3]), Decimal(3)]
NO_REAL = [True, np.True_, "2.5", None, [2.5], np.array([2.5]), torch.tensor([2.5]), 1j]


def name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__name__}-{value}"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return tiny_pipeline(write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.mark.parametrize("value", WHOLE, ids=name)
def test_whole_numbers_become_plain_ones(value: object) -> None:
    assert type(whole("n", value, 0, 9)) is int and whole_of(value) == 3
    assert type(real("n", value, 0.0, 9.0)) is float and real_of(value) == 3


@pytest.mark.parametrize("value", REAL, ids=name)
def test_real_numbers_become_plain_ones(value: object) -> None:
    assert type(real("x", value, 0.0, 9.0)) is float and real_of(value) == 2.5
    assert whole_of(value) is None


@pytest.mark.parametrize("value", NO_WHOLE, ids=name)
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with refused("not_a_whole_number"):
        whole("n", value, 0, 9)


@pytest.mark.parametrize("value", NO_REAL, ids=name)
def test_what_is_no_number_is_refused(value: object) -> None:
    with refused("wrong_type"):
        real("x", value, 0.0, 9.0)


@pytest.mark.parametrize("value", [np.float32("nan"), np.inf, 10**400, -(10**400), Fraction(10**400), 9.5], ids=str)
def test_numbers_out_of_range_are_refused(value: object) -> None:
    with refused("value_out_of_range"):
        real("x", value, 0.0, 9.0)


ASKED: dict[str, Any] = {
    "seed": np.uint32(3), "num_inference_steps": torch.tensor(1), "num_frames": np.int64(1), "width": np.int32(16),
    "height": np.array(16), "guidance_scale": np.float32(2.5), "shift": Fraction(5, 2), "fps": np.float32(12),
}  # fmt: skip


def test_a_video_of_such_numbers_is_that_of_plain_ones_and_says_plain_ones(pipe: Pipeline) -> None:
    video = pipe("a red ball", **ASKED)
    asked: dict[str, Any] = {name: whole_of(value) or real_of(value) for name, value in ASKED.items()}
    plain = pipe("a red ball", **asked)
    assert np.array_equal(video.frames, plain.frames)
    assert json.loads(json.dumps(video.params)) == plain.params


@pytest.mark.parametrize("key", ASKED)
def test_a_bool_is_no_number_of_a_request(pipe: Pipeline, key: str) -> None:
    with refused("not_a_whole_number" if whole_of(ASKED[key]) else "wrong_type"):
        pipe("a red ball", **{**ASKED, key: True})


def test_such_numbers_stand_in_values_of_every_kind() -> None:
    """Run as a program, since the types that are written down are checked in tests, and by pyright."""
    with unchecked():
        exec(SCRIPT, {})


SCRIPT = """
from fractions import Fraction
import numpy as np, torch
from kinoform.conditions.vace_inputs import extend
from kinoform.conditions.coerce import to_inputs
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import in_video_order
from kinoform.conditions.standard_inputs import CONTEXT_SCALE, FRAMES, STRENGTH, VIDEO
from kinoform.editing.settings import EditSettings
from kinoform.errors import UsageError
from kinoform.media.types import InputVideo, InputImage
from kinoform.solvers.cache import EasyCache, FixedIntervalCache
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.guidance.interval import Interval
from kinoform.solvers.guidance.zero_star import ZeroStar
from kinoform.solvers.names import guidance_of, name_of, sampler_of, solver_of
from kinoform.solvers.unipc import UniPC

for value, read in [
    (UniPC(order=np.int64(3)), solver_of),
    (DPMSolver(order=torch.tensor(3)), solver_of),
    (FlowEdit(source_guidance=np.float32(2.5), averages=np.int8(2)), sampler_of),
    (Interval(low=np.float32(0.25), high=Fraction(3, 4)), guidance_of),
    (ZeroStar(zero_steps=np.int64(2)), guidance_of),
]:
    assert read(name_of(value)) == value, value
assert repr(FixedIntervalCache(period=np.int64(2))) == repr(FixedIntervalCache(period=2))
assert repr(EasyCache(limit=np.float32(1))) == repr(EasyCache(limit=1.0))

inputs = Inputs({STRENGTH: np.float32(0.5), CONTEXT_SCALE: torch.tensor(2)})
assert repr((inputs[STRENGTH], inputs[CONTEXT_SCALE])) == "(0.5, 2.0)"
first, last = (np.full((4, 4, 3), shade, np.uint8) for shade in (0, 9))
frames = to_inputs([FRAMES], {"frames": {np.int64(-1): last, torch.tensor(0): first}})[FRAMES]
assert repr(sorted(frames)) == "[-1, 0]"
ordered = in_video_order({np.int64(-1): InputImage(pixels=last), torch.tensor(0): InputImage(pixels=first)}, 5)
assert list(ordered) == [0, 4]
rim = EditSettings(grow=np.int64(2), feather=np.float32(1.5), overlap=torch.tensor(3))
assert repr(rim) == repr(EditSettings(grow=2, feather=1.5, overlap=3))
clip = InputVideo(frames=np.stack([first] * 3))
assert len(extend(clip, after=np.int64(2))[VIDEO].frames) == 5
twice = {"frames": {True: first}}
for refused in (lambda: extend(clip, after=True), lambda: UniPC(order=True), lambda: to_inputs([FRAMES], twice)):
    try:
        refused()
    except UsageError:
        continue
    raise AssertionError("a bool was taken")
"""
