"""`kinoform animate` and `kinoform bridge`: a video that begins with an image, or leads from one to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from kinoform.cli.generate import make_videos
from kinoform.cli.inputs import InputOptions
from kinoform.cli.option_groups import MachineOptions, ModelOptions, OutputOptions, VideoOptions
from kinoform.cli.options import VIDEO, command, option, varied

FramesModel: TypeAlias = Annotated[ModelOptions, varied(default={"model": "mini:frames"})]
FramesVideo: TypeAlias = Annotated[VideoOptions, varied(without=("sampler", "prompts"))]
FramesInputs: TypeAlias = Annotated[InputOptions, varied(only=("exact_size",))]
"""Videos from images take no other inputs."""


@command
def animate(
    image: Annotated[Path, typer.Argument(help="The first frame.")],
    prompt: Annotated[str, option(VIDEO, "What happens in the video.")],
    *,
    model: FramesModel,
    made: FramesVideo,
    inputs: FramesInputs,
    machine: MachineOptions,
    output: OutputOptions,
) -> None:
    """Make a video that begins with an image.

    For example: kinoform animate first.png --prompt "a red ball moves left"
    """
    make_videos(prompt, model, made, replace(inputs, image=image), machine, output)


@command
def bridge(
    first: Annotated[Path, typer.Argument(help="The first frame.")],
    last: Annotated[Path, typer.Argument(help="The last frame.")],
    prompt: Annotated[str, option(VIDEO, "What happens between them.")],
    *,
    model: FramesModel,
    made: FramesVideo,
    inputs: FramesInputs,
    machine: MachineOptions,
    output: OutputOptions,
) -> None:
    """Make a video that leads from one image to another.

    For example: kinoform bridge first.png last.png --prompt "a red ball moves left"
    """
    make_videos(prompt, model, made, replace(inputs, image=first, last_image=last), machine, output)
