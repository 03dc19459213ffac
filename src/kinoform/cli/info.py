"""`kinoform info`: how a video was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.media.metadata import read_params


def info(
    file: Annotated[Path, typer.Argument(help="A video or a folder of frames that kinoform saved.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Print the parameters that a video carries."""
    params = read_params(file)
    console.result("\n".join(_lines(params)), params, as_json=as_json)


def _lines(params: Mapping[str, object], inside: str = "") -> Iterator[str]:
    """One line a value; those of an object inside stand under its name, as `model.hash`."""
    for name, value in params.items():
        if isinstance(value, dict) and value:
            yield from _lines(value, f"{inside}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{inside + name:<16} {text}".replace("\n", "\\n")
