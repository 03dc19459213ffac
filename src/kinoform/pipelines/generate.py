"""The whole story on one page: requests in, films out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinoform.conditions.ports import NOTHING, Given, together
from kinoform.conditions.text import text_rows
from kinoform.errors import Interrupted, NonFiniteError
from kinoform.models.codec import Codec, decode_film, latent_size, to_uint8
from kinoform.models.dit import DiT
from kinoform.models.vae import VAESpec
from kinoform.ops.patch import grid_of
from kinoform.pipelines.encoders import PartEncoders
from kinoform.pipelines.fit import fitting
from kinoform.pipelines.request import Request
from kinoform.solvers.base import sample
from kinoform.solvers.field import guided
from kinoform.types import Field, Latents, Level, Velocity
from kinoform.weights.parts import Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`done` of `total` in a stage: "text" (prompts), "encode" (inputs), "denoise" (steps), "decode" (latent frames).

    While denoising, `x0` are the latents of the film as predicted now.
    """

    stage: str
    done: int
    total: int
    x0: Latents | None = None


Callback = Callable[[Progress], bool | None]
"""Called after each piece of work; returning False ends it with `Interrupted`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where to compute, and in which precision the networks' products are taken."""

    device: torch.device
    dtype: torch.dtype


@torch.inference_mode()
def encode_prompts(
    parts: Parts, requests: Sequence[Request], machine: Machine, tell: Callback
) -> list[tuple[Tensor, Tensor]]:
    """(positive, negative) context rows of each request; the encoder is gone when this returns."""
    encoder = parts.text_encoder(machine.dtype, machine.device)
    tokenizer = parts.tokenizer()
    rows: dict[str, Tensor] = {}
    for done, request in enumerate(requests, start=1):
        for text in (request.prompt, request.negative_prompt):
            if text not in rows:
                rows[text] = text_rows(tokenizer, encoder, [text])
        _report(tell, Progress(stage="text", done=done, total=len(requests)))
    return [(rows[request.prompt], rows[request.negative_prompt]) for request in requests]


@torch.inference_mode()
def encode_inputs(parts: Parts, requests: Sequence[Request], machine: Machine, tell: Callback) -> list[Given]:
    """What each request's pictures and films give, door by door; the encoders are gone when this returns.

    Nothing is loaded for requests of words alone.
    """
    encoders = PartEncoders(parts, machine.device, machine.dtype)
    found = []
    for done, request in enumerate(requests, start=1):
        given = together(each.give(request.inputs, request.film, encoders) for each in request.conditioners)
        found.append(given)
        if request.conditioners:
            _report(tell, Progress(stage="encode", done=done, total=len(requests)))
    return found


def first_noise(
    codec: VAESpec, request: Request, generator: torch.Generator | None = None, *, lead: int = 0
) -> Latents:
    """Latents of pure noise, float32, drawn on the CPU: the same seed gives the same film on any device.

    `lead` latent frames more stand before the film.
    """
    generator = generator or torch.Generator().manual_seed(request.seed)
    frames, *sides = latent_size(codec, request.num_frames, request.height, request.width)
    return torch.randn(1, codec.channels, lead + frames, *sides, generator=generator)


@torch.inference_mode()
def denoise(
    model: DiT, request: Request, rows: tuple[Tensor, Tensor], noise: Latents, tell: Callback, given: Given = NOTHING
) -> Latents:
    """Follow the velocity from noise, or from the start that is given, to latents of a film.

    Raises NonFiniteError, naming the step, when a value stops being a number, FitError when memory runs out,
    and Interrupted when `tell` returns False.
    """
    noise = noise.to(model.patch_embedding.weight.device)
    canvas, known = given.canvas, given.canvas.known
    levels = request.solver.levels(request.steps, request.shift)
    first = first_step(request.steps, canvas.strength)
    x = noise if canvas.start is None else noised(canvas.start.to(noise), noise, levels[first])
    keep = None if known is None else lambda x, level: known.impose(x, level, noise)
    field = text_field(model, rows, x, request.guidance, given)
    for step in sample(request.solver, field, x, levels, start=first, keep=keep):
        x = step.x
        if not bool(torch.isfinite(x).all()):
            raise NonFiniteError(
                f"the latents are not finite after step {step.index + 1} of {request.steps} "
                f"(timestep {levels[step.index].timestep:g}); no film was made; try --dtype float32"
            )
        done, total = step.index + 1 - first, request.steps - first
        _report(tell, Progress(stage="denoise", done=done, total=total, x0=step.x0[:, :, canvas.lead :]))
    return x[:, :, canvas.lead :]


def first_step(steps: int, strength: float) -> int:
    """Where a film that is redone by `strength` in (0, 1] begins: the last `strength` of the steps, one at least."""
    return steps - max(1, min(steps, int(steps * strength)))


def noised(x0: Latents, noise: Latents, level: Level) -> Latents:
    """x at a level: (1 - sigma) x0 + sigma noise."""
    return (1 - level.sigma) * x0 + level.sigma * noise


def text_field(
    model: DiT, rows: tuple[Tensor, Tensor], x: Latents, guidance: float, given: Given = NOTHING
) -> Field:
    """The guided velocity of a prompt against its negative; the prompt's alone when guidance is 1."""
    grid = grid_of(x, model.spec.patch)
    positive, negative = (model.prepare(given.conditions(each), grid) for each in rows)

    def both(x: Latents, level: Level) -> tuple[Velocity, Velocity]:
        with_prompt, without = model.velocities(x, level, (positive, negative))
        return with_prompt, without

    def single(x: Latents, level: Level) -> Velocity:
        return model.velocities(x, level, (positive,))[0]

    return guided(both, guidance, positive=single)


@torch.inference_mode()
def decode(codec: Codec, latents: Latents, device: torch.device, tell: Callback) -> np.ndarray:
    """Frames uint8 [f, height, width, 3]; the codec works on one latent frame at a time.

    Raises NonFiniteError, since NaN would become some colour, and Interrupted when `tell` returns False.
    """
    frames, total = [], latents.shape[2]
    for done, pixels in enumerate(decode_film(codec, latents.to(device)), start=1):
        if not bool(torch.isfinite(pixels).all()):
            raise NonFiniteError(f"the frames decoded from latent frame {done} of {total} are not finite")
        frames.append(to_uint8(pixels[0]))
        _report(tell, Progress(stage="decode", done=done, total=total))
    return np.concatenate(frames)


def latents_of(
    parts: Parts, requests: Sequence[Request], machine: Machine, tell: Callback,
    generator: torch.Generator | None = None,
) -> Iterator[Latents]:  # fmt: skip
    """Denoised latents of one request after the other: text and inputs for all, then the transformer, loaded once.

    The transformer is gone when the last latents are handed out, so that their film is decoded without it.
    """
    with fitting("the text encoder"):
        rows = encode_prompts(parts, requests, machine, tell)
    with fitting("what encodes the inputs"):
        inputs = encode_inputs(parts, requests, machine, tell)
    with fitting("the transformer"):
        model = parts.transformer(machine.dtype, machine.device)

    def denoised(model: DiT, request: Request, each: tuple[Tensor, Tensor], given: Given) -> Latents:
        noise = first_noise(parts.codec_spec, request, generator, lead=given.canvas.lead)
        with fitting(f"a film of {request.num_frames} frames of {request.width}x{request.height}"):
            return denoise(model, request, each, noise, tell, given)

    *others, last = zip(requests, rows, inputs, strict=True)
    for request, each, given in others:
        yield denoised(model, request, each, given)
    latents = denoised(model, *last)
    del model
    yield latents


def _report(tell: Callback, progress: Progress) -> None:
    if tell(progress) is False:
        raise Interrupted(f"stopped in stage {progress.stage} after {progress.done} of {progress.total}")
