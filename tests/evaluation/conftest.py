"""The embedded models, and a painter in their place whose videos are known."""

from collections.abc import Callable

import numpy as np
import pytest

import kinoform
from kinoform.conditions.standard_inputs import MASK
from kinoform.evaluation.case import Case
from kinoform.evaluation.generate import Generated
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline

Paint = Callable[[Case], np.ndarray]


@pytest.fixture(scope="session")
def mini() -> Pipeline:
    return kinoform.load("mini", device="cpu")


@pytest.fixture(scope="session")
def factorized() -> Pipeline:
    return kinoform.load("mini-factorized", device="cpu")


def drawn(case: Case, frames: np.ndarray) -> Generated:
    """Frames as if a model had made them for a case."""
    mask = case.inputs[MASK]
    kept = case.kept if mask is None else mask.values < 128
    return Generated(video=Video(frames=frames, fps=16.0), raw=frames, kept=kept)


@pytest.fixture
def paint(monkeypatch: pytest.MonkeyPatch) -> Callable[[Paint], None]:
    """Let videos be painted by a function of their case, whatever the model would make."""

    def use(painted: Paint) -> None:
        monkeypatch.setattr(
            "kinoform.evaluation.evaluate.generated", lambda pipeline, case, changes: drawn(case, painted(case))
        )

    return use


@pytest.fixture
def lossless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec without loss."""
    monkeypatch.setattr("kinoform.evaluation.evaluate.redrawn", lambda pipeline, frames: frames)
