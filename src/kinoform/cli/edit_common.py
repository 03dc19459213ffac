"""What the commands that change a video have in common: their options, and what these ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from kinoform.cli.model_options import Chosen
from kinoform.cli.options import (
    OUTPUT,
    VIDEO,
    AsJson,
    ContactSheet,
    DeviceName,
    DtypeName,
    Force,
    Guidance,
    GuidanceRule,
    IgnoreUnknown,
    ImageEncoderFile,
    Loras,
    ModelName,
    NoMetadata,
    RecipeName,
    SamplerName,
    Shift,
    SolverName,
    Steps,
    TextEncoderFile,
    TokenizerPath,
    VAEFile,
    Variant,
    codec_names,
    guidance_named,
    lora_of,
    option,
    sampler_named,
    size_of,
    solver_named,
)

if TYPE_CHECKING:
    from kinoform.cli.output import Output

TEXTS = ("prompt", "negative", "source_prompt")
"""Options whose words are kept whole; of all others the folders are left out."""

UNTOLD = ("recipe", "seed", "output", "resume", "force", "as_json", "no_metadata", "contact_sheet")
"""Options that say nothing of how a video was made, or that it must not choose for whoever makes it again."""

EDIT = "Edit"
"""Under which heading the options stand that say how what is made joins the video."""

Prompt: TypeAlias = Annotated[str, option(VIDEO, "What the video shall show.")]
Feather: TypeAlias = Annotated[
    float | None, option(EDIT, "Pixels over which old and new are blended; by default a 32nd of the shorter side.")
]
Overlap: TypeAlias = Annotated[
    int | None, option(EDIT, "Frames that two segments of a long video share; by default a quarter.")
]
NoColourMatch: TypeAlias = Annotated[
    bool, option(EDIT, "Leave the colours of what is made as they come.", "--no-colour-match/--colour-match")
]

Preview: TypeAlias = Annotated[
    bool, option(OUTPUT, "Draw what will change on NAME_preview.png, and stop.", "--preview")
]
DryRun: TypeAlias = Annotated[bool, option(OUTPUT, "Print the plan of the video, and stop.", "--dry-run")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Options of the model, of its video and of the file; as they were said, nothing of it looked at yet."""

    model: ModelName = "mini:vace"
    recipe: RecipeName = None
    text_encoder: TextEncoderFile = None
    vae: VAEFile = None
    tokenizer: TokenizerPath = None
    image_encoder: ImageEncoderFile = None
    variant: Variant = None
    lora: Loras = None
    lora_ignore_unknown: IgnoreUnknown = False
    size: Annotated[str | None, option(VIDEO, "WIDTHxHEIGHT that the model works in; the video keeps its own.")] = None
    frames: Annotated[int | None, option(VIDEO, "Frames that the model makes at once; the video keeps its length.")] = (
        None
    )
    steps: Steps = None
    guidance_scale: Guidance = None
    guidance_rule: GuidanceRule = None
    shift: Shift = None
    solver: SolverName = None
    sampler: SamplerName = None
    negative: Annotated[str | None, option(VIDEO, "What the video should not show; '' for nothing.")] = None
    seed: Annotated[int | None, option(VIDEO, "The same seed makes the same video.")] = None
    dtype: DtypeName = "auto"
    device: DeviceName = "auto"
    codec: Annotated[
        str | None, option(OUTPUT, "h264 or av1 in .mp4, vp9 or av1 in .webm, any in .mkv.", complete=codec_names)
    ] = None
    crf: Annotated[int | None, option(OUTPUT, "Quality of a video, 0 the best; h264 to 51, others to 63.")] = None
    output: Annotated[str | None, option(OUTPUT, ".mp4 .webm .mkv .gif .webp name/", "--output", "-o")] = None
    even: Annotated[
        bool, option(OUTPUT, "Repeat the last row or column of odd sides, which mp4 and webm do not take.", "--even")
    ] = False
    resume: Annotated[
        Path | None, option(OUTPUT, "Latents of a run that was stopped, which are not made again.", "--resume")
    ] = None
    force: Force = False
    as_json: AsJson = False
    no_metadata: NoMetadata = False
    contact_sheet: ContactSheet = False

    def chosen(self) -> Chosen:
        """What is loaded."""
        return Chosen(
            model=self.model, recipe=self.recipe, device=self.device, dtype=self.dtype,
            text_encoder=self.text_encoder, vae=self.vae, tokenizer=self.tokenizer,
            image_encoder=self.image_encoder, variant=self.variant,
            loras=tuple(map(lora_of, self.lora or ())), ignore_unknown=self.lora_ignore_unknown,
        )  # fmt: skip

    def changes(self) -> dict[str, Any]:
        """What differs from the recipe's request. Raises UsageError for words that name nothing."""
        width, height = size_of(self.size)
        said = {
            "width": width, "height": height, "num_frames": self.frames, "negative_prompt": self.negative,
            "steps": self.steps, "guidance_scale": self.guidance_scale,
            "guidance_rule": guidance_named(self.guidance_rule),
            "shift": self.shift, "solver": solver_named(self.solver), "sampler": sampler_named(self.sampler),
        }  # fmt: skip
        return {name: value for name, value in said.items() if value is not None}

    def how(self) -> Output:
        """How the video is saved: in its own size."""
        from kinoform.cli.output import Output

        return Output(
            upscale=1, force=self.force, metadata=not self.no_metadata, sheet=self.contact_sheet,
            as_json=self.as_json, codec=self.codec, crf=self.crf,
        )  # fmt: skip


def again(command: str, file: Path, shared: Shared, **own: object) -> tuple[str, ...]:
    """The words of the command line that make the same video, with names of files but without their folders."""
    said = {
        field.name: value
        for field in fields(shared)
        if field.name not in UNTOLD and (value := getattr(shared, field.name)) != field.default
    }
    return command, file.name, *(word for name, value in (own | said).items() for word in _words(name, value))


def _words(name: str, value: object) -> Iterator[str]:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, list):
        for each in value:
            yield from _words(name, each)
    elif value is True:
        yield option
    elif value is not None and value is not False:
        yield from (option, str(value) if name in TEXTS else re.split(r"[/\\]", str(value))[-1])
