"""`kinoform generate`: from a prompt to a saved film."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.options import frames_of, size_of, solver_named
from kinoform.errors import KinoformError, UsageError
from kinoform.files import check_writable
from kinoform.media.film import Film, check_output
from kinoform.media.names import default_name
from kinoform.media.sheet import save_contact_sheet
from kinoform.pipelines.generate import Callback
from kinoform.pipelines.pipeline import Pipeline, random_seed
from kinoform.pipelines.request import Request
from kinoform.recipes.load import load
from kinoform.weights.latents import SUFFIX, save_latents

MOST_FILMS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How films are saved."""

    upscale: int
    force: bool
    metadata: bool
    sheet: bool
    as_json: bool


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What the film shows.")] = None,
    model: Annotated[str, typer.Option(help="mini, t2v-1.3b, t2v-14b, or a folder of weights.")] = "mini",
    recipe: Annotated[str | None, typer.Option(help="module:function that returns a Recipe.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Number of frames, 1 + 4n for Wan.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length, to the nearest legal --frames.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of the saved film.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 is none.")] = None,
    shift: Annotated[float | None, typer.Option(help="Bends the noise levels towards noise.")] = None,
    solver: Annotated[str | None, typer.Option(help="unipc, dpm++ or euler.")] = None,
    negative: Annotated[str | None, typer.Option(help="What the film should not show; '' for nothing.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same film.")] = None,
    count: Annotated[int, typer.Option(help="Films per prompt, with seeds seed, seed + 1, ...")] = 1,
    prompts: Annotated[Path | None, typer.Option(help="A text file, one prompt a line.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    upscale: Annotated[int | None, typer.Option(help="Repeat every pixel, for small films.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help=".mp4, .gif, .webp, .png or folder/.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON, one object a line.")] = False,
    no_metadata: Annotated[bool, typer.Option("--no-metadata", help="Keep parameters out of the film.")] = False,
    contact_sheet: Annotated[bool, typer.Option("--contact-sheet", help="Also lay the frames out on a png.")] = False,
) -> None:  # fmt: skip
    """Make films from words."""
    pipeline = load(model, recipe=recipe, device=device, dtype=dtype)
    width, height = size_of(size)
    rate = fps if fps is not None else pipeline.recipe.fps
    changes = {
        "negative_prompt": negative, "width": width, "height": height, "fps": fps, "steps": steps,
        "num_frames": frames_of(frames, seconds, rate, pipeline.parts.codec_spec.stride[0]),
        "guidance": guidance, "shift": shift, "solver": solver_named(solver),
    }  # fmt: skip
    first = random_seed() if seed is None else seed
    asked = [
        pipeline.request(text, seed=first + number, **changes)
        for text in _prompts(prompt, prompts)
        for number in range(_count(count))
    ]
    how = Output(
        upscale=pipeline.recipe.upscale if upscale is None else upscale,
        force=force, metadata=not no_metadata, sheet=contact_sheet, as_json=as_json,
    )  # fmt: skip
    paths = _paths(asked, output)
    for each, path in zip(asked, paths, strict=True):
        _check(each, path, how)
    with console.bars() as tell:
        films = _films(pipeline, asked, paths, how, tell)
        found = list(films)
    for film, path in zip(found, paths, strict=True):
        note = {
            "output": str(path),
            "contact_sheet": str(sheet_path(path)) if how.sheet else None,
            **film.params,
        }
        console.result(str(path), note, as_json=as_json)
    if seed is None and not as_json:
        console.note(f"seed {first}")


def _films(pipeline: Pipeline, asked: list[Request], paths: list[Path], how: Output, tell: Callback) -> Iterator[Film]:
    """Each film is saved before the next one begins; its latents are on disk until then."""
    for each, path, latents in zip(asked, paths, pipeline.latents(asked, tell), strict=True):
        latent_file = path.with_name(path.name + SUFFIX)
        params = pipeline.params(each)
        save_latents(latent_file, latents, params | {"upscale": how.upscale})
        try:
            film = pipeline.film(each, latents, tell)
            save(film, path, how)
        except (KinoformError, OSError, MemoryError) as error:
            console.note(f"the denoised latents are kept; finish with: kinoform decode {latent_file}")
            raise error
        latent_file.unlink(missing_ok=True)
        yield Film(frames=film.frames[:1], fps=film.fps, params=film.params)


def save(film: Film, path: Path, how: Output) -> None:
    """The film, and its contact sheet where asked for."""
    film.save(path, force=how.force, upscale=how.upscale, metadata=how.metadata)
    if how.sheet:
        save_contact_sheet(film, sheet_path(path), force=how.force)


def sheet_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}_sheet.png")


def _check(asked: Request, path: Path, how: Output) -> None:
    """Everything about the output that can be refused before the work."""
    if how.upscale < 1 or how.upscale > 64:
        raise UsageError(f"--upscale must be from 1 to 64, not {how.upscale}")
    shape = (asked.num_frames, asked.height * how.upscale, asked.width * how.upscale)
    check_output(path, shape=shape, force=how.force)
    if how.sheet:
        check_writable(sheet_path(path), force=how.force)


def _prompts(prompt: str | None, file: Path | None) -> list[str]:
    if (prompt is None) == (file is None):
        raise UsageError("give a prompt, or a file of prompts with --prompts; not both")
    if prompt is not None:
        return [prompt]
    assert file is not None
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as UTF-8 text: {error}") from error
    found = [line for line in lines if line]
    if not found:
        raise UsageError(f"{file} holds no prompt; write one a line")
    return found


def _count(count: int) -> int:
    if not 1 <= count <= MOST_FILMS:
        raise UsageError(f"--count must be from 1 to {MOST_FILMS}, not {count}")
    return count


def _paths(asked: list[Request], output: Path | None) -> list[Path]:
    """Where each film goes; several films get numbers, so that none replaces another."""
    if output is not None and len(asked) == 1:
        return [output]
    if output is not None:
        width = len(str(len(asked)))
        return [output.with_name(f"{output.stem}_{n:0{width}}{output.suffix}") for n in range(1, len(asked) + 1)]
    suffix = ".mp4" if asked[0].num_frames > 1 else ".png"
    names = [default_name(each.prompt, each.seed, suffix) for each in asked]
    if len(set(names)) < len(names):
        names = [f"{n:04}_{name}" for n, name in enumerate(names, start=1)]
    return [Path(name) for name in names]
