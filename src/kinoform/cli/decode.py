"""`kinoform decode`: finish a run whose film could not be written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.generate import Output, save, sheet_path
from kinoform.errors import UsageError
from kinoform.media.film import check_output
from kinoform.models.codec import latent_size
from kinoform.pipelines.request import Request
from kinoform.recipes.load import load
from kinoform.solvers.names import SOLVERS
from kinoform.weights.latents import SUFFIX, read_latents

FIELDS = (
    "prompt",
    "negative_prompt",
    "seed",
    "width",
    "height",
    "num_frames",
    "fps",
    "steps",
    "guidance",
    "shift",
)


def decode(
    latents: Annotated[Path, typer.Argument(help=f"A file that ends in {SUFFIX}.")],
    model: Annotated[str | None, typer.Option(help="The model that made them; by default the recorded one.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="By default the film's first name.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    upscale: Annotated[int | None, typer.Option(help="By default as asked when the film was made.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
    no_metadata: Annotated[bool, typer.Option("--no-metadata", help="Keep parameters out of the film.")] = False,
    contact_sheet: Annotated[bool, typer.Option("--contact-sheet", help="Also lay the frames out on a png.")] = False,
) -> None:  # fmt: skip
    """Turn kept latents into their film."""
    values, params = read_latents(latents)
    pipeline = load(model or _recorded(latents, params), device=device)
    if (made := _hash(params)) != pipeline.parts.fingerprint():
        raise UsageError(f"{latents} was made by a model with hash {made}, not by this one; pass its --model")
    asked = _request(latents, params)
    size = latent_size(pipeline.parts.codec_spec, asked.num_frames, asked.height, asked.width)
    if tuple(values.shape[1:]) != (pipeline.parts.codec_spec.channels, *size):
        raise UsageError(f"{latents} holds {list(values.shape)}, which is not a film of its own parameters")
    path = output or latents.with_name(latents.name.removesuffix(SUFFIX))
    kept = params.get("upscale", 1)
    factor = upscale if upscale is not None else kept if isinstance(kept, int) else 1
    how = Output(
        upscale=factor, force=force, metadata=not no_metadata, sheet=contact_sheet, as_json=as_json
    )  # fmt: skip
    check_output(path, shape=(asked.num_frames, asked.height * factor, asked.width * factor), force=force)
    with console.bars() as tell:
        film = pipeline.film(asked, values, tell)
        save(film, path, how)
    if latents.name == path.name + SUFFIX:
        latents.unlink(missing_ok=True)
    sheet = str(sheet_path(path)) if contact_sheet else None
    console.result(str(path), {"output": str(path), "contact_sheet": sheet, **film.params}, as_json=as_json)


def _recorded(file: Path, params: dict[str, object]) -> str:
    model = params.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    if not isinstance(name, str) or "/" in name:
        raise UsageError(f"{file} does not say which model made it; pass --model")
    return name


def _hash(params: dict[str, object]) -> object:
    model = params.get("model")
    return model.get("hash") if isinstance(model, dict) else None


def _request(file: Path, params: dict[str, object]) -> Request:
    try:
        solver = SOLVERS[str(params["solver"])]
        return Request(solver=solver, **{name: params[name] for name in FIELDS})  # type: ignore[arg-type]
    except KeyError as error:
        raise UsageError(f"{file} lacks the parameter {error}; make the film anew") from error
