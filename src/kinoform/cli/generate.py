"""`kinoform generate`: from a prompt to a saved video."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.inputs import (
    ContextScale,
    ExactSize,
    FitMask,
    Image,
    InputFiles,
    KnownFrame,
    LastImage,
    MaskFile,
    References,
    SourcePrompt,
    SourceVideo,
    Strength,
)
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
    frames_of,
    guidance_named,
    lora_of,
    option,
    sampler_named,
    size_of,
    solver_named,
)
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.recipe import Recipe

MOST_VIDEOS = 10_000

SOFT_BREAK = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Marks of web pages, chats and word processors that break a line without ending it: white space in a prompt."""


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What the video shows.")] = None,
    model: ModelName = "mini",
    recipe: RecipeName = None,
    text_encoder: TextEncoderFile = None,
    vae: VAEFile = None,
    tokenizer: TokenizerPath = None,
    image_encoder: ImageEncoderFile = None,
    variant: Variant = None,
    lora: Loras = None,
    lora_ignore_unknown: IgnoreUnknown = False,
    size: Annotated[str | None, option(VIDEO, "WIDTHxHEIGHT in pixels.")] = None,
    frames: Annotated[int | None, option(VIDEO, "Number of frames, 1 + 4n for Wan.")] = None,
    seconds: Annotated[float | None, option(VIDEO, "Length, to the nearest legal --frames.")] = None,
    fps: Annotated[float | None, option(VIDEO, "Frames per second of the saved video.")] = None,
    steps: Steps = None,
    fast: Annotated[
        bool, option(VIDEO, "Fewer steps, where their cost in skill is measured (mini).", "--fast")
    ] = False,
    guidance_scale: Guidance = None,
    guidance_rule: GuidanceRule = None,
    shift: Shift = None,
    solver: SolverName = None,
    sampler: SamplerName = None,
    negative: Annotated[str | None, option(VIDEO, "What the video should not show; '' for nothing.")] = None,
    seed: Annotated[int | None, option(VIDEO, "The same seed makes the same video.")] = None,
    count: Annotated[int, option(VIDEO, "Videos per prompt, with seeds seed, seed + 1, ...")] = 1,
    prompts: Annotated[Path | None, option(VIDEO, "A text file, one prompt a line.")] = None,
    image: Image = None,
    last_image: LastImage = None,
    frame: KnownFrame = None,
    video: SourceVideo = None,
    mask: MaskFile = None,
    fit_mask: FitMask = False,
    reference: References = None,
    strength: Strength = None,
    source_prompt: SourcePrompt = None,
    context_scale: ContextScale = None,
    exact_size: ExactSize = False,
    dtype: DtypeName = "auto",
    device: DeviceName = "auto",
    upscale: Annotated[int | None, option(OUTPUT, "Repeat every pixel, for small videos.")] = None,
    codec: Annotated[
        str | None, option(OUTPUT, "h264 or av1 in .mp4, vp9 or av1 in .webm, any in .mkv.", complete=codec_names)
    ] = None,
    crf: Annotated[int | None, option(OUTPUT, "Quality of a video, 0 the best; h264 to 51, others to 63.")] = None,
    output: Annotated[
        str | None, option(OUTPUT, ".mp4 .webm .mkv .gif .webp .png name/ or a folder.", "--output", "-o")
    ] = None,
    dry_run: Annotated[bool, option(OUTPUT, "Print the plan of the video instead of making it.", "--dry-run")] = False,
    force: Force = False,
    as_json: AsJson = False,
    no_metadata: NoMetadata = False,
    contact_sheet: ContactSheet = False,
) -> None:
    """Make videos from words, images and videos."""
    console.keep_private(prompt, negative, source_prompt)
    texts = _prompts(prompt, prompts)
    console.keep_private(*texts)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli.latents import check_latents
    from kinoform.cli.output import Output, check, video_names
    from kinoform.cli.write_videos import make, rehearse
    from kinoform.conditions.protocols import most_of, rate_of
    from kinoform.editing.worlds import tell_worlds
    from kinoform.pipelines.pipeline import random_seed

    chosen = Chosen(
        model=model, recipe=recipe, device=device, dtype=dtype,
        text_encoder=text_encoder, vae=vae, tokenizer=tokenizer, image_encoder=image_encoder, variant=variant,
        loras=tuple(map(lora_of, lora or ())), ignore_unknown=lora_ignore_unknown,
    )  # fmt: skip
    pipeline = chosen.load()
    files = InputFiles(
        image=image, last_image=last_image, frames=frame or (), video=video, mask=mask, references=reference or (),
        strength=strength, source_prompt=source_prompt, context_scale=context_scale, exact_size=exact_size,
        fit_mask=fit_mask,
    )  # fmt: skip
    width, height = size_of(size)
    rate = fps if fps is not None else pipeline.recipe.fps
    stride, patch = pipeline.parts.codec_spec.stride, pipeline.parts.transformer_spec.patch
    length, ways_in = frames_of(frames, seconds, rate, stride[0], patch[0]), pipeline.recipe.conditioners
    most = most_of(ways_in, pipeline.recipe.num_frames if length is None else length)
    changes = {
        "negative_prompt": negative, "width": width, "height": height, "fps": fps,
        "steps": _fast_steps(pipeline.recipe, steps) if fast else steps,
        "num_frames": length,
        "guidance_scale": guidance_scale, "guidance_rule": guidance_named(guidance_rule), "shift": shift,
        "solver": solver_named(solver), "sampler": sampler_named(sampler),
        "inputs": files.read(rate_of(ways_in, rate), most),
    }  # fmt: skip
    first = random_seed() if seed is None else seed
    asked = [
        pipeline.request(text, seed=first + number, **changes) for text in texts for number in range(_count(count))
    ]
    how = Output(
        upscale=pipeline.recipe.upscale if upscale is None else upscale,
        force=force, metadata=not no_metadata, sheet=contact_sheet, as_json=as_json, codec=codec, crf=crf,
    )  # fmt: skip
    names = video_names(asked, output)
    for each, name in zip(asked, names, strict=True):
        check(name, (each.num_frames, each.height, each.width), how)
    check_latents(names, force=force)
    tell_worlds(pipeline.recipe, asked[0].inputs)
    if dry_run:
        rehearse(model, pipeline, asked, names, how)
        return
    if seed is None:
        console.note(f"seed {first}")
    make(pipeline, asked, names, how, chosen.words())


def _fast_steps(recipe: Recipe, steps: int | None) -> int:
    if steps is not None:
        raise UsageError(
            f"--fast chooses the steps, and --steps {steps} too; give one of them", code="options_conflict"
        )
    if recipe.fast_steps is None:
        raise UsageError(
            f"what fewer steps cost {recipe.name} is not measured; choose them with --steps", code="fast_not_measured"
        )
    return recipe.fast_steps


def _prompts(prompt: str | None, file: Path | None) -> list[str]:
    if (prompt is None) == (file is None):
        raise UsageError(
            "give a prompt, or a file of prompts with --prompts; not both",
            code="prompt_missing" if prompt is None else "options_conflict",
        )
    if prompt is not None:
        return [prompt]
    assert file is not None
    try:
        # Not splitlines, which would end a prompt at a soft break too.
        lines = [SOFT_BREAK.sub(" ", line).strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as UTF-8 text: {error}", code="file_unreadable") from error
    found = [line for line in lines if line]
    if not found:
        raise UsageError(f"{file} holds no prompt; write one a line", code="prompt_missing")
    return found


def _count(count: int) -> int:
    if not 1 <= count <= MOST_VIDEOS:
        raise UsageError(f"--count must be from 1 to {MOST_VIDEOS}, not {count}", code="value_out_of_range")
    return count
