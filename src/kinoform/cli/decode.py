"""`kinoform decode`: finish a run whose video could not be written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.option_groups import OutputOptions
from kinoform.cli.options import command, varied
from kinoform.cli.progress import bars
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.ops.patch import Patch
    from kinoform.types import Latents

SIDES = ("num_frames", "height", "width")
"""Parameters that have to agree with the shape of the latents."""


@command
def decode(
    latents: Annotated[Path, typer.Argument(help="A file that ends in .latents.safetensors.")],
    *,
    model: Annotated[
        ModelOptions,
        varied(
            default={"model": None},
            help={"model": "The model that made them; by default the recorded one."},
            settings=(),
        ),
    ],
    machine: Annotated[MachineOptions, varied(only=("device",))],
    output: Annotated[
        OutputOptions,
        varied(
            without=("codec", "crf", "dry_run"),
            help={
                "output": "By default the video's first name.",
                "upscale": "By default as asked when the video was made.",
            },
            settings=("no_metadata", "contact_sheet"),
        ),
    ],
) -> None:
    """Turn kept latents into their video."""
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.checkpoints.latents import read_latents
    from kinoform.cli.latents import video_name
    from kinoform.cli.output import check, save
    from kinoform.media.video import Video

    values, params = read_latents(latents)
    console.keep_private(*_prompts(params))
    name = _output(latents, output.output)
    pipeline = replace(model, model=model.model or _recorded_name(latents, params)).load(machine)
    if (made := _model(params).get("hash")) != pipeline.parts.fingerprint():
        raise UsageError(
            f"{latents} was made by a model with hash {made}, not by this one; pass its --model",
            code="latents_of_other_model",
        )
    codec = pipeline.parts.codec_spec
    shape = _video_size(codec.stride, values)
    if values.shape[1] != codec.channels or [params.get(side) for side in SIDES] != list(shape):
        raise UsageError(
            f"{latents} holds {list(values.shape)}, which does not match its recorded parameters",
            code="latents_inconsistent",
        )
    kept, codec_name, crf = params.pop("upscale", 1), params.pop("codec", None), params.pop("crf", None)
    saving = replace(
        output,
        codec=codec_name if isinstance(codec_name, str) else None,
        crf=crf if isinstance(crf, int) else None,
    ).save_options(kept if isinstance(kept, int) else 1)
    check(name, shape, saving)
    fps = _fps(latents, params)
    with bars() as on_progress:
        result = save(Video(frames=pipeline.frames(values, on_progress), fps=fps, params=params), name, saving)
    if Path(video_name(latents) or "").name == Path(name).name:
        latents.unlink(missing_ok=True)
    console.result(name, result, as_json=output.as_json)


def _prompts(params: dict[str, object]) -> list[str]:
    conditions = params.get("conditions")
    source = conditions.get("source_prompt", "") if isinstance(conditions, dict) else ""
    return [str(text) for text in (params.get("prompt", ""), params.get("negative_prompt", ""), source)]


def _video_size(stride: Patch, latents: Latents) -> tuple[int, int, int]:
    """Return (frames, height, width) of the video of such latents."""
    (time, rows, columns), (frames, height, width) = stride, latents.shape[2:]
    return 1 + (frames - 1) * time, height * rows, width * columns


def _output(file: Path, output: str | None) -> str:
    """Return the path of the video: beside its latents, under its first name, unless another is given."""
    from kinoform.checkpoints.latents import SUFFIX
    from kinoform.cli.latents import video_name
    from kinoform.cli.output import output_path

    name = video_name(file)
    if output is not None:
        return output_path(output, Path(name or f"{file.stem}.mp4").name)
    if name is None:
        raise UsageError(
            f"{file} is not named like kept latents, VIDEO{SUFFIX}; name the video with -o", code="output_name_missing"
        )
    return name


def _model(params: dict[str, object]) -> dict[str, object]:
    """Return the recorded model."""
    model = params.get("model")
    return model if isinstance(model, dict) else {}


def _recorded_name(file: Path, params: dict[str, object]) -> str:
    name = _model(params).get("name")
    if not isinstance(name, str) or "/" in name:
        raise UsageError(f"{file} does not say which model made it; pass --model", code="model_not_recorded")
    return name


def _fps(file: Path, params: dict[str, object]) -> float:
    from kinoform.media.limits import RATES

    fps = params.get("fps")
    if not isinstance(fps, int | float) or not RATES[0] <= fps <= RATES[1]:
        raise UsageError(
            f"{file} says {fps!r} frames per second, which is out of range; make the video again",
            code="latents_inconsistent",
        )
    return float(fps)
