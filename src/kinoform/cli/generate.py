"""`kinoform generate`: from a prompt to a saved video."""

from __future__ import annotations

from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.inputs import InputOptions
from kinoform.cli.option_groups import MachineOptions, ModelOptions, OutputOptions, VideoOptions
from kinoform.cli.options import command
from kinoform.cli.values import checked_count, prompts_of


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
    from kinoform.cli.output import check, make, video_names
    from kinoform.cli.plan import rehearse
    from kinoform.editing.worlds import tell_worlds
    from kinoform.pipelines.pipeline import random_seed

    pipeline = model.load(machine)
    changes = made.request_changes(
        pipeline.recipe, pipeline.parts.codec_spec, pipeline.parts.patch, inputs.read, fit_mask=inputs.fit_mask
    )
    first = random_seed() if made.seed is None else made.seed
    requests = [
        pipeline.request(text, seed=first + number, **changes)
        for text in texts
        for number in range(checked_count(made.count))
    ]
    how = output.how(pipeline.recipe.upscale)
    names = video_names(requests, output.output)
    for request, name in zip(requests, names, strict=True):
        check(name, (request.num_frames, request.height, request.width), how)
    check_latents(names, force=output.force)
    tell_worlds(pipeline.recipe, requests[0].inputs)
    if output.dry_run:
        rehearse(str(model.model), pipeline, requests, names, how)
        return
    if made.seed is None:
        console.note(f"seed {first}")
    make(pipeline, requests, names, how, model.words(machine))
