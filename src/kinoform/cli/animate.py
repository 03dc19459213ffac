"""`kinoform animate`: a film that begins with a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kinoform.cli.generate import generate
from kinoform.cli.options import FILM, ModelName, option
from kinoform.cli.sharing import sharing

OTHER_INPUTS = (
    "prompts", "image", "last_image", "frame", "film", "mask", "reference", "strength", "source_prompt",
    "context_scale", "sampler", "fit_mask",
)  # fmt: skip
"""What else a film may be made from, which is not for films from pictures."""


@sharing(generate, without=OTHER_INPUTS)
def animate(
    picture: Annotated[Path, typer.Argument(help="The first frame.")],
    prompt: Annotated[str, option(FILM, "What happens in the film.")],
    model: ModelName = "mini:frames",
    **options: Any,
) -> None:
    """Make a film that begins with a picture."""
    generate(prompt, image=picture, model=model, **options)
