"""`kinoform info`: how a film was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.media.metadata import read_params


def info(
    file: Annotated[Path, typer.Argument(help="A film or a folder of frames that kinoform saved.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Print the parameters that a film carries."""
    params = read_params(file)
    lines = (f"{name:<16} {value}".replace("\n", "\\n") for name, value in params.items())
    console.result("\n".join(lines), params, as_json=as_json)
