"""`kinoform extend`: make a video longer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kinoform.cli import console
from kinoform.cli.edit_common import DryRun, NoColourMatch, Preview, Prompt, Shared
from kinoform.cli.inputs import References
from kinoform.cli.options import VIDEO, frames_of, option
from kinoform.cli.sharing import sharing


@sharing(Shared)
def extend(
    video: Annotated[Path, typer.Argument(help="A video or folder of frames; it stays as it is.")],
    prompt: Prompt,
    frames: Annotated[int | None, option(VIDEO, "New frames; by default as many as are made at once.")] = None,
    seconds: Annotated[float | None, option(VIDEO, "The same as a length.")] = None,
    before: Annotated[bool, option(VIDEO, "Before the beginning instead of after the end.", "--before")] = False,
    context: Annotated[
        int | None, option(VIDEO, "Frames of the video that the model goes on from; by default 9.")
    ] = None,
    reference: References = None,
    no_colour_match: NoColourMatch = False,
    preview: Preview = False,
    dry_run: DryRun = False,
    **options: Any,
) -> None:
    """Make a video longer, after its end or before its beginning."""
    console.keep_private(prompt, options["negative"])
    shared = Shared(**options)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli.edited import carried_out, order, rehearsed, show
    from kinoform.editing import preview as drawing
    from kinoform.editing.extend import carry_out
    from kinoform.editing.extend_plan import most_new, pace, plan_extend
    from kinoform.media.read import read_clip

    ordered = order(
        "extend", video, prompt, shared, frames=frames, seconds=seconds, before=before, context=context,
        reference=reference, no_colour_match=no_colour_match,
    )  # fmt: skip
    source, recipe = read_clip(video, sound=True), ordered.pipeline.recipe
    there = len(source.frames)
    new = frames_of(frames, seconds, pace(source, recipe, context, before), 1)
    plan = plan_extend(
        ordered.pipeline, source, prompt, num_frames=most_new(recipe, there, context) if new is None else new,
        seed=ordered.seed, before=before, context=context, references=reference or (),
        match_colours=not no_colour_match, **shared.changes(),
    )  # fmt: skip
    made = sum(plan.portions)
    shape = (there + made, *source.size)
    if preview:
        show(ordered, drawing.preview_extend(plan))
    elif dry_run:
        rehearsed(ordered, shared.model, plan.request(0, plan.nearest(source.frames)), shape, plan)
    else:
        carried_out(ordered, shape, plan, partial(carry_out, plan))
