"""`kinoform outpaint`: make what lies around a video."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kinoform.cli import console
from kinoform.cli.edit_common import DryRun, Feather, NoColourMatch, Overlap, Preview, Prompt, Shared
from kinoform.cli.inputs import References
from kinoform.cli.options import VIDEO, option, size_of
from kinoform.cli.sharing import sharing


@sharing(Shared, without=("size",))
def outpaint(
    video: Annotated[Path, typer.Argument(help="A video or folder of frames; it stays as it is.")],
    prompt: Prompt,
    to: Annotated[str, option(VIDEO, "WIDTHxHEIGHT of the video that is made, in pixels.")],
    anchor: Annotated[str, option(VIDEO, "Where the video stands: center, top, bottom-left, ...")] = "center",
    reference: References = None,
    feather: Feather = None,
    overlap: Overlap = None,
    no_colour_match: NoColourMatch = False,
    preview: Preview = False,
    dry_run: DryRun = False,
    **options: Any,
) -> None:
    """Make a video wider or higher: its surroundings are made, it stays bit for bit."""
    console.keep_private(prompt, options["negative"])
    shared = Shared(**options)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli.edited import carried_out, order, rehearsed, show
    from kinoform.editing import preview as drawing
    from kinoform.editing.outpaint import carry_out, plan_outpaint
    from kinoform.editing.settings import EditSettings

    width, height = size_of(to, "--to")
    assert width is not None and height is not None
    settings = EditSettings(feather=feather, overlap=overlap, match_colours=not no_colour_match)
    ordered = order(
        "outpaint", video, prompt, shared, to=to, anchor=anchor, reference=reference, feather=feather, overlap=overlap,
        no_colour_match=no_colour_match,
    )  # fmt: skip
    plan = plan_outpaint(
        ordered.pipeline, video, prompt, width=width, height=height, anchor=anchor, seed=ordered.seed,
        references=reference or (), settings=settings, **shared.changes(),
    )  # fmt: skip
    frames = len(plan.source.frames)
    shape = (frames, height, width)
    if preview:
        show(ordered, drawing.preview(plan))
    elif dry_run:
        rehearsed(ordered, shared.model, plan.request(plan.segments[0], plan.source.frames), shape, plan)
    else:
        carried_out(ordered, shape, plan, partial(carry_out, plan))
