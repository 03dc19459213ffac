"""A preview shows the video as it is where nothing changes, and tells change, blend and window apart."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.editing import preview
from kinoform.editing.extend_plan import plan_extend
from kinoform.editing.preview import BLENDS, CHANGES, SEEN, outline, tinted
from kinoform.editing.settings import ExtendSettings
from kinoform.editing.window import Window
from kinoform.media.video import Video
from tests.editing.pretend import noise, pretended, video


def test_colours_are_laid_over_what_changes_and_nothing_else() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    alpha = np.zeros((9, 12), np.float32)
    alpha[2:6, 3:8], alpha[4:6, 4:6] = 0.5, 1
    shown = tinted(frame, alpha)
    assert np.array_equal(shown[alpha == 0], frame[alpha == 0])
    for place, colour in ((alpha == 0.5, BLENDS), (alpha == 1, CHANGES)):
        before, after = (np.abs(each[place].astype(float) - colour).mean() for each in (frame, shown))
        assert after < before / 2
        assert len(np.unique(shown[place], axis=0)) > 1, "the video shines through"


@pytest.mark.parametrize(("size", "wide"), [((40, 60), 1), ((600, 300), 3)])
def test_a_window_is_drawn_where_it_lies_in_the_video(size: tuple[int, int], wide: int) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    outline(frame, Window(top=-4, left=10, height=24, width=20, made=(24, 20)))
    seen = (frame == SEEN).all(axis=-1)
    assert seen[:wide, 10:30].all() and seen[:20, 10 : 10 + wide].all() and seen[20 - wide : 20, 10:30].all()
    assert not seen[wide : 20 - wide, 10 + wide : 30 - wide].any()
    assert not seen[20:].any() and not seen[:, :10].any() and not seen[:, 30:].any()


@pytest.mark.parametrize("before", [False, True])
def test_of_a_longer_video_it_shows_what_the_model_is_handed_and_where_it_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    drawn: list[Video] = []

    def sheet(video: Video) -> Image.Image:
        drawn.append(video)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(preview, "contact_sheet", sheet)
    source = video(13, 16, 16)
    settings = ExtendSettings(before=before, context=2)
    plan = plan_extend(pretended(folder, noise), source, "a cat", num_frames=9, seed=1, settings=settings)
    preview.preview_extend(plan)
    (shown,) = drawn
    new = plan.passes[0]
    assert len(plan.passes) > 1 and "the first of" in str(shown.params["prompt"])
    assert len(shown.frames) == 2 + new
    known, made = (shown.frames[new:], shown.frames[:new]) if before else (shown.frames[:2], shown.frames[2:])
    handed = source[:2] if before else source[-2:]
    assert np.array_equal(known[:, 1:-1, 1:-1], handed[:, 1:-1, 1:-1]) and (known[:, 0] == SEEN).all()
    edge = handed[0] if before else handed[-1]
    assert np.array_equal(made, np.stack([tinted(edge, np.ones((16, 16), np.float32))] * new))
