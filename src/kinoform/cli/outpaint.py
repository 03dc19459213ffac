"""`kinoform outpaint`: make what lies around a video."""

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
from kinoform.cli.values import size_of
from kinoform.conditions.standard_inputs import MASK


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasOptions:
    """The size of the larger video, and the place of the old one in it."""

    to: Annotated[str, option(VIDEO, "WIDTHxHEIGHT of the video that is made, in pixels.")]
    anchor: Annotated[str, option(VIDEO, "Where the video stands: center, top, bottom-left, ...")] = "center"


@command
def outpaint(
    video: Annotated[Path, typer.Argument(help="A video or folder of frames; it stays as it is.")],
    prompt: Annotated[str, option(VIDEO, "What the video shall show.")],
    *,
    canvas: CanvasOptions,
    inputs: Annotated[InputOptions, varied(only=("reference", "input"))],
    join: Annotated[JoinOptions, varied(only=("feather", "overlap", "no_colour_match"))],
    options: Annotated[EditOptions, varied(without=("size",))],
) -> None:
    """Make a video wider or higher: its surroundings are made, it stays bit for bit.

    For example: kinoform outpaint ball.mp4 --prompt "a red ball moves left" --to 384x256 --anchor left
    """
    console.keep_private(prompt, options.video.negative)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli.edit_common import finish, inputs_by_name, order
    from kinoform.editing import preview
    from kinoform.editing.edit import carry_out
    from kinoform.editing.outpaint import plan_outpaint

    width, height = size_of(canvas.to, "--to")
    assert width is not None and height is not None
    settings = join.settings()
    ordered = order("outpaint", video, prompt, options, canvas, inputs, join)
    plan = plan_outpaint(
        ordered.pipeline, video, prompt, width=width, height=height, anchor=canvas.anchor, seed=ordered.seed,
        settings=settings, **options.video.changes(),
        **inputs_by_name(ordered.pipeline, inputs, MASK),
    )  # fmt: skip
    finish(ordered, plan, draw=partial(preview.preview, plan), make=partial(carry_out, plan))
