"""A training sample as pixels: a video, and the inputs and the prompt that ask for it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import VIDEO
from kinoform.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Video of a training, with the inputs and the prompt that ask for it.

    `base_prompt` is the prompt from which the base model makes such a video without the inputs, if it can: the base's
    velocity under it is then the target, which has less variance than that of the one video that was drawn.
    Raises UsageError when the source video is the target video, since copying is all that could be learnt from it.
    """

    inputs: Inputs
    prompt: str
    video: UInt8[np.ndarray, "f h w 3"] = field(repr=False)
    base_prompt: str | None = None

    def __post_init__(self) -> None:
        source = self.inputs[VIDEO]
        if source is not None and np.array_equal(source.frames, self.video):
            raise UsageError(
                f"the source and the target of {self.prompt!r} are the same video; draw another pair",
                code="sample_unchanged",
            )
