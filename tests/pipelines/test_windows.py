"""Videos in windows: which latent frames each one makes, and what it takes over from those before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import ConditionerOutput, InpaintingConstraint, LatentConstraints
from kinoform.conditions.standard_inputs import FRAMES, VIDEO
from kinoform.errors import Interrupted
from kinoform.media.types import InputVideo
from kinoform.pipelines.fit import sizes_of, workload_of
from kinoform.pipelines.generate import Progress, silent
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.recorded import recorded
from kinoform.pipelines.windows import Windows, latent_frame_at, usual_windows, windows_of
from kinoform.plan.video_plan import plan_video
from kinoform.recipes.load import load
from kinoform.solvers.levels import CLEAN
from kinoform.types import Latents, Level
from tests.conditions.in_hand import image
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, write_tiny_of_two

NINE = Windows(frames=9)
"""Five latent frames of the tiny model, whose latent frames stand for two frames each."""


def latents(pipe: Pipeline, prompt: str = "a red ball", **changes: object) -> Latents:
    return next(pipe.latents([pipe.request(prompt, seed=7, **({"windows": NINE} | changes))], silent))


@pytest.mark.parametrize("anchor", [True, False])
@pytest.mark.parametrize("overlap", [None, 2, 6])
@pytest.mark.parametrize("total", [6, 13, 40])
def test_windows_make_each_latent_frame_once_and_have_the_length_of_the_model(
    anchor: bool, overlap: int | None, total: int
) -> None:
    windows = Windows(frames=9, overlap=overlap, anchor=anchor)
    found = windows_of(windows, ((0, "a"), (4, "b")), latent_frames=total, codec=tiny().codec)
    assert [item.start for item in found] == [0, *(item.stop for item in found[:-1])]
    assert found[-1].stop == total
    for item in found:
        assert item.given + item.stop - item.start <= item.length == 5
        assert item.start - item.known >= int(item.anchored)
        assert item.prompt == ("a" if item.start < 4 else "b")
        if item.start > item.length:
            assert item.anchored == anchor
            assert item.known >= {None: 2, 2: 1, 6: 3}[overlap]


def test_the_first_window_is_the_video_of_one(pipe: Pipeline) -> None:
    alone = latents(pipe, num_frames=9)
    assert torch.equal(latents(pipe, num_frames=25)[:, :, :5], alone)


def test_a_longer_video_begins_as_the_shorter_one(pipe: Pipeline) -> None:
    long = latents(pipe, num_frames=25)
    assert long.shape[2] == 13
    assert torch.equal(latents(pipe, num_frames=13)[:, :, :7], long[:, :, :7])


def test_a_prompt_reaches_its_own_frames_and_no_others(pipe: Pipeline) -> None:
    one = latents(pipe, "[0-1.5s] a red ball [1.5-3s] a blue cat", windows=None)
    other = latents(pipe, "[0-1.5s] a red ball [1.5-3s] a red ball", windows=None)
    border = latent_frame_at(1.5 * tiny().fps, 2)
    assert one.shape[2] == 1 + 24 // 2
    assert torch.equal(one[:, :, :border], other[:, :, :border])
    assert not torch.equal(one[:, :, border], other[:, :, border])


def test_the_first_frame_is_the_anchor_of_all_windows(pipe: Pipeline) -> None:
    """Without it, a window far from the beginning depends on the frames before it alone."""
    made = torch.arange(13.0)[None, None, :, None, None].expand(1, 4, -1, 2, 2)
    for anchor, given in ((True, [0.0, 9.0, 10.0]), (False, [8.0, 9.0, 10.0])):
        windows = windows_of(
            Windows(frames=9, overlap=4, anchor=anchor), ((0, "a"),), latent_frames=13, codec=tiny().codec
        )
        window = next(item for item in windows if item.start + len(given) - anchor >= 11)
        known = window.carrying(ConditionerOutput(), made).constraints.inpainting
        assert known is not None
        kept = known.impose(torch.full((1, 4, 5, 2, 2), -1.0), CLEAN, torch.zeros(1, 4, 5, 2, 2))
        assert kept[0, 0, : window.given, 0, 0].tolist()[:1] == [
            made[0, 0, 0 if anchor else window.start - window.known, 0, 0]
        ]
        assert (kept[0, 0, window.given :, 0, 0] == -1).all()


def test_what_an_image_keeps_stays_as_clean_as_it_was() -> None:
    """Frames carried over are as noisy as their level, the first one of a model that keeps it clean is clean."""
    made, noise = torch.ones(1, 4, 13, 2, 2), torch.full((1, 4, 5, 2, 2), 5.0)
    first = torch.arange(5)[None, None, :, None, None] == 0
    own = InpaintingConstraint(latents=torch.full((1, 4, 5, 2, 2), 3.0), mask=first, noised=False)
    window = windows_of(NINE, ((0, "a"),), latent_frames=13, codec=tiny().codec)[-1]
    given = window.carrying(ConditionerOutput(constraints=LatentConstraints(inpainting=own)), made)
    assert given.constraints.inpainting is not None
    kept = given.constraints.inpainting.impose(torch.zeros(1, 4, 5, 2, 2), Level(sigma=0.5, timestep=500.0), noise)
    assert kept[0, 0, : window.given, 0, 0].tolist() == [3.0, *[3.0] * window.known]
    assert kept[0, 0, 1, 0, 0] == 0.5 * 1 + 0.5 * 5


def test_several_transformers_and_prompts_of_several_lengths(tmp_path: Path) -> None:
    pipe = load(write_tiny_of_two(tmp_path / "two"), recipe="tests.support.tiny_recipe:tiny_of_two", device="cpu")
    told = list[Progress]()
    asked = [
        pipe.request("a red ball", seed=1, num_frames=13, windows=NINE),
        pipe.request("a blue cat", seed=2, num_frames=9, windows=NINE),
    ]
    assert asked[1].windows is None
    found = [*pipe.latents(asked, told.append)]
    assert [item.shape[2] for item in found] == [7, 5]
    steps = [item for item in told if item.stage == "denoise"]
    assert [(item.done, item.total, item.video) for item in steps] == [
        *((done, 12, 0) for done in range(1, 13)), *((done, 6, 1) for done in range(1, 7))
    ]  # fmt: skip
    assert [item.expert for item in steps] == 3 * [*4 * ["high"], *2 * ["low"]]
    assert torch.equal(found[1], next(pipe.latents([asked[1]], silent)))


def test_a_video_in_windows_is_made_again_from_its_parameters(pipe: Pipeline) -> None:
    windows = Windows(frames=9, overlap=2, anchor=False)
    prompt = "[0-50%] a red ball [50%-100%] a blue cat"
    params = pipe.params(pipe.request(prompt, seed=7, num_frames=25, windows=windows))
    read = recorded(params, Path("video.mp4"))
    assert (read.prompt, read.request["windows"]) == (prompt, windows)
    assert "windows" not in pipe.params(pipe.request("a red ball", seed=7))
    with refused("metadata_damaged"):
        recorded({**params, "windows": {"frames": "nine"}}, Path("video.mp4"))


def test_python_takes_seconds_and_a_list_of_prompts(pipe: Pipeline) -> None:
    video = pipe([(0, 1, "a red ball"), (1, 2, "a blue cat")], seed=7)
    assert len(video.frames) == 17
    assert video.params["prompt"] == "[0-1s] a red ball [1-2s] a blue cat"
    assert np.array_equal(pipe("a red ball", seed=7, seconds=0.4).frames, pipe("a red ball", seed=7).frames)
    with refused("options_conflict"):
        pipe("a red ball", seconds=1, num_frames=9)
    with refused("value_out_of_range"):
        pipe("a red ball", seconds=float("nan"))


def test_only_what_lasts_can_be_given(pipe: Pipeline) -> None:
    clip = InputVideo(frames=np.zeros((25, 16, 16, 3), np.uint8))
    asked = pipe.request("a red ball", seed=7, num_frames=25, windows=NINE)
    for inputs, windows in (
        (Inputs({VIDEO: clip}), NINE),
        (Inputs({FRAMES: {-1: image(0, 16, 16)}}), NINE),
        (Inputs({FRAMES: {0: image(0, 16, 16)}}), replace(NINE, anchor=False)),
    ):
        with refused("input_not_taken_in_windows"):
            replace(asked, inputs=inputs, windows=windows)
    first = Inputs({FRAMES: {0: image(0, 16, 16)}})
    replace(asked, inputs=first)
    assert usual_windows(9, first) == NINE
    assert usual_windows(9, Inputs({VIDEO: clip})) is None


def test_windows_without_room_and_prompts_without_frames_are_refused(pipe: Pipeline) -> None:
    assert Windows(frames=2).settled(4).overlap == 1
    with refused("windows_too_short"):
        pipe.request("a red ball", seed=7, num_frames=25, windows=Windows(frames=9, overlap=8))
    with refused("prompt_times_invalid"):
        pipe.request("[0-1s] a [1-1.1s] b [1.1-3s] a", seed=7)
    with refused("frames_not_multiple"):
        pipe.request("a red ball", seed=7, num_frames=25, windows=Windows(frames=8))
    with refused("wrong_type"):
        pipe.request("a red ball", seed=7, windows=9)
    with refused("value_out_of_range"):
        Windows(frames=9, overlap=9)


def test_a_plan_counts_all_windows_in_the_memory_of_one(pipe: Pipeline) -> None:
    def plan(num_frames: int):  # type: ignore[no-untyped-def]
        asked = pipe.request("a red ball", seed=7, num_frames=num_frames, windows=NINE)
        work = workload_of(asked, asked.in_windows(pipe.parts.codec_spec))
        return plan_video(sizes_of(pipe.parts), work, dtype=torch.float32, device="cpu")

    one, long = plan(9), plan(25)
    count = long.workload.windows
    assert count == 5
    assert long.flops["denoise"].executed == count * one.flops["denoise"].executed
    peaks = [next(item for item in each.peaks if item.stage == "denoise").activations for each in (one, long)]
    assert peaks[1] - peaks[0] == 2 * 4 * 4 * 13 * 8 * 8
    assert long.as_json()["num_frames"] == 25
    asked = list[int]()

    def count_steps(progress: Progress) -> bool:
        asked.append(progress.done)
        return len(asked) < 7

    with pytest.raises(Interrupted):
        next(pipe.latents([pipe.request("a red ball", seed=7, num_frames=25, windows=NINE)], count_steps))
