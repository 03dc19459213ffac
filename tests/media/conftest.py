"""Films to write, and a disk that is as small as a test wants."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest

from kinoform.media.film import Film

PARAMS = {"prompt": 'A "red" ball \\ café\nand a second line 红球 😀\x00\x1b[31m', "seed": 7, "steps": 4}


@pytest.fixture
def smooth_film() -> Film:
    """Waves that drift; 17 frames of 48 by 64."""
    y, x = np.mgrid[:48, :64]
    frames = [
        np.stack([np.sin(x / 20 + t / 5), np.cos(y / 15 - t / 7), np.sin((x + y) / 30 + t / 3)], -1) for t in range(17)
    ]
    return Film(frames=(127.5 + 100 * np.stack(frames)).astype(np.uint8), fps=16.0, params=PARAMS)


@pytest.fixture
def noisy_film() -> Film:
    """White noise, different in every frame: nothing that writes it can do so in a few bytes."""
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), dtype=np.uint8)
    return Film(frames=frames, fps=16.0, params=PARAMS)


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """Make writing beyond so many bytes of any file fail, as on a full disk (the system says EFBIG)."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
