"""`kinoform generate`: from a prompt to a saved video."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinoform.cli import console
from kinoform.cli.inputs import InputOptions
from kinoform.cli.option_groups import MachineOptions, ModelOptions, OutputOptions, VideoOptions
from kinoform.cli.options import command
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.conditions.input_kinds import ReadOptions
    from kinoform.conditions.inputs import InputField, Inputs
    from kinoform.models.codec import CodecSpec
    from kinoform.ops.patch import Patch
    from kinoform.recipe import Recipe

MOST_VIDEOS = 10_000

SOFT_BREAK = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Marks of web pages, chats and word processors that break a line without ending it: white space in a prompt."""


@command
def generate(
    prompt: Annotated[str | None, typer.Argument(help="What the video shows.")] = None,
    *,
    model: ModelOptions,
    made: VideoOptions,
    inputs: InputOptions,
    machine: MachineOptions,
    output: OutputOptions,
) -> None:
    """Make videos from words, images and videos.

    For example: kinoform generate "a red ball moves left" --seed 7 -o ball.mp4
    """
    make_videos(prompt, model, made, inputs, machine, output)


def make_videos(
    prompt: str | None,
    model: ModelOptions,
    made: VideoOptions,
    inputs: InputOptions,
    machine: MachineOptions,
    output: OutputOptions,
) -> None:
    """Make the videos that the options describe and save them, or tell what they take."""
    console.keep_private(prompt, made.negative, *inputs.private())
    texts = prompts_of(prompt, made.prompts)
    console.keep_private(*texts)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli.latents import check_latents
    from kinoform.cli.output import check, video_names
    from kinoform.cli.write_videos import make, rehearse
    from kinoform.editing.worlds import tell_worlds
    from kinoform.pipelines.pipeline import random_seed

    pipeline = model.load(machine)
    changes = changes_of(
        pipeline.recipe, pipeline.parts.codec_spec, pipeline.parts.patch, made, inputs.read, inputs.fit_mask
    )
    first = random_seed() if made.seed is None else made.seed
    asked = [
        pipeline.request(text, seed=first + number, **changes)
        for text in texts
        for number in range(checked_count(made.count))
    ]
    how = output.how(pipeline.recipe.upscale)
    names = video_names(asked, output.output)
    for each, name in zip(asked, names, strict=True):
        check(name, (each.num_frames, each.height, each.width), how)
    check_latents(names, force=output.force)
    tell_worlds(pipeline.recipe, asked[0].inputs)
    if output.dry_run:
        rehearse(str(model.model), pipeline, asked, names, how)
        return
    if made.seed is None:
        console.note(f"seed {first}")
    make(pipeline, asked, names, how, model.words(machine))


def changes_of(
    recipe: Recipe,
    codec: CodecSpec,
    patch: Patch,
    made: VideoOptions,
    read: Callable[[tuple[InputField[Any], ...], ReadOptions], Inputs],
    fit_mask: bool,
) -> dict[str, Any]:
    """Return what differs from a recipe's request; the codec and the patch decide which lengths are legal.

    `read` reads the inputs, of those that the model may be given, as the options say.
    """
    from kinoform.conditions.protocols import read_options, readable

    fps = recipe.fps if made.fps is None else made.fps
    length = made.num_frames(fps, codec.stride[0], patch[0])
    options = read_options(
        recipe.conditioners, fps=fps, num_frames=recipe.num_frames if length is None else length, fit_mask=fit_mask
    )
    changes = made.changes() | {"num_frames": length, "inputs": read(readable(recipe.conditioners), options)}
    return changes | ({"steps": _fast_steps(recipe, made.steps)} if made.fast else {})


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


def prompts_of(prompt: str | None, file: Path | None) -> list[str]:
    """Return the prompt, or those of a file, one a line. Raises UsageError for both, neither, or an empty file."""
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


def checked_count(count: int) -> int:
    """Return the number of videos per prompt. Raises UsageError where it is out of range."""
    if not 1 <= count <= MOST_VIDEOS:
        raise UsageError(f"--count must be from 1 to {MOST_VIDEOS}, not {count}", code="value_out_of_range")
    return count
