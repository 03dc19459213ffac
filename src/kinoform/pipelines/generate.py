"""The whole story on one page: requests in, videos out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from kinoform.conditions.protocols import NOTHING, ConditionerOutput, InpaintingConstraint, LatentConstraints, together
from kinoform.conditions.standard_inputs import SOURCE_PROMPT
from kinoform.errors import Interrupted, NonFiniteError, UsageError
from kinoform.loading.parts import Parts
from kinoform.models.codec import Codec, CodecSpec, decode_video, latent_size, to_uint8
from kinoform.models.dit import DiT, Prepared
from kinoform.models.text import text_features
from kinoform.ops.layer_changes import NegativeAttention
from kinoform.ops.patch import grid_of
from kinoform.pipelines.experts import Experts
from kinoform.pipelines.fit import fitting
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.part_cache import PartEncoders
from kinoform.pipelines.request import Request
from kinoform.solvers.base import Step
from kinoform.solvers.experts import switched
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import CarriesState, Guidance, Scales, text_scale
from kinoform.solvers.predictions import Predict, Prediction
from kinoform.solvers.sampler import Run, first_step
from kinoform.solvers.scales import ScalesLike, guidance_scales
from kinoform.types import Conditions, Field, Latents, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a stage, `done` of `total`.

    Stages are "text" (prompts), "encode" (inputs), "denoise" (steps) and "decode" (latent frames).
    An edit goes on with "compose" (frames). `x0` are the latents of a video as predicted in this step of denoising;
    `video` is its number among those that are made together, and `expert` the name of the transformer that made the
    step, where there are several: all videos pass through the first of them before the second comes.
    """

    stage: str
    done: int
    total: int
    x0: Latents | None = None
    video: int = 0
    expert: str | None = None


Callback = Callable[[Progress], bool | None]
"""Function that is called after each piece of work; returning False ends the work with `Interrupted`."""


def silent(progress: Progress) -> None:
    """Do nothing with the progress."""


Rows: TypeAlias = tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, Tensor]
"""Context rows of the prompt, of the negative prompt (None where nothing reads it) and, where a video is to be changed,
of what it shows."""


@torch.no_grad()
def encode_prompts(parts: Parts, requests: Sequence[Request], machine: Machine, on_progress: Callback) -> list[Rows]:
    """Context rows of each request; the encoder is gone when this returns."""
    encoder = parts.text_encoder(machine.dtype, machine.device)
    tokenizer = parts.tokenizer()
    rows: dict[str, Tensor] = {}
    for done, request in enumerate(requests, start=1):
        for text in texts_of(request):
            if text not in rows:
                rows[text] = text_features(tokenizer, encoder, [text])
        report_progress(on_progress, Progress(stage="text", done=done, total=len(requests)))
    return [_rows(request, rows) for request in requests]


def texts_of(request: Request) -> tuple[str, ...]:
    """Texts that are read: the prompt, mostly the negative prompt, and the source prompt where there is one."""
    negative = (request.negative_prompt,) if request.reads_negative else ()
    source = request.inputs[SOURCE_PROMPT]
    return request.whole_prompt, *negative, *(() if source is None else (source,))


def _rows(request: Request, rows: Mapping[str, Tensor]) -> Rows:
    negative = rows[request.negative_prompt] if request.reads_negative else None
    source = request.inputs[SOURCE_PROMPT]
    positive = rows[request.whole_prompt]
    return (positive, negative) if source is None else (positive, negative, rows[source])


@torch.no_grad()
def encode_inputs(
    parts: Parts, requests: Sequence[Request], machine: Machine, on_progress: Callback
) -> list[ConditionerOutput]:
    """Encode the images and videos of each request; the encoders are gone when this returns.

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
            report_progress(on_progress, Progress(stage="encode", done=done, total=len(requests)))
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


class Denoising:
    """A video between noise and latents, which waits where the range of another expert begins.

    `latents` are those of the video at the level that was reached, without the frames that stand before it. The first
    noise that `draw` returns is the video's; `video` is its number among several.
    """

    def __init__(
        self,
        experts: Experts,
        request: Request,
        rows: Rows,
        draw: Callable[[], Latents],
        on_progress: Callback,
        given: ConditionerOutput = NOTHING,
        *,
        video: int = 0,
    ) -> None:
        run, self._prefix_frames = prepare_run(experts, request, rows, draw, given), given.constraints.prefix_frames
        self._experts, self._request, self._on_progress, self._video = experts, request, on_progress, video
        self._steps, self._done, self._total = iter(request.sampler.steps(run)), 0, request.steps - run.first
        self._x, self._level, self._choice = run.noise, run.levels[run.first], request.expert_choice

    @property
    def latents(self) -> Latents:
        return self._x[:, :, self._prefix_frames :]

    @torch.no_grad()
    def advance(self, expert: int) -> None:
        """Do the steps up to the range of a later expert than this; what was prepared for them is dropped.

        Raises NonFiniteError, naming the step, when a value stops being a number, FitError when memory runs out, and
        Interrupted when `on_progress` returns False.
        """
        if self._choice(self._level) > expert:
            return
        for step in self._steps:
            self._check_finite(step)
            now = self._choice(self._level)
            self._done, self._x, self._level = self._done + 1, step.x, step.level
            self._report(now, step.x0[:, :, self._prefix_frames :])
            if self._choice(self._level) > expert:
                break
        self._experts.release_prepared()

    def _report(self, expert: int, x0: Latents) -> None:
        progress = Progress(
            stage="denoise", done=self._done, total=self._total, x0=x0,
            video=self._video, expert=self._experts.name(expert),
        )  # fmt: skip
        report_progress(self._on_progress, progress)

    def _check_finite(self, step: Step) -> None:
        if not bool(torch.isfinite(step.x).all()):
            raise NonFiniteError(
                f"the latents are not finite after step {step.index + 1} of {self._request.steps} "
                f"(timestep {self._level.timestep:g}); no video was made; try --dtype float32",
                code="not_finite",
            )


def denoise(
    experts: Experts,
    request: Request,
    rows: Rows,
    draw: Callable[[], Latents],
    on_progress: Callback,
    given: ConditionerOutput = NOTHING,
) -> Latents:
    """Follow the velocity from noise, or from the start that is given, to latents of one video; see `Denoising`."""
    video = Denoising(experts, request, rows, draw, on_progress, given)
    for expert in range(len(experts)):
        video.advance(expert)
    return video.latents


def prepare_run(
    experts: Experts, request: Request, rows: Rows, draw: Callable[[], Latents], given: ConditionerOutput = NOTHING
) -> Run:
    """Make what the request's sampler works with, on the device of the experts; none of these is loaded yet."""
    device, constraints = experts.device, given.constraints
    noise = draw().to(device)
    levels = request.levels
    positive, negative, *source = rows

    def of_expert(scales: Scales, text: Tensor, given: ConditionerOutput) -> Callable[[DiT], Field]:
        texts, rule = (text, negative), request.guidance_rule
        return lambda model: guided_field(model, texts, noise, scales, given, rule, levels)

    def velocity(text: Tensor, given: ConditionerOutput, guidance: ScalesLike) -> Field:
        scales = guidance_scales(guidance, len(experts))
        fields = [
            experts.field(index, of_expert(scales.along(index, levels), text, given), levels)
            for index in range(len(experts))
        ]
        rule = request.guidance_rule
        carries = isinstance(rule, CarriesState) and rule.carries_state
        return switched(fields, request.expert_choice, carries=carries)

    return Run(
        solver=request.solver,
        field=velocity(positive, given, request.guidance_scale),
        levels=levels,
        first=first_step(request.steps, constraints.strength),
        noise=noise,
        draw=lambda: draw().to(device),
        start=_start(constraints, noise),
        source=partial(velocity, source[0], given.negative()) if source else None,
        constrain=None
        if constraints.inpainting is None
        else partial(_kept, constraints.inpainting, noise, constraints.prefix_frames),
        resets=experts.resets(request.expert_choice, levels),
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


def text_field(
    model: DiT, rows: tuple[Tensor, Tensor | None], x: Latents, guidance_scale: float,
    given: ConditionerOutput = NOTHING,
) -> Field:  # fmt: skip
    """The velocity of a prompt guided past its negative at a scale that is the same at every level."""
    return guided_field(model, rows, x, text_scale(guidance_scale), given, PlainGuidance(), ())


def guided_field(
    model: DiT, rows: tuple[Tensor, Tensor | None], x: Latents, scales: Scales, given: ConditionerOutput,
    rule: Guidance, levels: tuple[Level, ...],
) -> Field:  # fmt: skip
    """The velocity of a prompt by a rule of guidance, for latents of the size of `x` and a run along `levels`."""
    return rule.guide(prompt_predict(model, rows, x, given), scales, levels)


def prompt_predict(model: DiT, rows: tuple[Tensor, Tensor | None], x: Latents, given: ConditionerOutput) -> Predict:
    """The predictions of a model for a prompt, and its negative one where there are rows of it.

    The conditions of a prediction are prepared when it is first asked for. Raises UsageError where one reads the
    negative prompt and there are no rows of it.
    """
    grid = grid_of(x, model.spec.patch)
    prepared: dict[Prediction, Prepared] = {}

    def of(prediction: Prediction) -> Prepared:
        if prediction not in prepared:
            negative = rows[1] if isinstance(prediction.change, NegativeAttention) else None
            conditions = _conditions(prediction, rows, given)
            prepared[prediction] = model.prepare(conditions, grid, change=prediction.change, negative=negative)
        return prepared[prediction]

    return lambda x, level, asked: model.velocities(x, level, [*map(of, asked)])


def _conditions(prediction: Prediction, rows: tuple[Tensor, Tensor | None], given: ConditionerOutput) -> Conditions:
    """The conditions under which a prediction is made."""
    (positive, negative), given = rows, given.without(prediction.without)
    if prediction.reads_negative and negative is None:
        raise UsageError(
            "the guidance rule asks for the negative prompt, and its predictions say that it does not",
            code="negative_prompt_unread",
        )
    if prediction.prompt or negative is None:
        return given.conditions(positive)
    return given.negative().conditions(negative)


@torch.no_grad()
def decode(codec: Codec, latents: Latents, device: torch.device, on_progress: Callback) -> np.ndarray:
    """Frames uint8 [f, height, width, 3]; the codec works on one latent frame at a time.

    Raises NonFiniteError, since NaN would become some colour, and Interrupted when `on_progress` returns False.
    """
    frames, total = [], latents.shape[2]
    for done, pixels in enumerate(decode_video(codec, latents.to(device)), start=1):
        if not bool(torch.isfinite(pixels).all()):
            raise NonFiniteError(
                f"the frames decoded from latent frame {done} of {total} are not finite", code="not_finite"
            )
        frames.append(to_uint8(pixels[0]))
        report_progress(on_progress, Progress(stage="decode", done=done, total=total))
    return np.concatenate(frames)


def latents_of(
    parts: Parts, requests: Sequence[Request], machine: Machine, on_progress: Callback,
    generator: torch.Generator | None = None,
) -> Iterator[Latents]:  # fmt: skip
    """Denoised latents of one request after the other: text and inputs for all, then the transformers.

    Each transformer is loaded once: before the last one has its turn, all videos pass through the others, and wait.
    The last is gone when the last latents are handed out, so that their video is decoded without it.
    """
    with fitting("the text encoder"):
        rows = encode_prompts(parts, requests, machine, on_progress)
    with fitting("what encodes the inputs"):
        inputs = encode_inputs(parts, requests, machine, on_progress)
    loaders = [partial(load, machine.dtype, machine.device) for load in parts.transformers]
    experts = Experts(loaders, machine.device, parts.adapter_strengths)

    def begun() -> Iterator[Denoising]:
        for number, (request, text, given) in enumerate(zip(requests, rows, inputs, strict=True)):
            draw = noise_of(parts.codec_spec, request, generator, lead=given.constraints.prefix_frames)
            with _fitting_video(request):
                video = Denoising(experts, request, text, draw, on_progress, given, video=number)
            yield video

    def advanced(videos: Iterable[Denoising], expert: int) -> Iterator[Denoising]:
        for request, video in zip(requests, videos, strict=True):
            with _fitting_video(request):
                video.advance(expert)
            yield video

    *others, last = range(len(experts))
    videos: Iterable[Denoising] = begun()
    for expert in others:
        videos = [*advanced(videos, expert)]
    for number, video in enumerate(advanced(videos, last), start=1):
        if number == len(requests):
            experts.release()
        yield video.latents


def _fitting_video(request: Request) -> AbstractContextManager[None]:
    return fitting(f"a video of {request.num_frames} frames of {request.width}x{request.height}")


def report_progress(on_progress: Callback, progress: Progress) -> None:
    if on_progress(progress) is False:
        raise Interrupted(
            f"stopped in stage {progress.stage} after {progress.done} of {progress.total}", code="interrupted"
        )
