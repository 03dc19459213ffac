"""The object that `kinoform.load` returns: call it with a prompt, get a video."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from inspect import signature
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from kinoform.conditions.coerce import to_inputs
from kinoform.conditions.input_kinds import ReadOptions
from kinoform.conditions.inputs import InputField, Inputs, Takers
from kinoform.conditions.protocols import declared, read_options, readable
from kinoform.errors import UsageError
from kinoform.loading.parts import Parts
from kinoform.media.types import Origin
from kinoform.media.video import Video
from kinoform.models.lora import STRONGEST
from kinoform.numbers import Number, Whole
from kinoform.pipelines.few_step import DistilledFile, check_few_step
from kinoform.pipelines.fit import check_fit, fitting
from kinoform.pipelines.generate import Callback, decode, latents_of, silent
from kinoform.pipelines.long_video import latents_in_windows
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.request import LARGEST_SEED, Request, frames_in, request
from kinoform.pipelines.timed_prompts import rewritten, timed_text
from kinoform.pipelines.windows import Windows, usual_windows
from kinoform.recipe import Recipe
from kinoform.solvers.base import Solver
from kinoform.solvers.by_expert import PerExpert, as_json, fixed_by_expert, written
from kinoform.solvers.experts import boundaries_as_json
from kinoform.solvers.guidance.rule import Guidance
from kinoform.solvers.names import name_of
from kinoform.solvers.sampler import Sampler
from kinoform.solvers.scales import ScalesLike
from kinoform.solvers.schedule import check_along
from kinoform.types import Latents
from kinoform.version import __version__

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A LoRA file on the transformer of a pipeline, which its parts hold already: what a video tells of it."""

    origin: Origin
    strength: PerExpert


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Recipe, parts of a model, and a machine, ready to make videos. Nothing is read from disk before the first video.

    `modules` tell of the VACE modules on the transformers, one for each; they read the files. `address` is that of a
    recipe which was asked for, as `module:function`. `extend` rewrites prompts before they are encoded (a function
    str -> str), for prompt extension. `takers` names models that take an input, for the sentence that refuses one.
    Raises UsageError for a recipe of two inputs with one name, or with the name of an argument of a request.
    """

    recipe: Recipe
    parts: Parts
    machine: Machine
    modules: tuple[Callable[[], Origin], ...] = ()
    loras: tuple[Lora, ...] = ()
    distilled: tuple[DistilledFile, ...] = ()
    address: str | None = None
    extend: Callable[[str], str] | None = None
    takers: Takers = lambda field: ()

    def __post_init__(self) -> None:
        declared(self.recipe.conditioners, reserved_names())

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        """Return the inputs that the model takes."""
        return declared(self.recipe.conditioners)

    def __repr__(self) -> str:
        recipe, dtype = self.recipe, str(self.machine.dtype).removeprefix("torch.")
        worn = "".join(f", {lora.origin.file} at {written(lora.strength)}" for lora in self.loras)
        return (
            f"Pipeline({recipe.name}{worn}: {recipe.num_frames} frames of {recipe.width}x{recipe.height} at "
            f"{recipe.fps:g} fps in {recipe.steps} steps, {dtype} on {self.machine.device})"
        )

    def __call__(
        self,
        prompt: str | Sequence[tuple[Number, Number, str]],
        *,
        negative_prompt: str | None = None,
        width: Whole | None = None,
        height: Whole | None = None,
        num_frames: Whole | None = None,
        seconds: Number | None = None,
        windows: Windows | None = None,
        fps: Number | None = None,
        num_inference_steps: Whole | None = None,
        guidance_scale: Number | ScalesLike | None = None,
        guidance_rule: Guidance | None = None,
        shift: Number | None = None,
        solver: Solver | None = None,
        sampler: Sampler | None = None,
        seed: Whole | None = None,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
        fit_mask: bool = False,
        inputs: Inputs | None = None,
        **values: object,
    ) -> Video:
        """Make one video; what is None comes from the recipe, a missing seed is drawn and stands in `params`.

        `prompt` may be several with their spans in seconds: `[(0, 2, "a ball moves left"), (2, 4, "a ball spins")]`, or
        one text "[0-2s] a ball moves left [2-4s] a ball spins". A video of `seconds`, in place of `num_frames`, or with
        `windows`, is made in windows where it is longer than what the model makes at once (docs/long_videos.md).
        `guidance_scale` is a number, or one for each transformer of a model that has several, by name:
        `{"high": 4, "low": 3}` for high and low noise; one for each condition: `{"text": 4, "images": 4.5}`; and each
        of them may be a schedule or a function of the level.
        `generator` (on the CPU) draws the noise in place of `seed`; a fresh one makes the video of its
        seed, one that has drawn before leaves None as the seed in `params`.
        `callback` sees every step with the video as predicted then (`x0`, latents) and ends the work by returning
        False, which raises Interrupted.
        `values` are the inputs that the model takes, by name: images and videos, as paths, images of Pillow or
        arrays (`image`, `last_image`, `frames`, `video`, `mask`, `reference_images`), how they count, and what a recipe
        of your own declares; or all of them at once as `inputs`. docs/inputs.md lists them. `fit_mask` stretches a
        mask of any size.
        Raises UsageError before any weight is read when a value is out of range, FitError when the video
        cannot fit, WeightsError for damaged weights, NonFiniteError when the numbers fail.
        """
        if inputs is not None and values:
            raise UsageError(
                f"inputs and {', '.join(values)} are both given; put all of them into the inputs",
                code="inputs_conflict",
            )
        if seconds is not None:
            num_frames = frames_in(self.recipe, seconds, fps, num_frames)
        options = self.read_options(fps=fps, num_frames=num_frames, fit_mask=fit_mask)
        given = to_inputs(readable(self.recipe.conditioners), values, options) if inputs is None else inputs
        if seconds is not None and windows is None:
            windows = usual_windows(self.recipe.num_frames, given)
        known = seed if generator is None else seed_of(generator, seed)
        asked = self.request(
            prompt,
            seed=random_seed() if known is None else known,
            negative_prompt=negative_prompt,
            width=width,
            height=height,
            num_frames=num_frames,
            windows=windows,
            fps=fps,
            steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_rule=guidance_rule,
            sampler=sampler,
            inputs=given,
            shift=shift,
            solver=solver,
        )
        on_progress = callback or silent
        latents = next(self.latents([asked], on_progress, generator))
        video = self.video(asked, latents, on_progress)
        if generator is not None and known is None:
            return replace(video, params={**video.params, "seed": None})
        return video

    def read_options(
        self, *, fps: Number | None = None, num_frames: Whole | None = None, fit_mask: bool = False
    ) -> ReadOptions:
        """Return how inputs are read for a video of so many frames; what is None comes from the recipe."""
        return read_options(
            self.recipe.conditioners,
            fps=self.recipe.fps if fps is None else fps,
            num_frames=self.recipe.num_frames if num_frames is None else num_frames,
            fit_mask=fit_mask,
        )

    def request(self, prompt: str | Sequence[tuple[Number, Number, str]], *, seed: Whole, **changes: object) -> Request:
        """Return a checked request with this recipe's defaults."""
        text = prompt if isinstance(prompt, str) else timed_text(prompt)
        asked = request(self.recipe, rewritten(text, self.extend) if self.extend else text, seed, **changes)
        asked = self.sized(asked)
        for strength in (item for own in self.parts.adapter_strengths for item in own.values()):
            check_along("the strength of a LoRA", strength, asked.levels, -STRONGEST, STRONGEST)
        check_few_step(asked, self.recipe, self.distilled)
        check_fit(asked, self.parts, self.machine.dtype, self.machine.device)
        return asked

    def sized(self, asked: Request) -> Request:
        """Return the request in the size that its inputs ask for. Raises UsageError as `Request.sized`."""
        return asked.sized(self.parts.codec_spec, self.parts.patch, self.takers)

    def latents(
        self, requests: Sequence[Request], on_progress: Callback, generator: torch.Generator | None = None
    ) -> Iterator[Latents]:
        """Denoised latents of each request in turn; keep them until the video is safely written.

        Raises FitError, before any weight is read, when one of several cannot be decoded beside the transformer.
        """
        for each in requests[:-1]:
            check_fit(each, self.parts, self.machine.dtype, self.machine.device, others=True)
        make = latents_in_windows if any(each.windows for each in requests) else latents_of
        return make(self.parts, requests, self.machine, on_progress, generator)

    def video(self, asked: Request, latents: Latents, on_progress: Callback) -> Video:
        """Decode latents into the video that was asked for."""
        return Video(frames=self.frames(latents, on_progress), fps=asked.fps, params=self.params(asked))

    def frames(self, latents: Latents, on_progress: Callback) -> UInt8[np.ndarray, "t height width 3"]:
        """Decode latents that this model made."""
        device = self.machine.device
        with fitting("the decoded video", "choose another --device, or make a smaller or shorter video"):
            return decode(self.parts.codec(device), latents, device, on_progress)

    def params(self, asked: Request) -> dict[str, object]:
        """All that is needed to make the video again, as it stands in the saved file."""
        return {
            "schema": SCHEMA,
            "tool": "kinoform",
            "version": __version__,
            "task": asked.task,
            "prompt": asked.prompt,
            "negative_prompt": asked.negative_prompt,
            "seed": asked.seed,
            "width": asked.width,
            "height": asked.height,
            "num_frames": asked.num_frames,
            "fps": asked.fps,
            "steps": asked.steps,
            "guidance_scale": asked.scales.fixed(asked.levels).as_json(),
            "boundaries": boundaries_as_json(asked.boundaries),
            "shift": asked.shift,
            "solver": name_of(asked.solver),
            **({} if asked.level_grid is None else {"level_grid": name_of(asked.level_grid)}),
            "sampler": name_of(asked.sampler),
            "guidance_rule": name_of(asked.guidance_rule),
            **({} if asked.windows is None else {"windows": asked.windows.as_json()}),
            **_told(asked, self.loras, self.modules),
            "dtype": str(self.machine.dtype).removeprefix("torch."),
            "machine": {
                "device": self.machine.device.type,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            },
            "model": {"name": self.recipe.name, "hash": self.parts.fingerprint(), **self._added()},
        }

    def _added(self) -> dict[str, object]:
        """Describe what the recipe puts onto the model of the weights, and where that recipe is."""
        additions = self.recipe.additions
        if additions is None:
            return {}
        address = {} if self.address is None else {"recipe": self.address}
        order = additions.order(self.recipe.transformers[0])
        return {"channels": order, "additions_seed": additions.seed, **address}


def _told(asked: Request, loras: Sequence[Lora], modules: Sequence[Callable[[], Origin]]) -> dict[str, object]:
    """Files by what they are, and how they count. Material that was never a file has an empty name."""
    inputs, levels = asked.inputs, asked.levels
    worn = {f"lora:{number}": lora for number, lora in enumerate(loras)}
    blocks = {f"vace:{number}": origin() for number, origin in enumerate(modules)}
    origins = [*inputs.files(), *blocks.items(), *((name, lora.origin) for name, lora in worn.items())]
    return {
        "inputs": {name: _file(origin) for name, origin in origins},
        "conditions": inputs.records(),
        "loras": {name: as_json(fixed_by_expert(lora.strength, levels)) for name, lora in worn.items()},
        "vace": list(blocks),
    }


def _file(origin: Origin | None) -> dict[str, str]:
    return {"file": "", "sha256": ""} if origin is None else {"file": origin.file, "sha256": origin.sha256}


@cache
def reserved_names() -> frozenset[str]:
    """Return the names of arguments of a request, which no input may have."""
    return frozenset({field.name for field in fields(Request)} | signature(Pipeline.__call__).parameters.keys())


def random_seed() -> int:
    """A seed short enough to type again."""
    return random.SystemRandom().randrange(2**31)


def seed_of(generator: torch.Generator, seed: Whole | None) -> int | None:
    """The seed that a fresh generator was given; None for one that has drawn, or was given no legal seed.

    Raises UsageError for a generator that is not on the CPU, or beside a `seed`.
    """
    if seed is not None:
        raise UsageError(f"seed={seed} and a generator are both given; give one of them", code="options_conflict")
    if generator.device.type != "cpu":
        raise UsageError(
            f"the generator is on {generator.device}; noise is drawn on the CPU: torch.Generator()",
            code="generator_not_on_cpu",
        )
    first = generator.initial_seed()
    fresh = torch.Generator().manual_seed(first).get_state()
    return first if first <= LARGEST_SEED and torch.equal(generator.get_state(), fresh) else None
