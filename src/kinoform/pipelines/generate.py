"""The whole story on one page: requests in, videos out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from kinoform.conditions.protocols import NOTHING, ConditionerOutput, InpaintingConstraint, LatentConstraints, together
from kinoform.conditions.standard_inputs import SOURCE_PROMPT
from kinoform.conditions.text import text_rows
from kinoform.errors import Interrupted, NonFiniteError, UsageError
from kinoform.loading.parts import Parts
from kinoform.models.codec import Codec, CodecSpec, decode_video, latent_size, to_uint8
from kinoform.models.dit import DiT
from kinoform.ops.patch import grid_of
from kinoform.pipelines.encoders import PartEncoders
from kinoform.pipelines.fit import fitting
from kinoform.pipelines.request import Request
from kinoform.solvers.field import MemoryField, guided
from kinoform.solvers.guidance import reads_negative
from kinoform.solvers.sampler import Run, first_step
from kinoform.types import Field, Latents, Level, Velocity


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`done` of `total` in a stage: "text" (prompts), "encode" (inputs), "denoise" (steps), "decode" (latent frames).

    An edit goes on with "compose" (frames). While denoising, `x0` are the latents of the video as predicted now.
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


Rows: TypeAlias = tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, Tensor]
"""Context rows of the prompt, of the negative prompt (None where nothing reads it) and, where a video is to be changed,
of what it shows."""


@torch.no_grad()
def encode_prompts(parts: Parts, requests: Sequence[Request], machine: Machine, tell: Callback) -> list[Rows]:
    """Context rows of each request; the encoder is gone when this returns."""
    encoder = parts.text_encoder(machine.dtype, machine.device)
    tokenizer = parts.tokenizer()
    rows: dict[str, Tensor] = {}
    for done, request in enumerate(requests, start=1):
        for text in texts_of(request):
            if text not in rows:
                rows[text] = text_rows(tokenizer, encoder, [text])
        _report(tell, Progress(stage="text", done=done, total=len(requests)))
    return [_rows(request, rows) for request in requests]


def texts_of(request: Request) -> tuple[str, ...]:
    """Texts that are read: the prompt, mostly the negative prompt, and the source prompt where there is one."""
    negative = (request.negative_prompt,) if request.reads_negative else ()
    source = request.inputs[SOURCE_PROMPT]
    return request.prompt, *negative, *(() if source is None else (source,))


def _rows(request: Request, rows: Mapping[str, Tensor]) -> Rows:
    negative = rows[request.negative_prompt] if request.reads_negative else None
    source = request.inputs[SOURCE_PROMPT]
    return (rows[request.prompt], negative) if source is None else (rows[request.prompt], negative, rows[source])


@torch.no_grad()
def encode_inputs(
    parts: Parts, requests: Sequence[Request], machine: Machine, tell: Callback
) -> list[ConditionerOutput]:
    """What each request's images and videos give, door by door; the encoders are gone when this returns.

    Nothing is loaded for requests of words alone, and what several requests share is encoded once.
    """
    encoders = PartEncoders(parts, machine.device, machine.dtype)
    found: dict[tuple[object, ...], ConditionerOutput] = {}
    given: list[ConditionerOutput] = []
    for done, request in enumerate(requests, start=1):
        if (key := _what(request)) not in found:
            found[key] = together(each.encode(request.inputs, request.video, encoders) for each in request.conditioners)
        given.append(found[key])
        if request.inputs:
            _report(tell, Progress(stage="encode", done=done, total=len(requests)))
    return given


def _what(request: Request) -> tuple[object, ...]:
    """All that decides what the inputs of a request give, objects by identity: equal videos are not compared."""
    return id(request.inputs), request.video, *map(id, request.conditioners)


def noise_of(
    codec: CodecSpec, request: Request, generator: torch.Generator | None = None, *, lead: int = 0
) -> Callable[[], Latents]:
    """Draws latents of pure noise, others at each call: float32, on the CPU, so that a seed means one video anywhere.

    `lead` latent frames more stand before the video.
    """
    generator = generator or torch.Generator().manual_seed(request.seed)
    frames, *sides = latent_size(codec, request.num_frames, request.height, request.width)
    return lambda: torch.randn(1, codec.channels, lead + frames, *sides, generator=generator)


@torch.no_grad()
def denoise(
    model: DiT,
    request: Request,
    rows: Rows,
    draw: Callable[[], Latents],
    tell: Callback,
    given: ConditionerOutput = NOTHING,
) -> Latents:
    """Follow the velocity from noise, or from the start that is given, to latents of a video.

    The first noise that `draw` returns is the video's. Raises NonFiniteError, naming the step, when a value
    stops being a number, FitError when memory runs out, and Interrupted when `tell` returns False.
    """
    run, lead = prepare_run(model, request, rows, draw, given), given.constraints.prefix_frames
    x, total = run.noise, request.steps - run.first
    for done, step in enumerate(request.sampler.steps(run), start=1):
        x = step.x
        if not bool(torch.isfinite(x).all()):
            raise NonFiniteError(
                f"the latents are not finite after step {step.index + 1} of {request.steps} "
                f"(timestep {run.levels[step.index].timestep:g}); no video was made; try --dtype float32",
                code="not_finite",
            )
        _report(tell, Progress(stage="denoise", done=done, total=total, x0=step.x0[:, :, lead:]))
    return x[:, :, lead:]


def prepare_run(
    model: DiT, request: Request, rows: Rows, draw: Callable[[], Latents], given: ConditionerOutput = NOTHING
) -> Run:
    """What the request's sampler works with, on the device of the model."""
    device, constraints = model.patch_embedding.weight.device, given.constraints
    noise = draw().to(device)
    levels = request.solver.levels(request.steps, request.shift)
    guide = partial(request.guidance_rule.guide, levels=levels)
    positive, negative, *source = rows

    def velocity(of: Tensor, given: ConditionerOutput, guidance_scale: float) -> Field:
        beside = negative if reads_negative(request.guidance_rule, guidance_scale) else None
        return text_field(model, (of, beside), noise, guidance_scale, given, guide)

    return Run(
        solver=request.solver,
        field=velocity(positive, given, request.guidance_scale),
        levels=levels,
        first=first_step(request.steps, constraints.strength),
        noise=noise,
        draw=lambda: draw().to(device),
        start=_start(constraints, noise),
        source=partial(velocity, source[0], given.negative()) if source else None,
        keep=None
        if constraints.inpainting is None
        else partial(_kept, constraints.inpainting, noise, constraints.prefix_frames),
    )


def _start(constraints: LatentConstraints, noise: Latents) -> Latents | None:
    """The latents to begin from, behind those of the images before the video. Raises UsageError without these."""
    if constraints.init_latents is None:
        return None
    if constraints.prefix_frames and constraints.prefix_latents is None:
        raise UsageError(
            f"{constraints.prefix_frames} latent frames stand before a video to begin from, and nothing says what they "
            "show; leave a conditioner out of the recipe",
            code="conditioners_conflict",
        )
    before = [] if constraints.prefix_latents is None else [constraints.prefix_latents]
    return torch.cat([*before, constraints.init_latents], dim=2).to(noise)


def _kept(known: InpaintingConstraint, noise: Latents, lead: int, x: Latents, level: Level) -> Latents:
    """`x` with what is known of the video; the `lead` frames before it are free."""
    video = known.impose(x[:, :, lead:], level, noise[:, :, lead:])
    return torch.cat([x[:, :, :lead], video], dim=2)


def _check_heard(model: nn.Module) -> None:
    """Raise UsageError for a model in the wrapper that `torch.compile` returns, behind which lies what is called."""
    if hasattr(model, "_orig_mod"):
        raise UsageError(
            "the transformer is wrapped by torch.compile, and what generation calls lies behind the wrapper, so that "
            "nothing would be compiled; call model.compile() instead",
            code="compile_not_heard",
        )


def text_field(
    model: DiT, rows: tuple[Tensor, Tensor | None], x: Latents, guidance_scale: float,
    given: ConditionerOutput = NOTHING, guide: Callable[..., MemoryField] = guided,
) -> Field:  # fmt: skip
    """The velocity of a prompt guided past its negative, by `guide`; the prompt's alone where that asks for it.

    Without rows of the negative prompt `guide` must not ask for both. Raises UsageError where it does.
    """
    grid = grid_of(x, model.spec.patch)
    positive = model.prepare(given.conditions(rows[0]), grid)
    negative = None if rows[1] is None else model.prepare(given.negative().conditions(rows[1]), grid)

    def both(x: Latents, level: Level) -> tuple[Velocity, Velocity]:
        if negative is None:
            raise UsageError(
                "the guidance rule asks for the negative prompt, and its reads_negative says that it does not",
                code="negative_prompt_unread",
            )
        with_prompt, without = model.velocities(x, level, (positive, negative))
        return with_prompt, without

    def single(x: Latents, level: Level) -> Velocity:
        return model.velocities(x, level, (positive,))[0]

    return guide(both, guidance_scale, positive=single)


@torch.no_grad()
def decode(codec: Codec, latents: Latents, device: torch.device, tell: Callback) -> np.ndarray:
    """Frames uint8 [f, height, width, 3]; the codec works on one latent frame at a time.

    Raises NonFiniteError, since NaN would become some colour, and Interrupted when `tell` returns False.
    """
    frames, total = [], latents.shape[2]
    for done, pixels in enumerate(decode_video(codec, latents.to(device)), start=1):
        if not bool(torch.isfinite(pixels).all()):
            raise NonFiniteError(
                f"the frames decoded from latent frame {done} of {total} are not finite", code="not_finite"
            )
        frames.append(to_uint8(pixels[0]))
        _report(tell, Progress(stage="decode", done=done, total=total))
    return np.concatenate(frames)


def latents_of(
    parts: Parts, requests: Sequence[Request], machine: Machine, tell: Callback,
    generator: torch.Generator | None = None,
) -> Iterator[Latents]:  # fmt: skip
    """Denoised latents of one request after the other: text and inputs for all, then the transformer, loaded once.

    The transformer is gone when the last latents are handed out, so that their video is decoded without it.
    """
    with fitting("the text encoder"):
        rows = encode_prompts(parts, requests, machine, tell)
    with fitting("what encodes the inputs"):
        inputs = encode_inputs(parts, requests, machine, tell)
    with fitting("the transformer"):
        model = parts.transformer(machine.dtype, machine.device)
        _check_heard(model)

    def denoised(model: DiT, request: Request, each: Rows, given: ConditionerOutput) -> Latents:
        draw = noise_of(parts.codec_spec, request, generator, lead=given.constraints.prefix_frames)
        with fitting(f"a video of {request.num_frames} frames of {request.width}x{request.height}"):
            return denoise(model, request, each, draw, tell, given)

    *others, last = zip(requests, rows, inputs, strict=True)
    for request, each, given in others:
        yield denoised(model, request, each, given)
    latents = denoised(model, *last)
    del model
    yield latents


def _report(tell: Callback, progress: Progress) -> None:
    if tell(progress) is False:
        raise Interrupted(
            f"stopped in stage {progress.stage} after {progress.done} of {progress.total}", code="interrupted"
        )
