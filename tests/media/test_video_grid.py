"""A grid shows every video whole, at the same time, in its own place."""

import numpy as np
import pytest

from kinoform.errors import UsageError
from kinoform.media.contact_sheet import video_grid
from kinoform.media.video import Video


def video(value: int, prompt: str = "a video", *, side: int = 40, fps: float = 16.0) -> Video:
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] + np.full((5, side, side, 3), value, np.uint8)
    return Video(frames=frames, fps=fps, params={"prompt": prompt})


def found(frames: np.ndarray, value: int) -> tuple[int, int, int]:
    """How many pixels of the first frame have this value in all channels, and the first row and column."""
    rows, columns = np.nonzero((frames[0] == value).all(-1))
    return len(rows), int(rows.min()), int(columns.min())


def test_every_video_has_its_place() -> None:
    shown = video_grid([video(50), video(90), video(130), video(170)], columns=3, upscale=2)
    assert len(shown.frames) == 5 and shown.fps == 16
    places = [found(shown.frames, value) for value in (50, 90, 130, 170)]
    assert [count for count, _, _ in places] == [6400] * 4
    (_, top, left), (_, top2, left2), (_, top3, left3), (_, top4, left4) = places
    assert top == top2 == top3 < top4 and left == left4 < left2 < left3
    assert np.array_equal((shown.frames == 54).all(-1)[4], (shown.frames == 50).all(-1)[0]), "time runs"


def test_a_prompt_stands_beneath() -> None:
    bare, said = (video_grid([video(50, prompt)]).frames for prompt in ("", "a red ball bounces"))
    assert said.shape[1] > bare.shape[1]
    assert (said[:, bare.shape[1] :] > 200).any() and not (bare > 200).any()


def test_prompts_are_kept() -> None:
    shown = video_grid([video(50, "one"), video(60, "two")])
    assert shown.params["videos"] == [{"prompt": "one"}, {"prompt": "two"}]


@pytest.mark.parametrize(
    ("videos", "options"),
    [([], {}), ([video(1)], {"columns": 0}), ([video(1)], {"upscale": 0}), ([video(1), video(1, side=32)], {}),
     ([video(1), video(1, fps=8.0)], {})],
)  # fmt: skip
def test_what_does_not_fit_is_refused(videos: list[Video], options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        video_grid(videos, **options)
