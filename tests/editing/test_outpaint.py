"""The surroundings of a video are made; the video stays bit for bit where it was put."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.standard_inputs import MASK, VIDEO
from kinoform.conditions.vace import Vace
from kinoform.conditions.vace_inputs import GREY
from kinoform.conditions.video_to_video import StartVideo
from kinoform.editing.outpaint import ANCHORS, outpaint
from kinoform.editing.settings import EditSettings
from kinoform.media.types import InputVideo
from tests.editing.pretend import Pretended, noise, pretended, video
from tests.support.narrowing import some
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_pipeline

PROMPT = "a blue cat"


def placed(made: np.ndarray, rows: int, columns: int, height: int, width: int) -> np.ndarray:
    return made[:, rows : rows + height, columns : columns + width]


@pytest.mark.parametrize(
    ("size", "wanted", "anchor", "place"),
    [
        ((16, 16), (32, 32), "center", (8, 8)),
        ((16, 16), (16, 31), "center", (0, 7)),
        ((37, 53), (60, 53), "top", (0, 0)),
        ((37, 53), (60, 80), "bottom-right", (23, 27)),
        ((13, 10), (14, 21), "left", (0, 0)),
        ((13, 10), (20, 11), "right", (3, 1)),
    ],
)
@pytest.mark.parametrize("frames", [5, 13])
def test_the_video_stays_where_it_is_put(
    folder: Path, frames: int, size: tuple[int, int], wanted: tuple[int, int], anchor: str, place: tuple[int, int]
) -> None:
    source, (height, width) = video(frames, *size), wanted
    made = outpaint(
        pretended(folder, noise),
        InputVideo(frames=source, fps=24.0),
        PROMPT,
        width=width,
        height=height,
        anchor=anchor,
        seed=1,
    )
    assert made.video.frames.shape == (frames, height, width, 3) and made.video.fps == 24
    assert np.array_equal(placed(made.video.frames, *place, *size), source)
    inside = placed(made.alpha, *place, *size)
    assert not inside.any() and (made.alpha > 0).sum() == made.alpha.size - inside.size
    assert made.report.outside_equal and made.report.outside_pixels == inside.size


def test_what_is_feathered_lies_in_what_is_made(folder: Path) -> None:
    made = outpaint(
        pretended(folder, noise), video(5, 16, 16), PROMPT, width=40, height=16, seed=1,
        settings=EditSettings(feather=3.0, match_colours=False),
    )  # fmt: skip
    line = made.alpha[0, 8]
    assert line[12 : 12 + 16].max() == 0
    assert line[28:].tolist() == pytest.approx([0.25, 0.5, 0.75, *[1] * 9])
    assert line[:12].tolist() == line[:27:-1].tolist(), "the same on both sides"
    edge = made.video.frames[:, :, 27].astype(float)
    blend = np.rint(0.75 * edge + 0.25 * made.raw[:, :, 28])
    assert np.abs(made.video.frames[:, :, 28] - blend).max() <= 1, "from the edge of the video to what is made"
    assert np.array_equal(made.video.frames[:, :, 31:], made.raw[:, :, 31:])


def test_a_narrow_rim_is_feathered_less(folder: Path) -> None:
    made = outpaint(
        pretended(folder, noise),
        video(5, 16, 16),
        PROMPT,
        width=18,
        height=16,
        seed=1,
        settings=EditSettings(feather=8.0),
    )
    assert made.alpha[0, 8].tolist() == [1, *[0] * 16, 1]


def test_the_model_sees_the_video_in_grey(folder: Path) -> None:
    pipe = pretended(folder, noise, conditioners=(Vace(),))
    source = video(5, 8, 8)
    outpaint(pipe, source, PROMPT, width=16, height=16, seed=1, anchor="top-left")
    (asked,) = pipe.seen
    assert asked.inputs[VIDEO] is not None and asked.inputs[MASK] is not None
    white = np.broadcast_to(some(asked.inputs[MASK]).values == 255, some(asked.inputs[VIDEO]).frames.shape[:3])
    assert (asked.height, asked.width) == (16, 16) and (white[:, :8, :8] == False).all() and white[:, 8:].all()  # noqa: E712
    assert np.array_equal(some(asked.inputs[VIDEO]).frames[:, :8, :8], source)
    assert (some(asked.inputs[VIDEO]).frames[white] == GREY).all()


def test_a_video_that_is_scaled_down_stays_known_to_its_edge(folder: Path) -> None:
    pipe = pretended(folder, noise)
    outpaint(pipe, video(5, 16, 16), PROMPT, width=32, height=32, seed=1)
    (asked,) = pipe.seen
    assert asked.inputs[MASK] is not None
    white = some(asked.inputs[MASK]).values == 255
    assert not white[:, 4:12, 4:12].any() and white.sum() == white.size - len(white) * 64


@pytest.mark.filterwarnings("error")
def test_what_is_made_has_the_colours_of_the_video(folder: Path) -> None:
    """The model knows the whole image, in other colours."""
    rising = 60 + 6 * np.indices((16, 16)).sum(axis=0)
    for truth, seam in ((rising, 2.5), (np.full((16, 16), 120), 0.5)):
        frames = np.broadcast_to(truth[None, ..., None], (5, 16, 16, 3)).astype(np.uint8)
        pipe = pretended(folder, lambda asked, frames=frames: np.rint(frames * 0.95 + 13).astype(np.uint8))
        matched, left = (
            outpaint(
                pipe, frames[:, 4:12, 4:12], PROMPT, width=16, height=16, seed=1,
                settings=EditSettings(feather=0.0, match_colours=match),
            )
            for match in (True, False)
        )  # fmt: skip
        far = [np.abs(each.video.frames.astype(int) - frames).mean() for each in (matched, left)]
        assert far[0] < 1 < 3 < far[1]
        assert matched.report.boundary_delta_e is not None and matched.report.boundary_delta_e < seam


def test_a_real_model_leaves_the_video_as_it_is(folder: Path) -> None:
    pipe, source = tiny_pipeline(folder, conditioners=(StartVideo(),), num_frames=5), video(8, 12, 20)
    first, again, other = (outpaint(pipe, source, PROMPT, width=30, height=24, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.video.frames, again.video.frames)
    assert not np.array_equal(first.video.frames, other.video.frames)
    assert np.array_equal(placed(first.video.frames, 6, 5, 12, 20), source)
    assert first.video.params["width"] == 16, "the size that was made; the report tells the rest"


def test_much_more_than_the_video_is_told(folder: Path) -> None:
    with pytest.warns(UserWarning, match="40x40 has more than 4 times the area of the video of 16x16"):
        outpaint(pretended(folder, noise), video(5, 16, 16), PROMPT, width=40, height=40, seed=1)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"width": 16, "height": 16}, "size_out_of_range", "16x16"),
    ({"width": 8, "height": 32}, "size_out_of_range", "8x32"),
    ({"width": 0}, "value_out_of_range", "width"),
    ({"height": -32}, "value_out_of_range", "-32"),
    ({"width": True}, "not_a_whole_number", "True"),
    ({"width": 10**6}, "value_out_of_range", "1000000"),
    ({"anchor": "middle"}, "unknown_name", ", ".join(sorted(ANCHORS))),
    ({"video": video(1, 16, 16)}, "video_too_short", "1 frames"),
    ({"video": np.full((5, 16, 16, 3), np.nan)}, "value_out_of_range", "nan"),
    ({"prompt": ""}, "prompt_missing", "prompt"),
]


@pytest.mark.parametrize(("change", "code", "named"), REFUSED, ids=lambda value: str(value)[:20].split("\n")[0])
def test_what_cannot_be_surrounded_is_refused_before_any_work(
    folder: Path, change: dict, code: str, named: str
) -> None:
    words = {"video": video(5, 16, 16), "prompt": PROMPT, "width": 24, "height": 32, "seed": 1, **change}
    with refused(code, named) as caught:
        outpaint(idle(folder), **words)
    assert "\n" not in str(caught.value)


def test_a_model_that_takes_no_video_says_who_would(folder: Path) -> None:
    with refused("input_not_taken", "vace-14b"):
        outpaint(idle(folder, conditioners=(KnownFrames(),)), video(5, 16, 16), PROMPT, width=32, height=32, seed=1)


def idle(folder: Path, **changes: Any) -> Pretended:
    """A model that may not be asked."""
    return pretended(folder, lambda asked: pytest.fail("the model was asked"), **changes)
