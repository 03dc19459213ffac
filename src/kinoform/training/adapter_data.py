"""What an adapter learns from: what a person would hand over, a prompt, and the video that shall come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import VIDEO
from kinoform.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One video, and how it is asked for.

    Where the model that is adapted makes the same video from words alone, these are `told`: its own velocity under them
    is then what is learnt, which holds no chance, and not that of the one video that was drawn.
    Raises UsageError when the video to be made is the video that is handed over: nothing is learned from that but
    to copy, and the loss would look splendid.
    """

    inputs: Inputs
    prompt: str
    video: UInt8[np.ndarray, "f h w 3"] = field(repr=False)
    told: str | None = None

    def __post_init__(self) -> None:
        source = self.inputs[VIDEO]
        if source is not None and np.array_equal(source.frames, self.video):
            raise UsageError(
                f"the source and the target of {self.prompt!r} are the same video; draw another pair",
                code="sample_unchanged",
            )


@runtime_checkable
class Samples(Protocol):
    """Where samples come from, by value: those of a step are a function of its number and of seeds."""

    def draw(self, step: int, count: int, video: VideoSize) -> list[Sample]: ...
