"""Long videos: the windows of each are denoised in turn, under the same conditions, with one transformer in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.loading.parts import Parts
from kinoform.pipelines.experts import Experts
from kinoform.pipelines.fit import fitting
from kinoform.pipelines.generate import (
    Callback,
    Progress,
    Rows,
    denoise,
    encode_inputs,
    encode_prompts,
    noise_of,
)
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.request import Request
from kinoform.pipelines.windows import LatentWindow
from kinoform.types import Latents


def latents_in_windows(
    parts: Parts, requests: Sequence[Request], machine: Machine, on_progress: Callback,
    generator: torch.Generator | None = None,
) -> Iterator[Latents]:  # fmt: skip
    """Denoised latents of one request after the other, window by window; text and inputs of all come first.

    The noise of all windows of a video is drawn in turn from its generator, so that the first window is the video that
    the same seed makes at once. Several transformers take turns in each window. What `on_progress` is told of
    `denoise` counts the steps of all windows, and `x0` are the latents of the window. The transformer is gone when the
    last latents are handed out. Raises as `generate.latents_of`.
    """
    windows = [request.in_windows(parts.codec_spec) for request in requests]
    at_once = [
        [request.at_once(each) for each in own or (None,)] for request, own in zip(requests, windows, strict=True)
    ]
    everything = [each for own in at_once for each in own]
    with fitting("the text encoder"):
        rows = iter(encode_prompts(parts, everything, machine, on_progress))
    with fitting("what encodes the inputs"):
        inputs = iter(encode_inputs(parts, everything, machine, on_progress))
    experts = Experts([partial(load, machine.dtype, machine.device) for load in parts.transformers], machine.device)
    for number, (request, own) in enumerate(zip(requests, at_once, strict=True)):
        draws = generator or torch.Generator().manual_seed(request.seed)
        made: Latents | None = None
        for index, one in enumerate(own):
            text, given = next(rows), next(inputs)
            window = windows[number][index] if windows[number] else None
            on_step = partial(_over_all, on_progress, index, len(own), number)
            latents = _window(parts, experts, one, text, given, draws, on_step, window, made)
            new = latents if window is None else window.new(latents)
            made = new if made is None else torch.cat([made, new], dim=2)
        if number == len(requests) - 1:
            experts.release()
        assert made is not None
        yield made


def _window(
    parts: Parts, experts: Experts, request: Request, rows: Rows, given: ConditionerOutput,
    generator: torch.Generator, on_progress: Callback, window: LatentWindow | None,
    made: Float[Tensor, "b c made h w"] | None,
) -> Latents:  # fmt: skip
    """Denoise one window behind the latents that are `made`."""
    if window is not None and made is not None:
        given = window.carrying(given, made)
    draw = noise_of(parts.codec_spec, request, generator, lead=given.constraints.prefix_frames)
    with fitting(f"a window of {request.num_frames} frames of {request.width}x{request.height}"):
        return denoise(experts, request, rows, draw, on_progress, given)


def _over_all(on_progress: Callback, index: int, windows: int, video: int, progress: Progress) -> bool | None:
    done, total = index * progress.total + progress.done, windows * progress.total
    return on_progress(replace(progress, done=done, total=total, video=video))
