"""Training examples: samples that have been encoded as generation encodes its inputs, by the number of the step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.protocols import Conditioner, ConditionerOutput, VideoSize, together
from kinoform.datasets.sample import Sample
from kinoform.models.codec import to_signed
from kinoform.training.frozen import CodecOnly, FrozenParts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """A sample in the form that the stage mixes with noise.

    `latents` are those of the video, `condition` what the conditioners make of the inputs, of this sample alone;
    `base_prompt` is that of `Sample`; where it is `kept`, what the model said of it before is learnt. `name` is what
    messages call it.
    """

    name: str
    prompt: str
    latents: Float[Tensor, "c f h w"] = field(repr=False)
    condition: ConditionerOutput = field(repr=False)
    base_prompt: str | None = None
    kept: bool = False


@runtime_checkable
class Examples(Protocol):
    """Source of the examples of each step; those of a step have latents of one shape."""

    def count(self, step: int) -> int:
        """Return the number of examples of a step, of all processes together."""
        ...

    def alike(self, step: int) -> int:
        """Return the first step with as many examples, of the same size."""
        ...

    def draw(self, step: int, mine: slice) -> list[Example]:
        """Return those of a step that this process learns: a function of the step alone."""
        ...

    def names(self, step: int) -> list[str]:
        """Return what all examples of a step are called."""
        ...

    def rows(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """Return the text features of prompts, exactly as generation makes them."""
        ...


@runtime_checkable
class Samples(Protocol):
    """Source of samples, by value: those of a step are a function of its number and of seeds."""

    def draw(self, step: int, count: int, video: VideoSize) -> list[Sample]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnExamples:
    """Samples that are drawn and encoded when their step comes, `batch` of them a step, on the CPU."""

    samples: Samples
    batch: int
    video: VideoSize
    conditioners: tuple[Conditioner, ...]
    frozen: FrozenParts

    def count(self, step: int) -> int:
        """See `Examples`."""
        return self.batch

    def alike(self, step: int) -> int:
        """See `Examples`."""
        return 0

    @torch.no_grad()
    def draw(self, step: int, mine: slice) -> list[Example]:
        """See `Examples`."""
        samples = self.samples.draw(step, self.batch, self.video)[mine]
        conditions = [self.condition(sample) for sample in samples]
        latents, _ = self.frozen.codec.encode(to_signed(np.stack([sample.video for sample in samples])))
        return [
            Example(
                name=repr(sample.prompt), prompt=sample.prompt, latents=own, condition=condition,
                base_prompt=sample.base_prompt,
            )
            for sample, own, condition in zip(samples, latents, conditions, strict=True)
        ]  # fmt: skip

    def names(self, step: int) -> list[str]:
        """See `Examples`."""
        return [repr(sample.prompt) for sample in self.samples.draw(step, self.batch, self.video)]

    def rows(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """See `Examples`."""
        return self.frozen.rows(prompts)

    def condition(self, sample: Sample) -> ConditionerOutput:
        """Encode a sample's inputs as the conditioners would encode those of a request."""
        encoders = CodecOnly(self.frozen.codec)
        return together(item.encode(sample.inputs, self.video, encoders) for item in self.conditioners)
