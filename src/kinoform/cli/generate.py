"""`kinoform generate`, `animate` and `bridge`: from a prompt, and perhaps images, to a saved video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.inputs import option_names
from kinoform.cli.option_groups import GenerateOptions
from kinoform.cli.options import VIDEO, command, option, varied
from kinoform.cli.values import checked_count, prompts_of
from kinoform.conditions.standard_inputs import EXACT_SIZE, STANDARD_INPUTS

FROM_IMAGES = varied(
    default={"model": "mini:frames"},
    without=(
        "sampler", "prompts", "fit_mask", *option_names(*(item for item in STANDARD_INPUTS if item is not EXACT_SIZE)),
    ),
)  # fmt: skip
"""Options of a video from images, which have arguments of their own."""


@command
def generate(
    prompt: Annotated[str | None, typer.Argument(help="What the video shows.")] = None, *, options: GenerateOptions
) -> None:
    """Make videos from words, images and videos.

    For example: kinoform generate "a red ball moves left" --seed 7 -o ball.mp4
    """
    _make(prompt, options)


@command
def animate(
    image: Annotated[Path, typer.Argument(help="The first frame.")],
    prompt: Annotated[str, option(VIDEO, "What happens in the video.")],
    *,
    options: Annotated[GenerateOptions, FROM_IMAGES],
) -> None:
    """Make a video that begins with an image.

    For example: kinoform animate first.png --prompt "a red ball moves left"
    """
    _make(prompt, replace(options, inputs=replace(options.inputs, image=image)))


@command
def bridge(
    first: Annotated[Path, typer.Argument(help="The first frame.")],
    last: Annotated[Path, typer.Argument(help="The last frame.")],
    prompt: Annotated[str, option(VIDEO, "What happens between them.")],
    *,
    options: Annotated[GenerateOptions, FROM_IMAGES],
) -> None:
    """Make a video that leads from one image to another.

    For example: kinoform bridge first.png last.png --prompt "a red ball moves left"
    """
    _make(prompt, replace(options, inputs=replace(options.inputs, image=first, last_image=last)))


def _make(prompt: str | None, options: GenerateOptions) -> None:
    """Make the videos that the options describe and save them, or print the plan of them."""
    options = options.at_speed()
    video, inputs, output = options.video, options.inputs, options.output
    console.keep_private(prompt, video.negative, *inputs.private())
    texts = prompts_of(prompt, video.prompts)
    console.keep_private(*texts)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli.latents import check_latents
    from kinoform.cli.output import check, make, video_names
    from kinoform.cli.plan import rehearse
    from kinoform.editing.passes import warn_unfamiliar_inputs
    from kinoform.pipelines.pipeline import random_seed

    pipeline = options.model.load(options.machine)
    changes = video.request_changes(
        pipeline.recipe, pipeline.parts.codec_spec, pipeline.parts.patch, inputs.read, fit_mask=inputs.fit_mask
    )
    changes |= options.windows.asked(pipeline.recipe, video.seconds, changes["inputs"])
    first = random_seed() if video.seed is None else video.seed
    requests = [
        pipeline.request(text, seed=first + number, **changes)
        for text in texts
        for number in range(checked_count(video.count))
    ]
    saving = output.save_options(pipeline.recipe.upscale)
    names = video_names(requests, output.output)
    for request, name in zip(requests, names, strict=True):
        check(name, (request.num_frames, request.height, request.width), saving)
    check_latents(names, force=output.force)
    warn_unfamiliar_inputs(pipeline.recipe, requests[0].inputs)
    if output.dry_run:
        rehearse(str(options.model.model), pipeline, requests, names, saving)
        return
    if video.seed is None:
        console.note(f"seed {first}")
    make(pipeline, requests, names, saving, options.model.words(options.machine))
