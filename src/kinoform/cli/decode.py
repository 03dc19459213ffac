"""`kinoform decode`: finish a run whose film could not be written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.options import recipe_named
from kinoform.cli.output import Output, check, save
from kinoform.cli.progress import bars
from kinoform.errors import UsageError
from kinoform.media.film import FASTEST, SLOWEST, Film
from kinoform.ops.patch import Patch
from kinoform.recipes.load import load
from kinoform.types import Latents
from kinoform.weights.latents import SUFFIX, read_latents

SIDES = ("num_frames", "height", "width")
"""Parameters that have to agree with the shape of the latents."""


def decode(
    latents: Annotated[Path, typer.Argument(help=f"A file that ends in {SUFFIX}.")],
    model: Annotated[str | None, typer.Option(help="The model that made them; by default the recorded one.")] = None,
    recipe: Annotated[str | None, typer.Option(help="module:function that returns a Recipe.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="By default the film's first name.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    upscale: Annotated[int | None, typer.Option(help="By default as asked when the film was made.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
    no_metadata: Annotated[bool, typer.Option("--no-metadata", help="Keep parameters out of the film.")] = False,
    contact_sheet: Annotated[bool, typer.Option("--contact-sheet", help="Also lay the frames out on a png.")] = False,
) -> None:  # fmt: skip
    """Turn kept latents into their film."""
    values, params = read_latents(latents)
    name = output or _film_name(latents)
    pipeline = load(model or _recorded(latents, params), recipe=recipe_named(recipe), device=device)
    if (made := _hash(params)) != pipeline.parts.fingerprint():
        raise UsageError(f"{latents} was made by a model with hash {made}, not by this one; pass its --model")
    codec = pipeline.parts.codec_spec
    shape = _film_size(codec.stride, values)
    if values.shape[1] != codec.channels or [params.get(side) for side in SIDES] != list(shape):
        raise UsageError(f"{latents} holds {list(values.shape)}, which is not a film of its own parameters")
    kept = params.pop("upscale", 1)
    how = Output(
        upscale=upscale if upscale is not None else kept if isinstance(kept, int) else 1,
        force=force, metadata=not no_metadata, sheet=contact_sheet, as_json=as_json,
    )  # fmt: skip
    check(name, shape, how)
    fps = _fps(latents, params)
    with bars() as tell:
        told = save(Film(frames=pipeline.frames(values, tell), fps=fps, params=params), name, how)
    if latents.name == Path(name).name + SUFFIX:
        latents.unlink(missing_ok=True)
    console.result(name, told, as_json=as_json)


def _film_size(stride: Patch, latents: Latents) -> tuple[int, int, int]:
    """(frames, height, width) of the film of such latents."""
    (time, rows, columns), (frames, height, width) = stride, latents.shape[2:]
    return 1 + (frames - 1) * time, height * rows, width * columns


def _film_name(file: Path) -> str:
    name = file.name.removesuffix(SUFFIX)
    if name in ("", file.name):
        raise UsageError(f"{file} is not named like kept latents, FILM{SUFFIX}; name the film with -o")
    return str(file.with_name(name))


def _recorded(file: Path, params: dict[str, object]) -> str:
    model = params.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    if not isinstance(name, str) or "/" in name:
        raise UsageError(f"{file} does not say which model made it; pass --model")
    return name


def _hash(params: dict[str, object]) -> object:
    model = params.get("model")
    return model.get("hash") if isinstance(model, dict) else None


def _fps(file: Path, params: dict[str, object]) -> float:
    fps = params.get("fps")
    if not isinstance(fps, int | float) or not SLOWEST <= fps <= FASTEST:
        raise UsageError(f"{file} says {fps!r} frames per second, which no film has; make the film anew")
    return float(fps)
