"""`kinoform bridge`: a video that leads from one image to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kinoform.cli.animate import OTHER_INPUTS
from kinoform.cli.generate import generate
from kinoform.cli.options import VIDEO, ModelName, option
from kinoform.cli.sharing import sharing


@sharing(generate, without=OTHER_INPUTS)
def bridge(
    first: Annotated[Path, typer.Argument(help="The first frame.")],
    last: Annotated[Path, typer.Argument(help="The last frame.")],
    prompt: Annotated[str, option(VIDEO, "What happens between them.")],
    model: ModelName = "mini:frames",
    **options: Any,
) -> None:
    """Make a video that leads from one image to another."""
    generate(prompt, image=first, last_image=last, model=model, **options)
