"""A request: one video, completely described; checked once, before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from kinoform.conditions.input_kinds import check_text
from kinoform.conditions.inputs import NO_INPUTS, InputField, Inputs, Takers
from kinoform.conditions.protocols import Conditioner, Units, VideoSize, declared, prefixed, task_of
from kinoform.conditions.standard_inputs import SOURCE_PROMPT, VIDEO
from kinoform.errors import UsageError
from kinoform.models.codec import CodecSpec, check_size
from kinoform.numbers import Whole, real, settle, whole
from kinoform.ops.patch import Patch
from kinoform.recipe import BySize, Recipe
from kinoform.solvers.base import Solver
from kinoform.solvers.experts import Boundary, ExpertChoice, check_boundaries, expert_choice
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Guidance
from kinoform.solvers.level_grids import LevelGrid
from kinoform.solvers.names import name_of
from kinoform.solvers.sampler import Denoise, Sampler, negative_is_read
from kinoform.solvers.scales import GuidanceScales, ScalesLike, guidance_scales
from kinoform.types import Level

MOST_STEPS, MOST_SHIFT, MOST_FPS = 1000, 1000.0, 240.0
MOST_SIZE = 100_000
"""Pixels along a side, and frames."""

LARGEST_SEED = 2**63 - 1

WHOLE = {
    "seed": (0, LARGEST_SEED), "steps": (1, MOST_STEPS), "width": (1, MOST_SIZE), "height": (1, MOST_SIZE),
    "num_frames": (1, MOST_SIZE),
}  # fmt: skip
REAL = {"shift": (0.01, MOST_SHIFT), "fps": (0.1, MOST_FPS)}
"""Numbers of a request, and their least and largest values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Video to be made. `width`, `height` in pixels; `seed` in 0 .. 2^63 - 1; `boundaries` and
    `level_grid` as in a recipe.

    Numbers of numpy are kept as plain ones. Raises UsageError, naming the value and the nearest legal ones, for
    anything out of range.
    """

    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    num_frames: int
    fps: float
    steps: int
    guidance_scale: ScalesLike
    shift: float
    solver: Solver
    level_grid: LevelGrid | None = None
    boundaries: tuple[Boundary, ...] = ()
    sampler: Sampler = field(default_factory=Denoise)
    guidance_rule: Guidance = field(default_factory=PlainGuidance)
    inputs: Inputs = NO_INPUTS
    conditioners: tuple[Conditioner, ...] = ()

    def __post_init__(self) -> None:
        check_text(self.prompt, "prompt")
        if not self.prompt.strip():
            raise UsageError("the prompt is empty; say what the video should show", code="prompt_missing")
        check_text(self.negative_prompt, "negative prompt")
        names = (*WHOLE, *REAL, "boundaries", "guidance_scale")
        settle(self, **_plain_numbers({name: getattr(self, name) for name in names}))
        _value("solver", self.solver, Solver, "UniPC()")
        if self.level_grid is not None:
            _value("level_grid", self.level_grid, LevelGrid, "Warped()")
            self.level_grid.levels(self.steps, self.shift)
        _value("sampler", self.sampler, Sampler, "FlowEdit()")
        _value("guidance_rule", self.guidance_rule, Guidance, "PlainGuidance()")
        self.scales.check_along(self.levels)
        self.sampler.check(self.steps)
        self.guidance_rule.check(self.steps)
        self._check_edit()

    @property
    def video(self) -> VideoSize:
        return VideoSize(num_frames=self.num_frames, height=self.height, width=self.width)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Return the noise levels of the run, the last one CLEAN: those of `level_grid`, or else the solver's own."""
        return (self.level_grid or self.solver).levels(self.steps, self.shift)

    @property
    def scales(self) -> GuidanceScales:
        """Return the scales of guidance by expert and by condition."""
        return guidance_scales(self.guidance_scale, len(self.boundaries) + 1)

    @property
    def expert_choice(self) -> ExpertChoice:
        """Return which transformer makes the step that begins at a level."""
        return expert_choice(self.boundaries, self.levels)

    @property
    def task(self) -> str:
        """Return the task for the metadata, such as t2v or i2v."""
        return task_of(self.conditioners, self.inputs, self.video)

    @property
    def whole_prompt(self) -> str:
        """Return the prompt as it is encoded, behind the words that the model was trained with before it."""
        return prefixed(self.conditioners, self.prompt, self.inputs, self.video)

    @property
    def reads_negative(self) -> bool:
        """Return whether the negative prompt counts; otherwise it is not even encoded."""
        return negative_is_read(self.guidance_rule, self.scales, self.sampler, self.levels)

    def sized(self, codec: CodecSpec, patch: Patch, takers: Takers = lambda field: ()) -> Request:
        """Return the same request in the size that its inputs ask for; `takers` names models that take an input.

        Raises UsageError unless codec and patch can hold the video and the conditioners take the inputs.
        """
        video, units = self.video, Units(stride=codec.stride, patch=patch)
        known = declared(self.conditioners)
        for item in self.inputs:
            if item not in known:
                raise not_taken(item, known, takers(item))
        for conditioner in self.conditioners:
            video = conditioner.size(self.inputs, video, units)
        check_size(codec, patch, video.num_frames, video.height, video.width)
        for conditioner in self.conditioners:
            conditioner.check(self.inputs, video)
        return replace(self, num_frames=video.num_frames, height=video.height, width=video.width)

    def _check_edit(self) -> None:
        """A source prompt and a sampler that reads it belong together, and need a video."""
        source = self.inputs[SOURCE_PROMPT]
        if self.sampler.edits and (source is None or VIDEO not in self.inputs):
            raise UsageError(
                f"the sampler {name_of(self.sampler)} changes a video; give one, and a source prompt of what it shows",
                code="input_missing",
            )
        if source is not None and not self.sampler.edits:
            raise UsageError(
                "a source prompt is read by a sampler that changes videos; choose flow-edit for it",
                code="options_conflict",
            )


def request(recipe: Recipe, prompt: str, seed: Whole, **changes: object) -> Request:
    """Return a request with the recipe's defaults for its size; `changes` that are None leave the defaults.

    A source prompt without a sampler asks for FlowEdit: nothing else reads it.
    """
    shared = {item.name for item in fields(Recipe)} & {item.name for item in fields(Request)}
    values: dict[str, object] = {name: getattr(recipe, name) for name in shared}
    values |= {name: value for name, value in changes.items() if value is not None}
    inputs, sampler = values.get("inputs", NO_INPUTS), values["sampler"]
    if changes.get("sampler") is None and isinstance(inputs, Inputs) and isinstance(sampler, Sampler):
        values["sampler"] = FlowEdit() if SOURCE_PROMPT in inputs and not sampler.edits else sampler
    width, height = (whole(name, values[name], *WHOLE[name]) for name in ("width", "height"))
    values = {name: item.at(width, height) if isinstance(item, BySize) else item for name, item in values.items()}
    values |= _plain_numbers({**values, "seed": seed})
    made = Request(prompt=prompt, **values)  # type: ignore[arg-type]
    if len(made.boundaries) != len(recipe.boundaries):
        raise UsageError(
            f"the model {recipe.name} has {len(recipe.transformers)} transformers; give {len(recipe.boundaries)} "
            f"boundaries between them, not {made.boundaries}",
            code="boundary_invalid",
        )
    return made


def _plain_numbers(values: Mapping[str, object]) -> dict[str, object]:
    """Return the numbers among the values, as plain ones. Raises UsageError for any out of range."""
    boundaries = check_boundaries(values["boundaries"], whole("steps", values["steps"], *WHOLE["steps"]))
    scale = guidance_scales(values["guidance_scale"], len(boundaries) + 1).plain()
    return {
        **{name: whole(name, values[name], *limits) for name, limits in WHOLE.items()},
        **{name: real(name, values[name], *limits) for name, limits in REAL.items()},
        "boundaries": boundaries,
        "guidance_scale": scale,
    }


def not_taken(item: InputField[Any], known: Sequence[InputField[Any]], takers: Sequence[str]) -> UsageError:
    """Return the refusal of an input that a model does not take: what it takes, and which models take the input."""
    taken = ", ".join(field.said for field in known) or "none besides the prompt"
    others = f"; {', '.join(takers)} would" if takers else ""
    return UsageError(f"this model takes no {item.said}{others}; its own inputs: {taken}", code="input_not_taken")


def _value(name: str, value: object, kind: type, example: str) -> None:
    if not isinstance(value, kind) or isinstance(value, type):
        raise UsageError(f"{name} must be a value such as {example}, not {value!r}", code="wrong_type")
