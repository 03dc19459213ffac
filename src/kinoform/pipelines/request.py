"""A request: one video, completely described; checked once, before any weight is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from kinoform.conditions.input_kinds import check_text
from kinoform.conditions.inputs import NO_INPUTS, InputField, Inputs, Takers
from kinoform.conditions.protocols import Conditioner, Units, VideoSize, declared, prefixed, rule_for, task_of
from kinoform.conditions.standard_inputs import FRAMES, MASK, SOURCE_PROMPT, VIDEO
from kinoform.errors import UsageError
from kinoform.families import released_models
from kinoform.models.changed import check_layers
from kinoform.models.codec import CodecSpec, check_size
from kinoform.models.dit import DiTSpec
from kinoform.numbers import Whole, check_kind, nearest_frames, real, settle, whole
from kinoform.ops.patch import Patch
from kinoform.pipelines.timed_prompts import MAX_SECONDS, in_seconds, seconds_of, timed_prompts
from kinoform.pipelines.windows import MIN_WINDOW, LatentWindow, Windows, latent_frame_at, latent_frames_of, windows_of
from kinoform.recipe import BySize, Recipe
from kinoform.solvers.base import Solver
from kinoform.solvers.experts import Boundary, ExpertChoice, check_boundaries, expert_choice
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.rule import Guidance
from kinoform.solvers.level_grids import LevelGrid
from kinoform.solvers.names import name_of
from kinoform.solvers.predictions import Prediction
from kinoform.solvers.sampler import Denoise, Sampler, negative_is_read
from kinoform.solvers.scales import TEXT, GuidanceScales, ScalesLike, guidance_scales
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

    With `windows` it is made in several of them, and the prompt may be several with their spans of time; None makes all
    frames at once. Numbers of numpy are kept as plain ones. Raises UsageError, naming the value and the nearest legal
    ones, for anything out of range.
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
    windows: Windows | None = None

    def __post_init__(self) -> None:
        check_text(self.prompt, "prompt")
        if not self.prompt.strip():
            raise UsageError("the prompt is empty; say what the video should show", code="prompt_missing")
        check_text(self.negative_prompt, "negative prompt")
        names = (*WHOLE, *REAL, "boundaries", "guidance_scale")
        settle(self, **_plain_numbers({name: getattr(self, name) for name in names}))
        check_kind("solver", self.solver, Solver, "UniPC()")
        if self.level_grid is not None:
            check_kind("level_grid", self.level_grid, LevelGrid, "Warped()")
            self.level_grid.levels(self.steps, self.shift)
        check_kind("sampler", self.sampler, Sampler, "FlowEdit()")
        check_kind("guidance_rule", self.guidance_rule, Guidance, "PlainGuidance()")
        self.scales.check_along(self.levels)
        self.sampler.check(self.steps)
        self.guidance_rule.check(self.steps)
        self._check_edit()
        if self.windows is not None:
            _check_lasting(self.inputs, self.windows)

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
    def seconds(self) -> float:
        return self.num_frames / self.fps

    def at_once(self, window: LatentWindow | None = None) -> Request:
        """Return the request of one window, under its prompt; the request itself where it is not made in windows."""
        if self.windows is None:
            return self
        prompt = self.prompt if window is None else window.prompt
        return replace(self, prompt=prompt, num_frames=self.windows.frames, windows=None)

    def in_windows(self, codec: CodecSpec) -> tuple[LatentWindow, ...]:
        """Return the windows of the video in turn; () where it is made at once. Raises UsageError as `windows_of`."""
        if self.windows is None:
            return ()
        time = codec.stride[0]
        prompts = in_seconds(self.prompt, self.seconds, slack=time / self.fps)
        return windows_of(
            self.windows,
            tuple((latent_frame_at(start * self.fps, time), text) for start, text in prompts),
            latent_frames=latent_frames_of(self.num_frames, time),
            codec=codec,
        )

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
        video, units = self.at_once().video, Units(stride=codec.stride, patch=patch)
        known = declared(self.conditioners)
        for item in self.inputs:
            if item not in known:
                raise not_taken(item, known, takers(item))
        for conditioner in self.conditioners:
            video = conditioner.size(self.inputs, video, units)
        check_size(codec, patch, video.num_frames, video.height, video.width)
        for conditioner in self.conditioners:
            conditioner.check(self.inputs, video)
        num_frames = video.num_frames if self.windows is None else self.num_frames
        check_size(codec, patch, num_frames, video.height, video.width)
        found = replace(self, num_frames=num_frames, height=video.height, width=video.width)
        found.in_windows(codec)
        return found

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

    A source prompt without a sampler asks for FlowEdit: nothing else reads it. A prompt of several with their times
    decides the length, where it tells seconds and nothing else decides, and asks for windows; a video that one window
    holds has none.
    """
    shared = {item.name for item in fields(Recipe)} & {item.name for item in fields(Request)}
    values: dict[str, object] = {name: getattr(recipe, name) for name in shared}
    values |= {name: value for name, value in changes.items() if value is not None}
    inputs, sampler = values.get("inputs", NO_INPUTS), values["sampler"]
    if changes.get("sampler") is None and isinstance(inputs, Inputs) and isinstance(sampler, Sampler):
        values["sampler"] = FlowEdit() if SOURCE_PROMPT in inputs and not sampler.edits else sampler
    width, height = (whole(name, values[name], *WHOLE[name]) for name in ("width", "height"))
    values = {name: item.at(width, height) if isinstance(item, BySize) else item for name, item in values.items()}
    check_text(prompt, "prompt")
    if changes.get("num_frames") is None and (seconds := seconds_of(prompt)) is not None:
        values["num_frames"] = frames_in(recipe, seconds, values["fps"])
    _check_boundaries(recipe, values["boundaries"])
    values |= _plain_numbers({**values, "seed": seed})
    if changes.get("guidance_scale") is not None:
        values["guidance_scale"] = _completed(values["guidance_scale"], recipe)
    if changes.get("guidance_rule") is None and isinstance(inputs, Inputs) and values["guidance_scale"] != 1:
        values["guidance_rule"] = _rule(recipe, inputs, values)
    values["windows"] = _windows(recipe, prompt, values)
    made = Request(prompt=prompt, **values)  # type: ignore[arg-type]
    for index, spec in enumerate(recipe.transformers):
        scales = made.scales.along(index, made.levels)
        predictions = made.guidance_rule.predictions(scales, made.levels)
        if not _reads_segments(recipe, spec):
            _check_without_segments(recipe, made, predictions)
        for prediction in predictions:
            if prediction.change is not None:
                check_layers(prediction.change, spec.layers)
    return made


def _reads_segments(recipe: Recipe, spec: DiTSpec) -> bool:
    additions = recipe.additions
    return spec.segments is not None or (additions is not None and additions.segments is not None)


def _check_without_segments(recipe: Recipe, made: Request, predictions: Iterable[Prediction]) -> None:
    """Raise UsageError for guidance that weighs images and videos in context, of a model that reads none."""
    weighed = {condition for _, condition, _ in made.scales.numbers} - {TEXT}
    rule = "" if weighed or not any(item.without for item in predictions) else name_of(made.guidance_rule)
    if weighed or rule:
        said = f"the guidance rule {rule}" if rule else f"guidance by {' and '.join(sorted(weighed))}"
        takers = ", ".join(dict.fromkeys(model.model for model in released_models() if model.tuning))
        raise UsageError(
            f"{said} is about images and videos in context, of which the model {recipe.name} reads none; models that "
            f"do: {takers}; here give one number for the text, and a rule such as apg",
            code="segments_not_taken",
        )


def _check_boundaries(recipe: Recipe, boundaries: object) -> None:
    """Raise UsageError unless there is one between two transformers each; what else has their number tells less."""
    given, wanted = check_boundaries(boundaries), len(recipe.boundaries)
    if len(given) != wanted:
        example = tuple(recipe.boundaries)
        raise UsageError(
            f"boundaries between transformers are {str(given)[:60]}, and the model {recipe.name} has "
            f"{len(recipe.transformers)} of these; "
            f"{f'give {wanted}, such as {example}' if wanted else 'leave them out'}",
            code="boundary_invalid",
        )


def _rule(recipe: Recipe, inputs: Inputs, values: Mapping[str, object]) -> object:
    """Return the guidance rule for what is given, where the model has one for it; else the recipe's."""
    sizes = {name: whole(name, values[name], *WHOLE[name]) for name in ("num_frames", "height", "width")}
    return rule_for(recipe.conditioners, inputs, VideoSize(**sizes)) or values["guidance_rule"]


def _completed(scale: object, recipe: Recipe) -> float | GuidanceScales:
    """Return a scale with the recipe's numbers for the conditions that it does not name."""
    count = len(recipe.transformers)
    return guidance_scales(scale, count).over(guidance_scales(recipe.guidance_scale, count)).plain()


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


def frames_in(recipe: Recipe, seconds: object, fps: object = None, num_frames: object = None) -> int:
    """Return the number of frames nearest to so many seconds at `fps`, or at the recipe's rate.

    Raises UsageError for numbers out of range, and for a `num_frames` that is given beside them.
    """
    if num_frames is not None:
        raise UsageError("num_frames and seconds say the same thing; give one of them", code="options_conflict")
    length = real("seconds", seconds, 1e-3, MAX_SECONDS)
    rate = real("fps", recipe.fps if fps is None else fps, *REAL["fps"])
    return nearest_frames(length * rate, recipe.codec.stride[0], recipe.transformers[0].patch[0])


def _windows(recipe: Recipe, prompt: str, values: Mapping[str, Any]) -> Windows | None:
    """Return the windows that are asked for, or that timed prompts need; None where one holds the whole video."""
    asked, timed = values.get("windows"), bool(timed_prompts(prompt))
    if asked is not None and not isinstance(asked, Windows):
        raise UsageError(f"windows must be a value such as Windows(frames=17), not {asked!r}", code="wrong_type")
    if asked is None and not timed:
        return None
    if timed and values["num_frames"] < MIN_WINDOW:
        raise UsageError(
            "prompts with times need a video of several frames, and this one has one; make it longer",
            code="prompt_times_invalid",
        )
    windows, time = Windows(frames=recipe.num_frames) if asked is None else asked, recipe.codec.stride[0]
    if values["num_frames"] > windows.frames:
        return windows.settled(time)
    return replace(windows, frames=values["num_frames"], overlap=None).settled(time) if timed else None


def _check_lasting(inputs: Inputs, windows: Windows) -> None:
    """Raise UsageError for inputs that say what happens when: each window would show the same."""
    for item in (VIDEO, MASK):
        if item in inputs:
            raise UsageError(
                f"a video made in windows, as with prompts that have times, takes no {item.said}: each window would "
                "show the same; give one prompt and make it at once with --frames, or continue one with kinoform "
                "extend",
                code="input_not_taken_in_windows",
            )
    frames = inputs[FRAMES]
    if any(number != 0 for number in frames) or (frames and not windows.anchor):
        raise UsageError(
            "of a video made in windows only the first frame can be given, which is then the anchor of all; leave the "
            "other images out, and the anchor as it is",
            code="input_not_taken_in_windows",
        )


def not_taken(item: InputField[Any], known: Sequence[InputField[Any]], takers: Sequence[str]) -> UsageError:
    """Return the refusal of an input that a model does not take: what it takes, and which models take the input."""
    taken = ", ".join(field.said for field in known) or "none besides the prompt"
    others = f"; {', '.join(takers)} would" if takers else ""
    return UsageError(f"this model takes no {item.said}{others}; its own inputs: {taken}", code="input_not_taken")
