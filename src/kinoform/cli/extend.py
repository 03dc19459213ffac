"""`kinoform extend`: make a video longer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.inputs import InputOptions
from kinoform.cli.option_groups import EditOptions, JoinOptions
from kinoform.cli.options import VIDEO, command, option, varied
from kinoform.cli.values import frames_of
from kinoform.conditions.standard_inputs import MASK


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendOptions:
    """The length of the new part, and its side."""

    frames: Annotated[int | None, option(VIDEO, "New frames; by default as many as are made at once.")] = None
    seconds: Annotated[float | None, option(VIDEO, "The same as a length.")] = None
    before: Annotated[bool, option(VIDEO, "Before the beginning instead of after the end.", "--before")] = False
    context: Annotated[int | None, option(VIDEO, "Frames of the video that the model goes on from; by default 9.")] = (
        None
    )


@command
def extend(
    video: Annotated[Path, typer.Argument(help="A video or folder of frames; it stays as it is.")],
    prompt: Annotated[str, option(VIDEO, "What the video shall show.")],
    *,
    new: ExtendOptions,
    inputs: Annotated[InputOptions, varied(only=("reference", "input"))],
    join: Annotated[JoinOptions, varied(only=("no_colour_match",))],
    options: Annotated[EditOptions, varied(without=("frames",))],
) -> None:
    """Make a video longer, after its end or before its beginning.

    For example: kinoform extend ball.mp4 --prompt "a red ball moves left" --seconds 1
    """
    console.keep_private(prompt, options.video.negative)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli.edit_common import finish, inputs_by_name, order
    from kinoform.editing import preview
    from kinoform.editing.extend import carry_out
    from kinoform.editing.extend_plan import frames_of_one_pass, new_fps, plan_extend
    from kinoform.editing.settings import ExtendSettings
    from kinoform.media.read import read_clip

    ordered = order("extend", video, prompt, options, new, inputs, join)
    source, recipe = read_clip(video, sound=True), ordered.pipeline.recipe
    frames = frames_of(new.frames, new.seconds, new_fps(source, recipe, new.context, new.before), 1)
    plan = plan_extend(
        ordered.pipeline, source, prompt,
        num_frames=frames_of_one_pass(recipe, len(source.frames), new.context) if frames is None else frames,
        seed=ordered.seed,
        settings=ExtendSettings(before=new.before, context=new.context, match_colours=not join.no_colour_match),
        **options.video.changes(), **inputs_by_name(ordered.pipeline, inputs, MASK),
    )  # fmt: skip
    finish(ordered, plan, draw=partial(preview.preview_extend, plan), make=partial(carry_out, plan))
