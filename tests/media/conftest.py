"""Videos to write, and a silent place to read others."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from kinoform.media.video import Video
from tests.support.strange_media import decoded_here

PARAMS = {"prompt": 'A "red" ball \\ café\nand a second line 红球 😀\x00\x1b[31m', "seed": 7, "steps": 4}


@pytest.fixture
def smooth_video() -> Video:
    """Waves that drift; 17 frames of 48 by 64."""
    y, x = np.mgrid[:48, :64]
    frames = [
        np.stack([np.sin(x / 20 + t / 5), np.cos(y / 15 - t / 7), np.sin((x + y) / 30 + t / 3)], -1) for t in range(17)
    ]
    return Video(frames=(127.5 + 100 * np.stack(frames)).astype(np.uint8), fps=16.0, params=PARAMS)


@pytest.fixture
def noisy_video() -> Video:
    """White noise, different in every frame: nothing that writes it can do so in a few bytes."""
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), dtype=np.uint8)
    return Video(frames=frames, fps=16.0, params=PARAMS)


@pytest.fixture
def here_and_silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decode in this process. Nothing is said of what loses nothing; tests of what is said expect it themselves."""
    monkeypatch.setattr("kinoform.media.read.decoded", decoded_here)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
