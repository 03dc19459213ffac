"""The embedded models, and a painter in their place whose videos are known."""

from collections.abc import Callable

import numpy as np
import pytest

import kinoform
from kinoform.evaluation.prompts import Asked
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline

Paint = Callable[[Asked], np.ndarray]


@pytest.fixture(scope="session")
def mini() -> Pipeline:
    return kinoform.load("mini", device="cpu")


@pytest.fixture(scope="session")
def factorized() -> Pipeline:
    return kinoform.load("mini-factorized", device="cpu")


@pytest.fixture
def paint(monkeypatch: pytest.MonkeyPatch) -> Callable[[Paint], None]:
    """Let videos be painted by a function of what is asked, whatever the model would make."""

    def use(painted: Paint) -> None:
        def video(pipeline: Pipeline, asked: Asked, changes: object) -> Video:
            return Video(frames=painted(asked), fps=16.0)

        monkeypatch.setattr("kinoform.evaluation.evaluate._video", video)

    return use
