"""A longer video holds the video bit for bit, and what is new goes on from it in its colours."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import Conditioner
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, VIDEO
from kinoform.conditions.vace import Vace
from kinoform.conditions.vace_inputs import GREY
from kinoform.conditions.video_to_video import StartVideo
from kinoform.editing.boundary import delta_e
from kinoform.editing.extend import extend
from kinoform.editing.extend_plan import as_frames, as_masked_video
from kinoform.editing.passes import Edited
from kinoform.errors import Interrupted
from kinoform.media.types import InputVideo, Origin
from kinoform.pipelines.generate import Progress
from kinoform.pipelines.request import Request
from tests.editing.pretend import STEPS, Draw, Pretended, pretended
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline

PROMPT = "a red ball"
PATTERN = np.random.default_rng(3).integers(40, 140, (64, 64, 3))
WAYS: dict[str, tuple[Conditioner, ...]] = {
    "frames": (KnownFrames(),),
    "frames and rows": (KnownFrames(), ImageTokens()),
    "vace": (Vace(),),
    "start": (StartVideo(),),
}


def brightening(times: range, height: int = 16, width: int = 16) -> np.ndarray:
    """A pattern that gets brighter by 2 a frame."""
    return np.stack([PATTERN[:height, :width] + 2 * time for time in times]).astype(np.uint8)


def video_of(frames: np.ndarray) -> InputVideo:
    return InputVideo(frames=frames, fps=24.0, origin=Origin(file="video.mkv", sha256="0" * 64))


def known_of(asked: Request) -> dict[int, np.ndarray]:
    """The known frames of a request by number, however they were handed over."""
    if asked.inputs[FRAMES]:
        assert asked.inputs[EXACT_SIZE] and [*asked.inputs] == [FRAMES, EXACT_SIZE]
        return {place: image.pixels.astype(float) for place, image in asked.inputs[FRAMES].items()}
    video, mask = asked.inputs[VIDEO], asked.inputs[MASK]
    assert video is not None and mask is not None
    white = mask.values.reshape(len(video.frames), -1) == 255
    assert (white.all(1) | ~white.any(1)).all() and (video.frames[white.all(1)] == GREY).all()
    return {int(place): video.frames[place].astype(float) for place in np.flatnonzero(~white.any(1))}


def going_on(asked: Request) -> np.ndarray:
    """Frames that change at the rate of the known ones."""
    known = known_of(asked)
    first, last = min(known), max(known)
    rate = (known[last] - known[first]) / max(1, last - first)
    return whole(np.stack([known[first] + (place - first) * rate for place in range(asked.num_frames)]))


def faded(asked: Request) -> np.ndarray:
    """The same in duller, greener colours."""
    return whole(going_on(asked) * 0.9 + np.array([0, 14, 4]))


def whole(values: np.ndarray) -> np.ndarray:
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def model(folder: Path, draw: Draw, *conditioners: Conditioner) -> Pretended:
    return pretended(folder, draw, conditioners=conditioners)


@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("way", WAYS)
def test_the_video_stays_and_goes_on(folder: Path, way: str, before: bool) -> None:
    source = brightening(range(20, 32))
    made = extend(model(folder, faded, *WAYS[way]), video_of(source), PROMPT, num_frames=7, seed=1, before=before)
    truth = brightening(range(13, 32) if before else range(20, 39))
    assert np.abs(made.video.frames.astype(int) - truth).max() <= 3
    kept = made.video.frames[7:] if before else made.video.frames[:12]
    assert (
        np.array_equal(kept, source) and made.report.outside_equal and made.report.outside_pixels == source[..., 0].size
    )
    assert made.video.fps == 24 and made.report.changed_share == pytest.approx(7 / 19)
    new = np.arange(19) < 7 if before else np.arange(19) >= 12
    assert np.array_equal(made.alpha[:, 5, 5], new.astype(np.float32)) and made.alpha.shape == (19, 16, 16)
    assert made.report.boundary_delta_e is not None and made.report.boundary_delta_e < 0.5


@pytest.mark.parametrize(("height", "width"), [(37, 53), (64, 40), (8, 20)])
def test_a_video_of_any_size_keeps_it(folder: Path, height: int, width: int) -> None:
    source = brightening(range(9), height, width)
    sizes = []

    def draw(asked: Request) -> np.ndarray:
        sizes.append((asked.height, asked.width))
        return going_on(asked)

    made = extend(model(folder, draw, Vace()), source, PROMPT, num_frames=4, seed=1)
    assert made.video.frames.shape == made.raw.shape == (13, height, width, 3)
    assert np.array_equal(made.video.frames[:9], source) and made.video.fps == 8, "the rate of the recipe"
    ((tall, wide),) = sizes
    assert tall % 4 == wide % 4 == 0 and tall * wide <= 256
    assert (made.report.segments[0].height, made.report.segments[0].width) == (tall, wide)


def test_colours_are_matched_by_the_frames_that_were_redrawn(folder: Path) -> None:
    source, pipe = brightening(range(9)), model(folder, faded, Vace())
    made = extend(pipe, source, PROMPT, num_frames=4, seed=1)
    plain = extend(pipe, source, PROMPT, num_frames=4, seed=1, match_colours=False)
    truth = brightening(range(9, 13)).astype(int)
    assert np.abs(made.video.frames[9:] - truth).mean() < 1 < 5 < np.abs(plain.video.frames[9:] - truth).mean()
    assert np.array_equal(plain.video.frames[9:], plain.raw[9:]) and np.array_equal(made.raw, plain.raw)
    red, green, blue = made.report.colour_shift
    assert green < blue < red and plain.report.colour_shift == (0, 0, 0)
    assert plain.report.boundary_delta_e is not None and plain.report.boundary_delta_e > 3
    assert np.array_equal(made.raw[:4], source[:4]) and not np.array_equal(made.raw[4:9], source[4:9])
    error = np.square(source[4:9].astype(float) - made.raw[4:9]).mean()
    assert made.report.raw_psnr_outside_db == pytest.approx(10 * np.log10(255**2 / error))


@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
def test_several_passes_each_go_on_from_the_one_before(folder: Path, before: bool) -> None:
    asked: list[Request] = []

    def draw(request: Request) -> np.ndarray:
        asked.append(request)
        return faded(request)

    source = brightening(range(30, 36))
    pipe = model(folder, draw, Vace())
    made = extend(pipe, source, PROMPT, num_frames=11, seed=5, context=5, before=before)
    frames = made.video.frames
    assert [each.seed for each in asked] == [5, 6, 7] == [each.seed for each in made.report.segments]
    assert [each.num_frames for each in asked] == [9, 9, 9], "4, 4 and 3 new ones, filled up to a legal length"
    for number, each in enumerate(asked):
        known = np.stack([frame for _, frame in sorted(known_of(each).items())])
        start = 11 - 4 * number if before else 1 + 4 * number
        assert np.array_equal(known, frames[start : start + 5])
    spans = [(each.start, each.stop) for each in made.report.segments]
    assert spans == ([(7, 11), (3, 7), (0, 3)] if before else [(6, 10), (10, 14), (14, 17)])
    truth = brightening(range(19, 36) if before else range(30, 47))
    assert np.abs(frames.astype(int) - truth).max() <= 6, "errors of passes add"


def test_a_jump_at_the_boundary_is_told(folder: Path) -> None:
    """The model is right about what it knows, and then shows something else."""
    source = brightening(range(5))

    def jumping(asked: Request) -> np.ndarray:
        frames = going_on(asked)
        frames[len(known_of(asked)) :] += 30
        return frames

    made = extend(model(folder, jumping, Vace()), source, PROMPT, num_frames=4, seed=1, context=5)
    steps = [delta_e(one.reshape(-1, 3), other.reshape(-1, 3)).mean() for one, other in pairwise(source)]
    across = delta_e(source[-1].reshape(-1, 3), made.video.frames[5].reshape(-1, 3)).mean()
    assert made.report.boundary_delta_e == pytest.approx(across - np.mean(steps)) and across > 5
    assert (
        made.report.boundary_delta_e_worst == made.report.segments[0].boundary_delta_e == made.report.boundary_delta_e
    )


def test_known_frames_stand_where_the_video_is() -> None:
    clip = video_of(brightening(range(3)))
    assert [list(as_frames(clip, 4, before)[FRAMES]) for before in (False, True)] == [[0, 1, 2], [4, 5, 6]]
    for before in (False, True):
        images, video = as_frames(clip, 4, before)[FRAMES], as_masked_video(clip, 4, before)[VIDEO]
        assert video is not None and len(video.frames) == 7
        assert all(np.array_equal(video.frames[place], image.pixels) for place, image in images.items())


def test_a_video_tells_how_it_was_extended(folder: Path) -> None:
    video = video_of(brightening(range(9)))
    params = extend(model(folder, going_on, KnownFrames()), video, PROMPT, num_frames=4, seed=3).video.params
    assert (params["task"], params["seed"], params["num_frames"], params["fps"]) == ("extend", 3, 13, 24.0)
    assert params["inputs"] == {"video": {"file": "video.mkv", "sha256": "0" * 64}}
    told = params["edit"]
    assert isinstance(told, dict) and told["outside_equal"] is True and told["segments"][0]["start"] == 9
    assert told["settings"] == {"before": False, "context": 5, "match_colours": True}


def test_progress_runs_through_all_passes_and_can_end_them(folder: Path) -> None:
    told: list[tuple[int, int]] = []

    def hear(now: Progress) -> bool:
        told.append((now.done, now.total))
        return True

    pipe = model(folder, going_on, Vace())
    words: dict[str, Any] = {"num_frames": 8, "seed": 1, "context": 5}
    extend(pipe, brightening(range(9)), PROMPT, on_progress=hear, **words)
    assert told == [(step, 2 * STEPS) for step in range(1, 2 * STEPS + 1)]
    real = replace(tiny_pipeline(folder, conditioners=(StartVideo(),), num_frames=9))
    with pytest.raises(Interrupted):
        extend(real, brightening(range(9)), PROMPT, on_progress=lambda now: now.stage != "denoise", **words)


def test_the_seed_decides_what_a_model_makes(folder: Path) -> None:
    pipe = tiny_pipeline(folder, conditioners=(StartVideo(),), num_frames=9)
    source = brightening(range(6), 24, 20)

    def made(seed: int, **changes: Any) -> Edited:
        return extend(pipe, source, PROMPT, num_frames=6, seed=seed, context=5, **changes)

    first, again, other = made(1), made(1), made(2)
    counted = extend(pipe, source, PROMPT, num_frames=np.int64(6), seed=np.uint32(1), context=np.int64(5))
    assert np.array_equal(first.video.frames, counted.video.frames)
    assert json.dumps(first.video.params) == json.dumps(counted.video.params), "numbers of numpy are plain ones"
    assert np.array_equal(first.video.frames, again.video.frames)
    assert not np.array_equal(first.video.frames[6:], other.video.frames[6:])
    assert all(np.array_equal(each.video.frames[:6], source) for each in (first, other))
    assert np.array_equal(made(1, before=True).video.frames[6:], source)
    assert not np.array_equal(made(1, steps=2).video.frames, first.video.frames)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"num_frames": 0}, "value_out_of_range", "num_frames"),
    ({"num_frames": -4}, "value_out_of_range", "-4"),
    ({"guidance_scale": float("nan")}, "value_out_of_range", "guidance_scale"),
    ({"num_frames": True}, "not_a_whole_number", "True"),
    ({"context": 0}, "value_out_of_range", "context"),
    ({"context": 9}, "value_out_of_range", "1 to 8"),
    ({"video": brightening(range(1))}, "video_too_short", "1 frames"),
    ({"video": brightening(range(1)), "before": True}, "video_too_short", "1 frames"),
    ({"video": np.full((5, 16, 16, 3), np.nan)}, "value_out_of_range", "nan"),
    ({"video": "nowhere.mp4"}, "file_missing", "nowhere.mp4"),
    ({"prompt": " "}, "prompt_missing", "prompt"),
    ({"seed": 2**63 - 1, "num_frames": 9}, "value_out_of_range", "seed"),
    ({"width": 18}, "size_not_multiple", "16 and 20"),
    ({"reference_images": (brightening(range(1))[0],)}, "input_not_taken", "vace-14b"),
]


@pytest.mark.parametrize(("change", "code", "named"), REFUSED, ids=lambda value: str(value)[:20].split("\n")[0])
def test_what_cannot_be_extended_is_refused_before_any_work(folder: Path, change: dict, code: str, named: str) -> None:
    words = {"video": brightening(range(9)), "prompt": PROMPT, "num_frames": 4, "seed": 1, **change}
    with refused(code, named) as caught:
        extend(idle(folder, StartVideo()), **words)
    assert "\n" not in str(caught.value)


def test_a_model_that_takes_neither_frames_nor_a_mask_says_who_would(folder: Path) -> None:
    with refused("input_not_taken", "i2v-14b-480p", "vace-14b"):
        extend(idle(folder), brightening(range(9)), PROMPT, num_frames=4, seed=1)


def idle(folder: Path, *conditioners: Conditioner) -> Pretended:
    """A model that may not be asked."""
    return model(folder, lambda asked: pytest.fail("the model was asked"), *conditioners)
