"""A recipe: everything that makes a video but the request and the weights, as one frozen value."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TypeVar

from kinoform.conditions.protocols import Conditioner
from kinoform.errors import UsageError, nearest
from kinoform.loading.additions import Additions
from kinoform.loading.parts import the_only
from kinoform.loading.sources import check_alike
from kinoform.models.codec import CodecSpec
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.vae import VAESpec
from kinoform.models.vision import VisionSpec
from kinoform.numbers import settle
from kinoform.solvers.base import Solver
from kinoform.solvers.experts import Boundary, check_boundaries
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Guidance
from kinoform.solvers.level_grids import LevelGrid
from kinoform.solvers.sampler import Denoise, Sampler
from kinoform.solvers.scales import GuidanceScales, ScalesLike, guidance_scales
from kinoform.solvers.unipc import UniPC

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BySize:
    """Default that depends on the size: `small` for videos of at most `area` pixels a frame, `large` above."""

    area: int
    small: float
    large: float

    def at(self, width: int, height: int) -> float:
        """The default for a video of that many pixels along its sides."""
        return self.small if width * height <= self.area else self.large


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Sizes of a model's parts and defaults of its requests. Derive one from another with `dataclasses.replace`.

    `transformers` are one, or several experts of which that of the highest noise is the first: expert i makes the steps
    at timesteps of at least 1000·`boundaries`[i] that no expert before it makes, the last one all others; a boundary
    may also be a step of the list (`AtStep`) or a sigma (`BelowSigma`).
    `guidance_scale`, one for all experts or one for each as in {"high": 4.0, "low": 3.0}, multiplies the difference
    between prompt and negative prompt.
    `codec` is `IdentityCodec()` for a model of pixels, without an autoencoder; `image` is the encoder of a model that
    reads images as rows of context, else None; `width`, `height` in pixels, `num_frames` of the video at `fps` frames
    per second; `shift` bends the noise levels, which are
    the solver's own, or those of `level_grid`; `upscale` repeats pixels in what is saved, for videos too small to look
    at. `fast_steps` takes the place of `steps` when speed is asked for; None where nobody has measured what it costs.
    `conditioners` are the ways in besides the prompt that the model was trained with, in the order of their channels;
    `sampler` is the algorithm around the solver, `guidance_rule` how the velocities under the two prompts become one.
    `additions` are put onto each transformer of the weights, unless they hold them; `transformers` are those without
    them. `world` says in a phrase what the model has seen, for one that has seen nothing else and so cannot know what
    other videos show; None for the released ones. `few_step` is the name of the few-step recipe that made this one of
    another (`FewStep.applied`), None for the others.
    """

    name: str
    transformers: tuple[DiTSpec, ...]
    boundaries: tuple[Boundary, ...] = ()
    codec: CodecSpec = field(default_factory=VAESpec)
    text: TextSpec = field(default_factory=TextSpec)
    image: VisionSpec | None = None
    solver: Solver = field(default_factory=UniPC)
    level_grid: LevelGrid | None = None
    steps: int = 50
    shift: float | BySize = 5.0
    guidance_scale: ScalesLike = 5.0
    negative_prompt: str = ""
    width: int = 832
    height: int = 480
    num_frames: int = 81
    fps: float = 16.0
    upscale: int = 1
    fast_steps: int | None = None
    conditioners: tuple[Conditioner, ...] = ()
    sampler: Sampler = field(default_factory=Denoise)
    guidance_rule: Guidance = field(default_factory=PlainGuidance)
    additions: Additions | None = None
    world: str | None = None
    few_step: str | None = None

    def __post_init__(self) -> None:
        """Raise UsageError unless the transformers read the same inputs, their boundaries fall between 0 and 1, and the
        guidance is a number, or one for each of them."""
        settle(self, boundaries=check_boundaries(self.boundaries))
        if not isinstance(self.transformers, tuple):
            raise UsageError(
                f"transformers of the recipe {self.name} must be a tuple such as (spec,), not "
                f"{type(self.transformers).__name__}",
                code="wrong_type",
            )
        if len(self.transformers) != len(self.boundaries) + 1:
            raise UsageError(
                f"the recipe {self.name} has {len(self.transformers)} transformers and {len(self.boundaries)} "
                "boundaries; give one boundary between every two transformers",
                code="boundary_invalid",
            )
        check_alike(self.transformers)
        count = len(self.transformers)
        settle(self, guidance_scale=guidance_scales(self.guidance_scale, count).plain())

    @property
    def scales(self) -> GuidanceScales:
        """The scales of guidance by expert and by condition."""
        return guidance_scales(self.guidance_scale, len(self.transformers))

    @property
    def transformer(self) -> DiTSpec:
        """The only transformer. Raises UsageError for a model of several, which cannot be trained or converted yet."""
        return the_only(self.transformers)


def find(address: str) -> Recipe:
    """The recipe that `module:function` returns; idea files outside the package are found like any module.

    Raises UsageError when the module or the function is not there, or does not return a Recipe.
    """
    return returned(address, Recipe, "recipe")


def returned(address: str, kind: type[T], noun: str) -> T:
    """Call `module:function` for a value of `kind`, which errors call `noun`. Raises UsageError as `find` does."""
    module_name, _, function_name = address.partition(":")
    if not function_name or not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(
            f"{address!r} is no {noun}; write module:function, for example kinoform.mini.recipe:mini",
            code="recipe_invalid",
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"the module {module_name!r} of {noun} {address!r} cannot be imported: {error}",
            code="module_not_importable",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [
            name
            for name, value in vars(module).items()
            if callable(value) and not isinstance(value, type) and not name.startswith("_")
        ]
        raise UsageError(
            f"no {noun} {function_name!r} in {module_name}; {nearest(function_name, known)}", code="unknown_recipe"
        )
    found = function()
    if not isinstance(found, kind):
        raise UsageError(f"{address} returns a {type(found).__name__}, not a {kind.__name__}", code="recipe_invalid")
    return found
