"""Cases that are compared: one step of the transformer, the autoencoder both ways, a whole video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline
from measure import Row, Work, compare, convolution_peak, product_peak
from pairs import Size, autoencoders, padded, prompt, transformers
from torch import Tensor

from kinoform.models.codec import decode_video
from kinoform.ops.cpu import emulates
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import grid_of
from kinoform.pipelines.experts import in_memory
from kinoform.pipelines.generate import decode, denoise
from kinoform.pipelines.request import Request
from kinoform.solvers.unipc import UniPC
from kinoform.types import Conditions

DTYPES = (torch.float32, torch.bfloat16)
TIMESTEP = 700.0
SHIFT, GUIDANCE = 5.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes of a case, and how often each side is run. `video` is (frames, height, width) in pixels."""

    transformers: dict[str, Size]
    video: tuple[int, int, int]
    dim: int
    whole: Size
    steps: int
    rounds: int
    peak_side: int


def measured() -> tuple[torch.dtype, ...]:
    """Return the dtypes that this processor computes products in, and does not emulate."""
    return tuple(dtype for dtype in DTYPES if not emulates(dtype))


def left_out(plan: Plan) -> list[str]:
    """Name the rows in the others: each would take many times as long and say nothing of either side."""
    return [
        f"{case}, {short(dtype)}"
        for dtype in DTYPES
        if emulates(dtype)
        for case in (*(f"transformer {name}" for name in plan.transformers), "video")
    ]


def peaks(plan: Plan) -> dict[str, float]:
    """Measure the machine's FLOP per CPU second, by kind and dtype."""
    found = {}
    for dtype in measured():
        found[f"product {short(dtype)}"] = product_peak(dtype, plan.peak_side)
        found[f"convolution {short(dtype)}"] = convolution_peak(dtype, plan.peak_side // 8)
    return found


def rows(plan: Plan, peak: dict[str, float], only: str) -> Iterator[Row]:
    """Return those whose name begins with `only`; models of the others are not made."""
    for dtype in measured():
        product = peak[f"product {short(dtype)}"]
        for name, size in plan.transformers.items():
            if f"transformer {name}".startswith(only):
                yield step(name, size, dtype, plan.rounds, product)
        if "video".startswith(only):
            yield video(plan, dtype, product)
    if "autoencoder".startswith(only):
        yield from codec(plan, peak["convolution fp32"])


def short(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]


@torch.inference_mode()
def step(name: str, size: Size, dtype: torch.dtype, rounds: int, peak: float) -> Row:
    """Compute one velocity. kinoform's keys and values of the prompt were made before, as they are once a video."""
    ours, theirs = transformers(size, dtype)
    x, rows, time = noise(size), prompt(size.text), torch.tensor([TIMESTEP])
    prepared = ours.prepare(Conditions(context={"text": rows}), grid_of(x, ours.spec.patch))

    def their_step() -> Tensor:
        return theirs(x.to(dtype), time, padded(rows).to(dtype), return_dict=False)[0]

    tokens = prepared.grid.tokens
    return compare(
        f"transformer {name}, {size.layers} layers, {tokens} tokens, {short(dtype)}",
        lambda: ours(x, time, prepared), their_step, rounds=rounds, flops=count_flops(their_step), peak=peak,
    )  # fmt: skip


@torch.inference_mode()
def codec(plan: Plan, peak: float) -> Iterator[Row]:
    ours, theirs = autoencoders(plan.dim)
    frames, height, width = plan.video
    pixels = torch.rand(1, 3, *plan.video, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latents = ours.encode(pixels)[0]
    size = f"{frames}x{height}x{width}, width {plan.dim}, fp32"
    both: list[tuple[str, Work, Work]] = [
        ("decode", lambda: torch.cat(list(decode_video(ours, latents)), 2).clamp(-1, 1),
         lambda: theirs.decode(ours.denormalise(latents), return_dict=False)[0]),
        ("encode", lambda: ours.encode(pixels)[0],
         lambda: ours.normalise(theirs.encode(pixels).latent_dist.mode())),
    ]  # fmt: skip
    for name, mine, other in both:
        case = f"autoencoder {name} {size}"
        yield compare(case, mine, other, rounds=plan.rounds, flops=count_flops(other), peak=peak)


def video(plan: Plan, dtype: torch.dtype, peak: float) -> Row:
    """Run from noise and prompt rows to frames, with guidance. The two noise grids differ slightly, so videos do."""
    ours, theirs = transformers(plan.whole, dtype)
    codec, their_codec = autoencoders(plan.dim)
    frames, height, width = plan.video
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    pipe = WanPipeline(
        tokenizer=None, text_encoder=None, vae=their_codec, scheduler=scheduler, transformer=theirs
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    x, rows = noise(plan.whole), (prompt(plan.whole.text), prompt(plan.whole.text) / 2)
    request = Request(
        prompt="given as rows", negative_prompt="", seed=0, width=width, height=height, num_frames=frames, fps=16,
        steps=plan.steps, guidance_scale=GUIDANCE, shift=SHIFT, solver=UniPC(),
    )  # fmt: skip

    def mine() -> Tensor:
        latents = denoise(in_memory(ours), request, rows, lambda: x, lambda progress: None)
        return torch.from_numpy(decode(codec, latents, x.device, lambda progress: None))

    def other() -> Tensor:
        positive, negative = (padded(each).to(dtype) for each in rows)
        made = pipe(
            prompt_embeds=positive, negative_prompt_embeds=negative, latents=x, height=height, width=width,
            num_frames=frames, num_inference_steps=plan.steps, guidance_scale=GUIDANCE, output_type="pt",
        )  # fmt: skip
        return made.frames

    case = f"video {frames}x{height}x{width}, {plan.steps} steps, {short(dtype)}"
    return compare(case, mine, other, rounds=plan.rounds, flops=count_flops(other), peak=peak, alike=False)


def noise(size: Size) -> Tensor:
    return torch.randn(1, 16, *size.latents, generator=torch.Generator().manual_seed(3))
