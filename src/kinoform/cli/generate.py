"""`kinoform generate`: from a prompt to a saved film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.options import frames_of, recipe_named, size_of, solver_named
from kinoform.cli.output import Output, check, check_latents, film_names, latents_kept, save
from kinoform.cli.progress import bars
from kinoform.errors import UsageError
from kinoform.pipelines.pipeline import Pipeline, random_seed
from kinoform.pipelines.request import Request
from kinoform.recipes.load import load

MOST_FILMS = 10_000


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
    output: Annotated[str | None, typer.Option("--output", "-o", help=".mp4, .gif, .webp, .png or folder/.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON, one object a line.")] = False,
    no_metadata: Annotated[bool, typer.Option("--no-metadata", help="Keep parameters out of the film.")] = False,
    contact_sheet: Annotated[bool, typer.Option("--contact-sheet", help="Also lay the frames out on a png.")] = False,
) -> None:  # fmt: skip
    """Make films from words."""
    pipeline = load(model, recipe=recipe_named(recipe), device=device, dtype=dtype)
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
    names = film_names(asked, output)
    for each, name in zip(asked, names, strict=True):
        check(name, (each.num_frames, each.height, each.width), how)
        check_latents(name, force=force)
    if seed is None:
        console.note(f"seed {first}")
    _make(pipeline, asked, names, how, _again(model, recipe, device, how))


def _make(pipeline: Pipeline, asked: list[Request], names: list[str], how: Output, again: Sequence[str]) -> None:
    """Each film is saved before the next one begins; all that were saved are told, whatever happens then."""
    params = [pipeline.params(each) for each in asked]
    saved: list[dict[str, object]] = []
    try:
        with bars(len(asked)) as tell:
            latents_of_all = pipeline.latents(asked, tell)
            for each, name, about, latents in zip(asked, names, params, latents_of_all, strict=True):
                with latents_kept(latents, about | {"upscale": how.upscale}, name, again):
                    saved.append(save(pipeline.film(each, latents, tell), name, how))
    finally:
        for told in saved:
            console.result(str(told["output"]), told, as_json=how.as_json)


def _again(model: str, recipe: str | None, device: str, how: Output) -> list[str]:
    """What `kinoform decode` has to be told so that it makes of the latents what was asked for here."""
    words = ["--model", model]
    if recipe is not None:
        words += ["--recipe", recipe]
    if device != "auto":
        words += ["--device", device]
    words += [] if how.metadata else ["--no-metadata"]
    words += ["--contact-sheet"] if how.sheet else []
    return words


def _prompts(prompt: str | None, file: Path | None) -> list[str]:
    if (prompt is None) == (file is None):
        raise UsageError("give a prompt, or a file of prompts with --prompts; not both")
    if prompt is not None:
        return [prompt]
    assert file is not None
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
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
