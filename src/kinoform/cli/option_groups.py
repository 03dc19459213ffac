"""The options that commands share, each declared once: what is made, how, and how it is saved.

`kinoform.cli.options.command` makes them the signature of every command that takes a group; settings files, names in
the environment, completion and the reference are read from the fields. The model and the machine are in
`kinoform.cli.model_options`, the inputs of a video in `kinoform.cli.inputs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kinoform.cli import console
from kinoform.cli.clip_options import ClipOptions
from kinoform.cli.engine_options import EngineOptions
from kinoform.cli.inputs import InputOptions
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.options import (
    CODECS,
    GUIDANCE_RULES,
    OUTPUT,
    RECIPE_SETTING,
    SAMPLERS,
    SETTING,
    SOLVERS,
    STEPS,
    VIDEO,
    Setting,
    one_of,
    option,
    varied,
)
from kinoform.cli.values import frames_of, scales_of, size_of
from kinoform.cli.window_options import WindowOptions
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.cli.output import SaveOptions
    from kinoform.conditions.input_kinds import ReadOptions
    from kinoform.conditions.inputs import InputField, Inputs
    from kinoform.editing.settings import EditSettings
    from kinoform.models.codec import CodecSpec
    from kinoform.ops.patch import Patch
    from kinoform.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions:
    """The video that is made of a prompt; None stands for the recipe's value."""

    size: Annotated[str | None, option(VIDEO, "WIDTHxHEIGHT in pixels, such as 832x480."), RECIPE_SETTING] = None
    frames: Annotated[int | None, option(VIDEO, "Number of frames, 1 + 4n for Wan, such as 81."), RECIPE_SETTING] = None
    seconds: Annotated[
        float | None,
        option(VIDEO, "Length, above 0 to 3600; the nearest legal --frames, in windows where the model makes fewer."),
        SETTING,
    ] = None
    fps: Annotated[float | None, option(VIDEO, "Frames per second of the saved video, 0.1 to 240."), RECIPE_SETTING] = (
        None
    )
    negative: Annotated[
        str | None,
        option(VIDEO, "What the video should not show; '' for nothing."),
        Setting(from_recipe=True, private=True),
    ] = None
    seed: Annotated[
        int | None, option(VIDEO, "The same seed makes the same video; by default one is drawn and printed.")
    ] = None
    count: Annotated[int, option(VIDEO, "Videos per prompt, 1 to 10000, with seeds seed, seed + 1, ...")] = 1
    prompts: Annotated[Path | None, option(VIDEO, "A text file, one prompt a line.")] = None
    steps: Annotated[int | None, option(STEPS, "Denoising steps, 1 to 1000."), RECIPE_SETTING] = None
    fast: Annotated[
        bool, option(STEPS, "Few steps, where their cost in skill is measured: mini:fast for mini.", "--fast")
    ] = False
    guidance_scale: Annotated[
        str | None,
        option(
            STEPS,
            "Guidance; 1 is none. high=4,low=3 by expert, text=4,video=1.25 by condition, 4@0-0.5,1@0.5-1 by share of "
            "the steps.",
            "--guidance",
            "--guidance-scale",
        ),
        Setting(from_recipe=True, numbers=True),
    ] = None
    guidance_rule: Annotated[
        str | None,
        option(
            STEPS,
            "A rule of guidance with options, such as apg:eta=0.5 or slg+rescale (docs/guidance.md).",
            complete=one_of(GUIDANCE_RULES),
        ),
        RECIPE_SETTING,
    ] = None
    shift: Annotated[
        float | None, option(STEPS, "Bends the noise levels towards noise, 0.01 to 1000."), RECIPE_SETTING
    ] = None
    solver: Annotated[
        str | None,
        option(STEPS, "unipc, dpm++ or euler; with options: unipc(order=3).", complete=one_of(SOLVERS)),
        RECIPE_SETTING,
    ] = None
    sampler: Annotated[
        str | None,
        option(
            STEPS,
            "denoise, or flow-edit to change a video; with options: flow-edit(averages=2).",
            complete=one_of(SAMPLERS),
        ),
        RECIPE_SETTING,
    ] = None

    def request_changes(
        self,
        recipe: Recipe,
        codec: CodecSpec,
        patch: Patch,
        read: Callable[[tuple[InputField[Any], ...], ReadOptions], Inputs],
        *,
        fit_mask: bool,
    ) -> dict[str, Any]:
        """Return what differs from the request of a recipe; codec and patch decide which lengths are legal.

        `read` reads the inputs, of those that the model may be given, as the options say. Raises UsageError.
        """
        from kinoform.conditions.protocols import read_options, readable

        fps = recipe.fps if self.fps is None else self.fps
        length = frames_of(self.frames, self.seconds, fps, codec.stride[0], patch[0])
        options = read_options(
            recipe.conditioners, fps=fps, num_frames=recipe.num_frames if length is None else length, fit_mask=fit_mask
        )
        changes = self.changes() | {"num_frames": length, "inputs": read(readable(recipe.conditioners), options)}
        return changes | ({"steps": self._fast_steps(recipe)} if self.fast else {})

    def changes(self) -> dict[str, Any]:
        """Return what differs from the recipe's request. Raises UsageError for words that name nothing."""
        from kinoform.solvers.names import guidance_of, sampler_of, solver_of

        width, height = size_of(self.size)
        values = {
            "width": width, "height": height, "num_frames": self.frames, "fps": self.fps,
            "negative_prompt": self.negative, "steps": self.steps, "guidance_scale": scales_of(self.guidance_scale),
            "guidance_rule": None if self.guidance_rule is None else guidance_of(self.guidance_rule),
            "shift": self.shift, "solver": None if self.solver is None else solver_of(self.solver),
            "sampler": None if self.sampler is None else sampler_of(self.sampler),
        }  # fmt: skip
        return {name: value for name, value in values.items() if value is not None}

    def _fast_steps(self, recipe: Recipe) -> int:
        if self.steps is not None:
            raise UsageError(
                f"--fast chooses the steps, and --steps {self.steps} too; give one of them", code="options_conflict"
            )
        if recipe.fast_steps is None:
            raise UsageError(
                f"what fewer steps cost {recipe.name} is not measured; choose them with --steps",
                code="fast_not_measured",
            )
        return recipe.fast_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """The file of a video, and the form in which results are told."""

    upscale: Annotated[
        int | None,
        option(OUTPUT, "Repeat every pixel 1 to 64 times along both sides, for small videos."),
        RECIPE_SETTING,
    ] = None
    codec: Annotated[
        str | None,
        option(OUTPUT, "h264 or av1 in .mp4, vp9 or av1 in .webm, any in .mkv.", complete=one_of(CODECS)),
    ] = None
    crf: Annotated[int | None, option(OUTPUT, "Quality of a video, 0 the best; h264 to 51, others to 63.")] = None
    output: Annotated[
        str | None, option(OUTPUT, ".mp4 .webm .mkv .gif .webp .png name/ or a folder.", "--output", "-o")
    ] = None
    dry_run: Annotated[bool, option(OUTPUT, "Print the plan of the video instead of making it.", "--dry-run")] = False
    force: Annotated[bool, option(OUTPUT, "Replace files that exist.", "--force")] = False
    as_json: Annotated[bool, option(OUTPUT, "Results as JSON, one object a line.", "--json")] = False
    no_metadata: Annotated[
        bool, option(OUTPUT, "Keep parameters out of the video.", "--no-metadata/--metadata"), SETTING
    ] = False
    contact_sheet: Annotated[
        bool, option(OUTPUT, "Also lay the frames out on a png.", "--contact-sheet/--no-contact-sheet"), SETTING
    ] = False

    def save_options(self, upscale: int) -> SaveOptions:
        """Return how the video is saved; `upscale` counts where the options say none."""
        from kinoform.cli.output import SaveOptions

        return SaveOptions(
            upscale=upscale if self.upscale is None else self.upscale, force=self.force, metadata=not self.no_metadata,
            sheet=self.contact_sheet, as_json=self.as_json, codec=self.codec, crf=self.crf,
        )  # fmt: skip


EDIT = "Edit"
"""The heading of the options that say how new pixels join the video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOptions:
    """The ways in which new pixels join the video that is there."""

    grow: Annotated[
        int | None, option(EDIT, "Pixels that the mask grows by, 0 to 512; by default a 64th of the shorter side.")
    ] = None
    feather: Annotated[
        float | None,
        option(EDIT, "Pixels over which old and new are blended, 0 to 512; by default a 32nd of the shorter side."),
    ] = None
    margin: Annotated[
        float, option(EDIT, "What the model sees around the mask, in lengths of its longer side, 0 to 100.")
    ] = 1.0
    overlap: Annotated[
        int | None, option(EDIT, "Frames that two segments of a long video share; by default a quarter.")
    ] = None
    hide_source: Annotated[bool, option(EDIT, "Show the model grey under the mask.", "--hide-source")] = False
    no_colour_match: Annotated[
        bool, option(EDIT, "Leave the colours of what is made as they come.", "--no-colour-match/--colour-match")
    ] = False

    def settings(self, *, fit_mask: bool = False) -> EditSettings:
        """Return the settings of the edit. Raises UsageError for values out of range."""
        from kinoform.editing.settings import EditSettings

        return EditSettings(
            grow=self.grow, feather=self.feather, margin=self.margin, overlap=self.overlap,
            match_colours=not self.no_colour_match, show_source=not self.hide_source, fit_mask=fit_mask,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """Options of the commands that make videos."""

    model: ModelOptions
    video: VideoOptions
    windows: WindowOptions
    inputs: InputOptions
    machine: MachineOptions
    output: OutputOptions

    def at_speed(self) -> GenerateOptions:
        """Return these options, with --fast those of the student that was distilled from the model, if there is one.

        It is told, and stands in the parameters of the video.
        """
        from kinoform.recipes.catalogue import STUDENTS

        student = STUDENTS.get(str(self.model.model)) if self.video.fast and self.model.recipe is None else None
        if student is None:
            return self
        console.note(f"--fast takes {student}, which was distilled from {self.model.model}: few steps, no guidance")
        return replace(self, model=replace(self.model, model=student))


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOptions:
    """Options of the commands that change a video, which keeps its size and its length, and is no still image."""

    model: Annotated[ModelOptions, varied(default={"model": "mini:vace"})]
    video: Annotated[
        VideoOptions,
        varied(
            without=("seconds", "fps", "fast", "count", "prompts"),
            help={
                "size": "WIDTHxHEIGHT that the model works in; the video keeps its own.",
                "frames": "Frames that the model makes at once; the video keeps its length.",
            },
        ),
    ]
    machine: MachineOptions
    output: Annotated[
        OutputOptions,
        varied(
            without=("upscale",),
            help={"output": ".mp4 .webm .mkv .gif .webp name/", "dry_run": "Print the plan of the video, and stop."},
        ),
    ]
    even: Annotated[
        bool, option(OUTPUT, "Repeat the last row or column of odd sides, which mp4 and webm do not take.", "--even")
    ] = False
    resume: Annotated[
        Path | None, option(OUTPUT, "Latents of a run that was stopped, which are not made again.", "--resume")
    ] = None
    preview: Annotated[bool, option(OUTPUT, "Draw what will change on NAME_preview.png, and stop.", "--preview")] = (
        False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """The processes of a training, and what it shows of itself."""

    threads: Annotated[int, option(None, "CPU threads; one is the most efficient for small models."), SETTING] = 1
    processes: Annotated[int, option(None, "Processes that share the transformer's batches; one a core."), SETTING] = 1
    sample_every: Annotated[int, option(None, "Steps between sheets of sample videos; 0 for none."), SETTING] = 500


PANEL = "In every command"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions:
    """Options of every command beside its own."""

    config: Annotated[
        Path | None, option(PANEL, "Settings, else ./kinoform.toml.", eager=True), Setting(in_file=False)
    ] = None
    log: Annotated[Path | None, option(PANEL, "Append JSON lines, without prompts."), Setting(in_file=False)] = None
    log_prompts: Annotated[
        bool, option(PANEL, "Prompts in the log too.", "--log-prompts/--no-log-prompts"), Setting(in_file=False)
    ] = False
    json_stream: Annotated[bool, option(PANEL, "Progress, result and errors as JSON lines.", "--json-stream")] = False
    show_settings: Annotated[bool, option(PANEL, "Print all settings, and stop.", "--show-settings")] = False


GROUPS = (
    ModelOptions,
    VideoOptions,
    MachineOptions,
    OutputOptions,
    TrainingOptions,
    ClipOptions,
    EngineOptions,
    CommonOptions,
)
"""All groups whose options may be settings."""
