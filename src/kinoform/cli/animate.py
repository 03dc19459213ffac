"""`kinoform animate`: a video that begins with an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kinoform.cli.generate import generate
from kinoform.cli.options import VIDEO, ModelName, option
from kinoform.cli.sharing import sharing

OTHER_INPUTS = (
    "prompts", "image", "last_image", "frame", "video", "mask", "reference", "strength", "source_prompt",
    "context_scale", "sampler", "fit_mask",
)  # fmt: skip
"""What else a video may be made from, which is not for videos from images."""


@sharing(generate, without=OTHER_INPUTS)
def animate(
    image: Annotated[Path, typer.Argument(help="The first frame.")],
    prompt: Annotated[str, option(VIDEO, "What happens in the video.")],
    model: ModelName = "mini:frames",
    **options: Any,
) -> None:
    """Make a video that begins with an image."""
    generate(prompt, image=image, model=model, **options)
