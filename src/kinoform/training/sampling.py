"""Sample videos of a training, made by the pipeline that `kinoform generate` runs, on the averaged weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kinoform.errors import UsageError
from kinoform.loading.parts import repeated
from kinoform.media.contact_sheet import save_contact_sheet
from kinoform.pipelines.pipeline import Pipeline
from kinoform.solvers.by_expert import expert_names
from kinoform.training.objective import TrainableModel
from kinoform.training.observe import RunView, StepReport
from kinoform.training.run_log import SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """A video that is made again and again: `changes` are arguments of a pipeline besides prompt and seed."""

    prompt: str
    seed: int = 0
    changes: Mapping[str, object] = field(default_factory=dict[str, object])


class SampleVideos:
    """Makes each request's video every `every` steps: step-00000500-0.mp4 and its contact sheet below `samples`.

    `pipeline` is that of the base. Its transformer is the one that learns, in memory and with its averaged weights;
    of several experts the others are as the base has them. The text encoder is loaded for it each time.
    """

    def __init__(self, pipeline: Pipeline, requests: Sequence[SampleRequest], every: int) -> None:
        if every < 1:
            raise UsageError(f"samples every {every} steps cannot be made; give 1 or more", code="value_out_of_range")
        self._pipeline, self._requests, self._every = pipeline, tuple(requests), every

    def begin(self, run: RunView) -> None:
        """See `Observer`."""

    def step(self, report: StepReport) -> None:
        """See `Observer`."""
        done = report.measurement.step + 1
        if done % self._every == 0:
            folder = report.run.folder / SAMPLES
            folder.mkdir(exist_ok=True)
            self._sample(report.run, folder, done)

    def end(self, run: RunView) -> None:
        """See `Observer`."""

    def _sample(self, run: RunView, folder: Path, done: int) -> None:
        names = expert_names(len(self._pipeline.recipe.transformers))
        mine = next((number for number, name in enumerate(names) if run.folder.name.endswith(f"-{name}")), 0)
        with run.averaged() as module:
            assert isinstance(module, TrainableModel)
            parts = repeated(self._pipeline.parts, len(names))
            loaders = list(parts.transformers)
            loaders[mine] = lambda dtype, device: module.model
            pipeline = replace(self._pipeline, parts=replace(parts, transformers=tuple(loaders)))
            for number, request in enumerate(self._requests):
                video = pipeline(request.prompt, seed=request.seed, **request.changes)  # pyright: ignore[reportArgumentType]
                path = folder / f"step-{done:08d}-{number}.mp4"
                video.save(path, force=True)
                save_contact_sheet(video, path.with_suffix(".png"), force=True)
