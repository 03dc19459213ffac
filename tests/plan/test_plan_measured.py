"""The predicted peaks are those of the tensors that are alive: counted, so the same on every processor."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from kinoform.models.codec import decode_video, encode_video
from kinoform.models.vae import VAESpec
from kinoform.ops.dry_run import Kernels
from kinoform.pipelines.fit import sizes_of, workload_of
from kinoform.pipelines.generate import Progress
from kinoform.plan.memory import needs
from kinoform.plan.modules import decode_run, encode_run
from tests.plan.planned_videos import PLAIN_KERNELS, VIDEOS, pipeline_of
from tests.support.live_bytes import LiveBytes

OTHER = VAESpec(dim=24, multipliers=(1, 3, 2), time_downsample=(True, False))


@pytest.mark.parametrize(
    ("kind", "dtype", "parts"),
    [
        ("image", torch.float32, False),
        ("image", torch.float32, True),
        ("image", torch.bfloat16, False),
        ("image", torch.bfloat16, True),
        ("control", torch.float32, False),
        ("factorized", torch.bfloat16, True),
        ("guests", torch.float32, True),
    ],
    ids=str,
)
def test_what_a_video_holds_is_predicted_within_a_tenth(
    kind: str, dtype: torch.dtype, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor whose products are faster than fused attention, and on one where they are not."""
    monkeypatch.setattr("kinoform.ops.attention.multiplies", lambda asked: parts and asked == dtype)
    recipe, inputs = VIDEOS[kind]
    pipe = pipeline_of(recipe, dtype)
    asked = pipe.request("a ball", seed=1, inputs=inputs(np.random.default_rng(1)))
    seen: dict[str, int] = {}
    with LiveBytes() as live:

        def tell(progress: Progress) -> None:
            seen[progress.stage] = max(seen.get(progress.stage, 0), live.peak)
            live.peak = live.now

        latents = next(pipe.latents([asked], tell))
        live.peak = live.now
        pipe.frames(latents, tell)
    work = workload_of(asked)
    kernels = Kernels(parts=parts, ordered=False)
    found = {peak.stage: peak for peak in needs(sizes_of(pipe.parts), work, dtype, "cpu", kernels).peaks}
    for stage in ("denoise", "decode"):
        held = found[stage].total - found[stage].fixed - work.material
        assert 0.9 < held / seen[stage] < 1.1, (stage, held, seen)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize(
    "spec", [VAESpec(dim=16), VAESpec(dim=24, multipliers=(1, 3, 2), time_downsample=(True, False))]
)
def test_what_the_codec_holds_is_predicted_within_a_twentieth(spec: VAESpec, frames: int) -> None:
    codec, (time, rows, columns), size = spec.build().requires_grad_(False), spec.stride, (frames, 12, 14)
    video = torch.zeros(1, 3, 1 + (frames - 1) * time, 12 * rows, 14 * columns)
    latents = torch.zeros(1, spec.channels, *size)
    whole = video.split((1, *[time] * (frames - 1)), dim=2)

    def decode() -> None:
        for pixels in decode_video(codec, latents):
            assert pixels.shape[3] == video.shape[3]

    assert decode_run(spec, size, PLAIN_KERNELS).peak == pytest.approx(alive(decode), rel=0.05)
    chunks = alive(lambda: encode_video(codec, (chunk.clone() for chunk in whole)))
    assert encode_run(spec, size, PLAIN_KERNELS).peak == pytest.approx(chunks, rel=0.05)


def alive(work: Callable[[], object]) -> int:
    """The most bytes of tensors that the work has at once."""
    with LiveBytes() as live:
        work()
    return live.peak
