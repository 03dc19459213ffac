"""`kinoform info` and `kinoform rerun`: print the parameters that a video carries, and make it again from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.option_groups import OutputOptions
from kinoform.cli.options import MODEL, AsJson, command, option, varied
from kinoform.errors import UsageError


def info(
    file: Annotated[Path, typer.Argument(help="A video or a folder of frames that kinoform saved.")],
    as_json: AsJson = False,
) -> None:
    """Print the parameters that a video carries."""
    from kinoform.media.metadata import read_params

    params = read_params(file)
    console.result("\n".join(_lines(params)), params, as_json=as_json)


@command
def rerun(
    video: Annotated[Path, typer.Argument(help="A video or a folder of frames that kinoform saved.")],
    *,
    model: Annotated[
        ModelOptions,
        varied(default={"model": None}, help={"model": "What made it; by default the recorded name."}),
    ],
    machine: Annotated[
        MachineOptions,
        varied(
            default={"device": None, "dtype": None},
            help={"device": "By default the recorded one.", "dtype": "By default the recorded one."},
        ),
    ],
    force_model: Annotated[bool, option(MODEL, "Go on with a model of another hash.", "--force-model")] = False,
    output: Annotated[
        OutputOptions,
        varied(without=("upscale", "codec", "crf", "dry_run"), help={"output": "By default NAME_again, here."}),
    ],
) -> None:
    """Make a video again from its own parameters: on the same machine, the same video."""
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli import remaking
    from kinoform.cli.latents import check_latents
    from kinoform.cli.output import check, make, output_path
    from kinoform.media.metadata import read_params
    from kinoform.pipelines.recorded import find_inputs, recorded

    record = recorded(read_params(video), video)
    texts = (value for value in record.conditions.values() if isinstance(value, str))
    console.keep_private(record.prompt, str(record.request["negative_prompt"]), *texts)
    replaced = {*(record.loras if model.lora else ()), *(record.vace if model.vace else ())}
    needed = {name: item for name, item in record.inputs.items() if name not in replaced}
    files = find_inputs(needed, (video.parent, Path()), video)
    name = output_path(output.output, _again(video))
    with _named(video):
        model = replace(
            model,
            model=model.model or remaking.model_name(record),
            vace=model.vace or remaking.modules(record, files),
            lora=model.lora or remaking.loras(record, files),
        )
        machine = replace(
            machine, device=machine.device or record.machine.device or "auto", dtype=machine.dtype or record.dtype
        )
        pipeline = model.load(machine)
        remaking.check_model(pipeline, record, forced=force_model)
        request = remaking.request(pipeline, record, files)
        remaking.check_task(record, request, forced=force_model)
        wishes = remaking.wishes(record, video, name)
    saving = replace(output, codec=wishes.codec, crf=wishes.crf).save_options(wishes.upscale)
    check(name, (request.num_frames, request.height, request.width), saving)
    check_latents([name], force=output.force)
    for difference in remaking.differences(pipeline, record):
        console.note(f"note: {difference}")
    make(pipeline, [request], [name], saving, model.words(machine))


@contextmanager
def _named(video: Path) -> Iterator[None]:
    """Begin the message of an error with the name of the video whose parameters caused it."""
    try:
        yield
    except UsageError as error:
        raise UsageError(str(error) if str(video) in str(error) else f"{video}: {error}", code=error.code) from error


def _again(video: Path) -> str:
    """Return a default name, in the current folder."""
    return f"{video.stem}_again{video.suffix}" if video.is_file() else f"{video.resolve().name}_again/"


def _lines(params: Mapping[str, object], inside: str = "") -> Iterator[str]:
    """Yield one line per value; those of an object within have its name before theirs, as `model.hash`."""
    for name, value in params.items():
        if isinstance(value, dict) and value:
            yield from _lines(value, f"{inside}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{inside + name:<16} {text}".replace("\n", "\\n")
