"""Passes of an edit: each is checked in advance, denoised once, and not made again where its latents were kept."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import Units
from kinoform.conditions.resize import Size
from kinoform.conditions.standard_inputs import FRAMES, VIDEO
from kinoform.editing.masks import Alpha
from kinoform.editing.report import EditReport
from kinoform.editing.settings import EditSettings, ExtendSettings
from kinoform.media.resample import Times
from kinoform.media.types import InputVideo, Sound
from kinoform.media.video import Video
from kinoform.models.codec import check_size
from kinoform.numbers import Whole
from kinoform.pipelines.fit import check_fit
from kinoform.pipelines.generate import Callback, Progress
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request, request
from kinoform.recipe import Recipe
from kinoform.types import Latents

NOT_HASHED = {"version", "machine"}
"""Parameters of a video that do not decide its latents."""

Frames = UInt8[np.ndarray, "_ height width 3"]
MadeFrames = UInt8[np.ndarray, "_ tall wide 3"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edited:
    """Result of an edit.

    `video` has the report in its params under "edit", and the times and the sound of the source. `raw` is the output
    of the model in the pixels of the source, before it was blended; the source's pixels where the model made none.
    `alpha` is the weight of `raw` in the result, 0 to 1.
    """

    video: Video
    raw: Frames = field(repr=False)
    alpha: Alpha = field(repr=False)
    report: EditReport


@runtime_checkable
class LatentStore(Protocol):
    """Store of the latents of the passes of one edit."""

    def made(self, number: int) -> Latents | None:
        """Return the latents of a pass that an earlier run made; None where it made none."""
        ...

    def keep(self, number: int, latents: Latents) -> None:
        """Keep the latents of a finished pass."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PassPlan:
    """Plan of an edit: everything but its frames.

    `base` is the request as it was handed over, with the whole `source` and the largest size that is made at once.
    `passes` say what each pass makes, in order; pass i has the seed `base.seed` + i.
    """

    pipeline: Pipeline
    base: Request
    source: InputVideo
    settings: EditSettings | ExtendSettings
    passes: tuple[object, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return frames, height and width of the result."""
        return len(self.source.frames), *self.source.size

    @property
    def times(self) -> Times | None:
        """Return the times of the result's frames; None where they are evenly spaced."""
        return self.source.times

    @property
    def fps(self) -> float:
        """Return the mean frames per second of the result; the recipe's where the source does not say."""
        return self.pipeline.recipe.fps if self.source.fps is None else self.source.fps

    @property
    def sound(self) -> Sound | None:
        """Return the sound of the source, at its time in the result."""
        return self.source.sound

    @property
    def beside(self) -> int:
        """Return the bytes that the source, the result and the model's output take beside the model."""
        return bytes_of(len(self.source.frames), self.source.size, per_pixel=13)

    def request(self, number: int, video: Frames) -> Request:
        """Return the request of a pass, where `video` is the result as far as it is made.

        Raises UsageError for inputs that the model does not take, and FitError for a video that cannot fit.
        """
        raise NotImplementedError

    def seed(self, number: int) -> int:
        """Return the seed of a pass."""
        return self.base.seed + number

    def identity(self) -> str:
        """Return a hash of all that decides the latents of the passes."""
        values = {name: value for name, value in self.pipeline.params(self.base).items() if name not in NOT_HASHED}
        values |= {"settings": asdict(self.settings), "passes": self.passes}
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()

    def frames(self, number: int, video: Frames, store: LatentStore | None, on_progress: Callback) -> MadeFrames:
        """Make the frames of a pass in the size of the model; latents in the store are not denoised again.

        `video` is the result as far as it is made. Raises WeightsError, FitError, NonFiniteError and Interrupted as a
        call of the pipeline.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were given for the plan
            request = self.request(number, video)

        def over_all_passes(progress: Progress) -> bool | None:
            done, total = number * progress.total + progress.done, len(self.passes) * progress.total
            return on_progress(replace(progress, done=done, total=total))

        latents = None if store is None else store.made(number)
        if latents is None:
            latents = next(self.pipeline.latents([request], over_all_passes))
            if store is not None:
                store.keep(number, latents)
        return self.pipeline.frames(latents, over_all_passes)

    def result(self, frames: Frames, report: EditReport, **params: object) -> Video:
        """Return the edited video; its params are the pipeline's, with the size that is made at once, and `params`."""
        edit = {"settings": asdict(self.settings), **report.as_json()}
        params = {**self.pipeline.params(self.base), "fps": self.fps, "edit": edit, **params}
        return Video(frames=frames, fps=self.fps, params=params, times=self.times, sound=self.sound)

    def check(self) -> None:
        """Check the first request and the last seed; the other requests have no other size. Raises as `request`."""
        self.request(0, self.source.frames)
        replace(self.base, seed=self.seed(len(self.passes) - 1))

    def _checked(self, number: int, size: tuple[int, int, int], inputs: Inputs) -> Request:
        """Return a request of so many frames, height and width, if the model takes it and it fits."""
        frames, height, width = size
        changed = replace(
            self.base, seed=self.seed(number), inputs=inputs, num_frames=frames, height=height, width=width
        )
        changed, machine = self.pipeline.sized(changed), self.pipeline.machine
        check_fit(changed, self.pipeline.parts, machine.dtype, machine.device, beside=self.beside)
        return changed


def base_request(
    pipeline: Pipeline, prompt: str, seed: Whole, inputs: Inputs, **changes: Any
) -> tuple[Pipeline, Request]:
    """Return the request that the passes of an edit derive from, and a pipeline that leaves its prompt as it is.

    The prompt is rewritten once, so that it is the same in all passes. Raises UsageError for values out of range.
    """
    prompt, pipeline = pipeline.extend(prompt) if pipeline.extend else prompt, replace(pipeline, extend=None)
    base = request(pipeline.recipe, prompt, seed, inputs=inputs, **changes)
    check_size(pipeline.parts.codec_spec, pipeline.parts.patch, base.num_frames, base.height, base.width)
    return pipeline, base


def units_of(pipeline: Pipeline) -> Units:
    """Return the units of a model's videos."""
    return Units(stride=pipeline.parts.codec_spec.stride, patch=pipeline.parts.patch)


def bytes_of(frames: int, size: Size, *, per_pixel: int) -> int:
    """Return the bytes of so many frames of a size (height, width)."""
    return frames * size[0] * size[1] * per_pixel


def warn_unfamiliar_inputs(recipe: Recipe, inputs: Inputs) -> None:
    """Warn as `warn_unfamiliar` does of the video, and of the first image, that a video is made from."""
    video = inputs[VIDEO]
    if video is not None:
        warn_unfamiliar(recipe, video.name, video.size)
    for image in list(inputs[FRAMES].values())[:1]:
        warn_unfamiliar(recipe, image.name, image.size, instead="i2v-14b-480p")


def warn_unfamiliar(recipe: Recipe, name: str, size: Size, *, instead: str = "vace-1.3b") -> None:
    """Warn of a video or image `name` that a model trained on its own small world cannot know, going by its size.

    Videos of that world have the size that the model makes, or a whole multiple of it. `instead` names a model to use.
    """
    own = size[0] % recipe.height == 0 and size[0] * recipe.width == size[1] * recipe.height
    if recipe.world is not None and not own:
        warnings.warn(
            f"{recipe.name} knows only its own world, {recipe.world}; it will make little of {name}: take a released "
            f"model for that, such as {instead} (kinoform download {instead})",
            stacklevel=4,
        )
