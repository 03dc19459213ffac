"""`kinoform edit`: change a part of a video and leave the rest as it is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.inputs import INPUTS, InputOptions, option_names
from kinoform.cli.option_groups import EditOptions, JoinOptions
from kinoform.cli.options import VIDEO as VIDEO_PANEL
from kinoform.cli.options import command, option, varied
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, SOURCE_PROMPT, VIDEO


@command
def edit(
    video: Annotated[Path, typer.Argument(help="A video or folder of frames; it stays as it is.")],
    prompt: Annotated[str, option(VIDEO_PANEL, "What the video shall show.")],
    source_prompt: Annotated[
        str | None,
        option(INPUTS, "What the video shows now, to edit it into the prompt.", "--source-prompt", "--from-prompt"),
    ] = None,
    *,
    inputs: Annotated[
        InputOptions,
        varied(
            without=option_names(FRAMES, VIDEO, EXACT_SIZE, SOURCE_PROMPT),
            help={"fit_mask": "Stretch a mask of another size, spread one of another length."},
        ),
    ],
    join: JoinOptions,
    options: Annotated[
        EditOptions, varied(default={"model": None}, help={"model": "By default mini:vace, with --source-prompt mini."})
    ],
) -> None:
    """Change what a mask shows white, or a whole video, as the prompt says; the rest stays bit for bit.

    For example: kinoform edit ball.mp4 --mask mask.png --prompt "a blue ball moves left"
    """
    console.keep_private(prompt, source_prompt, options.video.negative)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli.edit_common import finish, inputs_by_name, order
    from kinoform.editing import preview
    from kinoform.editing.edit import carry_out
    from kinoform.editing.edit_plan import plan_edit

    inputs = replace(inputs, source_prompt=source_prompt)
    settings = join.settings(fit_mask=inputs.fit_mask)
    named = options.model.model or ("mini:vace" if source_prompt is None else "mini")
    options = replace(options, model=replace(options.model, model=named))
    ordered = order("edit", video, prompt, options, inputs, join)
    plan = plan_edit(
        ordered.pipeline, video, prompt, seed=ordered.seed, settings=settings, **options.video.changes(),
        **inputs_by_name(ordered.pipeline, inputs),
    )  # fmt: skip
    finish(ordered, plan, draw=partial(preview.preview, plan), make=partial(carry_out, plan))
