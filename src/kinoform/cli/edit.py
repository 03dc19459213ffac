"""`kinoform edit`: change a part of a video and leave the rest as it is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kinoform.cli import console
from kinoform.cli.edit_common import EDIT, DryRun, Feather, NoColourMatch, Overlap, Preview, Prompt, Shared
from kinoform.cli.inputs import INPUTS, ContextScale, MaskFile, References, Strength
from kinoform.cli.options import MODEL, model_names, option
from kinoform.cli.sharing import sharing


@sharing(Shared)
def edit(
    video: Annotated[Path, typer.Argument(help="A video or folder of frames; it stays as it is.")],
    prompt: Prompt,
    mask: MaskFile = None,
    reference: References = None,
    strength: Strength = None,
    source_prompt: Annotated[
        str | None,
        option(INPUTS, "What the video shows now, to edit it into the prompt.", "--source-prompt", "--from-prompt"),
    ] = None,
    context_scale: ContextScale = None,
    grow: Annotated[
        int | None, option(EDIT, "Pixels that the mask grows by; by default a 64th of the shorter side.")
    ] = None,
    feather: Feather = None,
    margin: Annotated[float, option(EDIT, "What the model sees around the mask, in lengths of its longer side.")] = 1.0,
    overlap: Overlap = None,
    hide_source: Annotated[bool, option(EDIT, "Show the model grey under the mask.", "--hide-source")] = False,
    fit_mask: Annotated[
        bool, option(EDIT, "Stretch a mask of another size, spread one of another length.", "--fit-mask")
    ] = False,
    no_colour_match: NoColourMatch = False,
    model: Annotated[
        str | None, option(MODEL, "By default mini:vace, with --source-prompt mini.", complete=model_names)
    ] = None,
    preview: Preview = False,
    dry_run: DryRun = False,
    **options: Any,
) -> None:
    """Change what a mask shows white, or a whole video, as the prompt says; the rest stays bit for bit."""
    console.keep_private(prompt, source_prompt, options["negative"])
    shared = Shared(model=model or ("mini:vace" if source_prompt is None else "mini"), **options)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli.edited import carried_out, order, rehearsed, show
    from kinoform.editing import preview as drawing
    from kinoform.editing.edit import carry_out
    from kinoform.editing.edit_plan import plan_edit
    from kinoform.editing.settings import EditSettings

    settings = EditSettings(
        grow=grow, feather=feather, margin=margin, overlap=overlap, match_colours=not no_colour_match,
        show_source=not hide_source, fit_mask=fit_mask,
    )  # fmt: skip
    ordered = order(
        "edit", video, prompt, shared, mask=mask, reference=reference, strength=strength, source_prompt=source_prompt,
        context_scale=context_scale, grow=grow, feather=feather, margin=margin, overlap=overlap,
        hide_source=hide_source, fit_mask=fit_mask, no_colour_match=no_colour_match,
    )  # fmt: skip
    plan = plan_edit(
        ordered.pipeline, video, prompt, seed=ordered.seed, mask=mask, references=reference or (), strength=strength,
        source_prompt=source_prompt, context_scale=context_scale, settings=settings, **shared.changes(),
    )  # fmt: skip
    frames = len(plan.source.frames)
    shape = (frames, *plan.source.size)
    if preview:
        show(ordered, drawing.preview(plan))
    elif dry_run:
        rehearsed(ordered, shared.model, plan.request(plan.segments[0], plan.source.frames), shape, plan)
    else:
        carried_out(ordered, shape, plan, partial(carry_out, plan))
