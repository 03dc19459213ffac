"""Planned operations and bytes are those of the modules themselves, on real tensors, exactly."""

from dataclasses import replace

import pytest
import torch

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.models.codec import decode_video, encode_video
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiTSpec, cast_weights
from kinoform.models.text import TextSpec
from kinoform.models.vae import VAESpec
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import grid_of
from kinoform.pipelines.generate import text_field
from kinoform.plan.modules import codec_count, decode_run, encode_run, text_run
from kinoform.plan.transformer import transformer_count
from kinoform.solvers.base import sample
from kinoform.solvers.euler import Euler
from kinoform.types import Conditions
from tests.plan.planned_videos import PLAIN_KERNELS, guided, run_of

ROWS = 6
DIT = DiTSpec(
    dim=24, ffn_dim=40, heads=2, layers=3, in_channels=4, out_channels=4, frequency_width=16,
    context=(TextContext(width=10, length=ROWS),),
)  # fmt: skip
CODECS = {
    "as released": VAESpec(dim=4),
    "other levels": VAESpec(dim=3, channels=5, multipliers=(1, 3, 2), time_downsample=(True, False), mean=(), std=()),
    "one block": VAESpec(dim=2, residual_blocks=1, time_downsample=(True, True, True)),
    "shortcut": VAESpec(dim=4, channels=6, residual_blocks=1, mean=(), std=(), shortcut=True),
    "linear encoder": VAESpec(
        dim=4, channels=6, multipliers=(1, 1), residual_blocks=1, time_downsample=(True,), mean=(), std=(),
        shortcut=True, linear_encoder=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("spec", CODECS.values(), ids=CODECS)
def test_the_codec(spec: VAESpec, frames: int) -> None:
    """Not in inference mode, where a machine's own kernels may take the place of those that are counted."""
    codec, (time, rows, columns) = spec.build(), spec.stride
    video = torch.zeros(1, 3, 1 + (frames - 1) * time, 2 * rows, 3 * columns)
    chunks = [video[:, :, :1], *(video[:, :, 1:].split(time, dim=2) if frames > 1 else ())]
    latents = torch.zeros(1, spec.channels, frames, 2, 3)
    assert (
        count_flops(lambda: list(decode_video(codec, latents))) == decode_run(spec, (frames, 2, 3), PLAIN_KERNELS).flops
    )
    assert (
        count_flops(lambda: encode_video(codec, iter(chunks))) == encode_run(spec, (frames, 2, 3), PLAIN_KERNELS).flops
    )


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("spec", CODECS.values(), ids=CODECS)
def test_what_the_codec_remembers(spec: VAESpec, frames: int) -> None:
    history = None
    with torch.no_grad():
        for part in torch.zeros(1, spec.channels, frames, 2, 3).split(1, dim=2):
            _, history = spec.build().decode(part, history)
    assert bytes_of(history) == decode_run(spec, (frames, 2, 3), PLAIN_KERNELS).history


def bytes_of(history: object) -> int:
    """Of all tensors in a history, which is made of tuples."""
    if isinstance(history, torch.Tensor):
        return history.nbytes
    return sum(bytes_of(each) for each in history) if isinstance(history, tuple) else 0


def test_one_forward_of_the_transformer() -> None:
    model, x = DIT.build(), torch.randn(1, 4, 3, 4, 6)
    rows, grid = torch.randn(1, ROWS, 10), grid_of(x, DIT.patch)
    counted = count_flops(
        lambda: model(x, torch.tensor([500.0]), model.prepare(Conditions(context={"text": rows}), grid))
    )
    assert counted == run_of(DIT, (3, 4, 6)).prompt.forward


def test_a_forward_that_reads_images_too() -> None:
    spec = replace(DIT, in_channels=7, context=(*DIT.context, ImageContext(width=14, positions=5)))
    model, x = spec.build(), torch.randn(1, 4, 2, 4, 4)
    grid = grid_of(x, spec.patch)
    rows = {"text": torch.randn(1, ROWS, 10), "image": torch.randn(1, 5, 14)}
    conditions = Conditions(context=rows, channels=torch.randn(1, 3, 2, 4, 4))
    counted = count_flops(lambda: model(x, torch.tensor([500.0]), model.prepare(conditions, grid)))
    given = ConditionerOutput(context={"image": rows["image"].to("meta")})
    assert counted == run_of(spec, (2, 4, 4), given).prompt.forward


@pytest.mark.parametrize(("guidance_scale", "pairs"), [(4.0, 3), (1.0, 0)])
def test_a_whole_video_as_it_is_denoised(guidance_scale: float, pairs: int) -> None:
    model, x, steps = DIT.build(), torch.randn(1, 4, 3, 4, 6), 3
    rows = torch.randn(1, ROWS, 10), (None if guidance_scale == 1 else torch.randn(1, ROWS, 10))

    def denoise() -> None:
        list(sample(Euler(), text_field(model, rows, x, guidance_scale), x, Euler().levels(steps, 3.0)))

    planned = run_of(DIT, (3, 4, 6))
    asked = guided(pairs, steps - pairs)
    assert count_flops(denoise) == planned.executed(asked)
    assert planned.executed(asked) < planned.official(asked)


def test_the_text_encoder() -> None:
    spec = TextSpec(vocab=9, dim=24, dim_attention=16, dim_ffn=40, heads=2, layers=2, buckets=8, length=7)
    ids = torch.ones(1, 7, dtype=torch.long)
    encoder = spec.build()
    assert count_flops(lambda: encoder(ids, torch.ones_like(ids))) == text_run(spec, torch.float32, PLAIN_KERNELS).flops


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_of_weights(dtype: torch.dtype) -> None:
    held = sum(parameter.nbytes for parameter in cast_weights(DIT.build(), dtype).parameters())
    assert transformer_count(DIT).bytes(dtype) == held
    spec = CODECS["shortcut"]
    assert codec_count(spec).bytes(dtype) == sum(parameter.nbytes for parameter in spec.build().parameters())
