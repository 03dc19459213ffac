"""Sample videos while training: those that `generate` makes of the same weights; what is trained stays the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from kinoform import load
from kinoform.loading.parts import the_only
from kinoform.media.video_writer import read_video
from kinoform.training.adapter import train_adapter
from kinoform.training.metrics import read_metrics
from kinoform.training.observe import RunView
from kinoform.training.run_log import read_run
from kinoform.training.run_page import run_page
from kinoform.training.sampling import SampleRequest, SampleVideos
from kinoform.training.stage import RunOptions
from tests.support.refusals import refused
from tests.training.test_adapter import short

SMALL = {"num_inference_steps": 2, "width": 64, "height": 64, "num_frames": 5}
OPTIONS = RunOptions(show_progress=False)


class Kept(SampleVideos):
    """Sample videos, and a video of a pipeline that is told of the weights otherwise: by its own state."""

    def _sample(self, run: RunView, folder: Path, done: int) -> None:
        super()._sample(run, folder, done)
        with run.averaged() as module:
            self.state = {name: value.clone() for name, value in module.state_dict().items()}


def test_samples_are_videos_of_the_averaged_weights_and_training_is_the_same(tmp_path: Path) -> None:
    plan, base = replace(short(steps=2), batch=2), load("mini", device="cpu", dtype="float32")
    pipeline = replace(base, recipe=plan.recipe)
    samples = Kept(pipeline, [SampleRequest(prompt="a red ball moves left", seed=3, changes=SMALL)], every=2)
    trained = train_adapter(plan, base.parts, tmp_path / "seen" / "adapter", replace(OPTIONS, observers=(samples,)))
    train_adapter(plan, base.parts, tmp_path / "plain" / "adapter", OPTIONS)
    logs = [read_metrics(tmp_path / name / "adapter" / "losses.jsonl") for name in ("seen", "plain")]
    assert [entry.loss for entry in logs[0]] == [entry.loss for entry in logs[1]]
    (stage,) = read_run(tmp_path / "seen")
    assert [(item.step, item.name, item.path.suffix) for item in stage.samples] == [
        (2, "0", ".mp4"), (2, "0", ".png")
    ]  # fmt: skip
    assert run_page("run", [stage]).count("<video ") == 1
    model = the_only(trained.transformers)  # whose weights are the averaged ones
    assert all(torch.equal(value, samples.state[f"model.{name}"]) for name, value in model.state_dict().items())
    parts = replace(base.parts, transformers=(lambda dtype, device: model,))
    again = replace(pipeline, parts=parts)("a red ball moves left", seed=3, **SMALL)  # pyright: ignore[reportArgumentType]
    again.save(tmp_path / "again.mp4")
    written, _ = read_video(next(item.path for item in stage.samples if item.path.suffix == ".mp4"))
    assert np.array_equal(written, read_video(tmp_path / "again.mp4")[0])


def test_samples_that_would_never_come_are_refused() -> None:
    with refused("value_out_of_range"):
        SampleVideos(load("mini", device="cpu"), [], every=0)
