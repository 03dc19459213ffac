"""`kinoform cache`: clips are encoded for trainings to come; what a cache holds, and whether it is whole."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.clip_options import ClipOptions, cache_beside, clip_plan
from kinoform.cli.engine_options import EngineOptions
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.option_groups import OutputOptions
from kinoform.cli.options import command, varied
from kinoform.cli.progress import megabytes, stages
from kinoform.errors import KinoformError, UsageError

if TYPE_CHECKING:
    from kinoform.training.cache.survey import CacheGroup, CacheReport
    from kinoform.training.clip_cache import ModelEncoders


@command
def cache(
    path: Annotated[Path, typer.Argument(help="The folder of a cache; or with --model, a dataset to encode.")],
    *,
    named: Annotated[ModelOptions, varied(without=("vace", "lora", "lora_ignore_unknown"), default={"model": None})],
    clips: Annotated[
        ClipOptions, varied(only=("clips", "clip_frames", "clip_size", "one_size", "cache", "cache_float32", "dropout"))
    ],
    machine_options: Annotated[MachineOptions, varied(default={"dtype": "auto"})],
    processes: Annotated[int, typer.Option(help="Processes that encode, each with the encoders in memory.")] = 1,
    check: Annotated[
        bool, typer.Option("--check", help="Read every shard: its hash, and whether all is finite.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove damaged shards, and what other encoders made before.")
    ] = False,
    results: Annotated[OutputOptions, varied(only=("as_json",))],
) -> None:
    """Encode the clips of a dataset for trainings to come; or say what such a cache holds, and check it."""
    if processes < 1:
        raise UsageError(f"--processes must be 1 or more, not {processes}", code="value_out_of_range")
    folder = path
    if named.model is not None:
        folder = _filled(path, named, machine_options, clips, processes)
    elif clips.cache is not None or cache_beside(path).is_dir():
        folder = clips.cache or cache_beside(path)
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.training.cache.survey import remove, survey

    with megabytes("read", "reading") as on_bytes:
        report = survey(folder, check=check or prune, tell=on_bytes)
    if prune:
        remove(report)
    console.result(_text(report, checked=check or prune, pruned=prune), _data(report, prune), as_json=results.as_json)
    if report.bad and not prune:
        raise KinoformError(
            f"{report.bad[0].path} {report.bad[0].reason}; remove what is damaged ({len(report.bad)} shards) with "
            "--prune, and fill the cache again",
            code="cache_damaged",
        )


def _filled(data: Path, named: ModelOptions, machine: MachineOptions, asked: ClipOptions, processes: int) -> Path:
    """Encode what the cache of a dataset lacks, and return its folder."""
    from kinoform.training.cache.fill import fill

    pipeline, plan = clip_plan(data, named, machine, asked, EngineOptions(), 1)
    settings = plan.cache
    assert settings is not None, "no option of this command leaves it out"
    contents = plan.without_words.filling(pipeline.parts, settings, pipeline.machine.device)
    if processes > 1:
        contents = replace(contents, encoders=partial(_encoders, data, named, machine, asked))
    with stages({"clips": "encoding clips", "text": "encoding captions"}) as on_stage:
        fill(contents, processes=processes, on_stage=on_stage)
    if contents.cache.rounding:
        console.note(
            f"latents are kept in bfloat16, {contents.cache.rounding:.1e} of their root mean square off; "
            "--cache-float32 keeps them exactly"
        )
    return settings.folder


def _encoders(data: Path, named: ModelOptions, machine: MachineOptions, asked: ClipOptions) -> ModelEncoders:
    """Open the encoders in a process of its own."""
    from kinoform.training.clip_cache import ModelEncoders

    pipeline, plan = clip_plan(data, named, machine, asked, EngineOptions(), 1)
    return ModelEncoders(pipeline.parts, plan.recipe.conditioners, plan.known, pipeline.machine.device)


def _text(report: CacheReport, *, checked: bool, pruned: bool) -> str:
    lines = [line for group in report.groups for line in _lines(group)]
    lines += [f"damaged  {item.path.name}: {item.reason}" for item in report.bad]
    size = report.bytes
    state = f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    if checked and not report.bad:
        state += ", every shard whole"
    if pruned:
        state += f"; {len(report.doomed)} shards removed"
    return "\n".join([*lines, f"{report.folder}: {state}"])


def _lines(group: CacheGroup) -> list[str]:
    noun = {"clips": "clips", "text": "captions"}[group.kind]
    sizes = ", ".join(f"{count} of {size}" for size, count in group.sizes.items())
    lines = [
        f"{noun:<8} {group.entries} in {len(group.shards)} shards, {group.bytes / 1e6:.1f} MB"
        + (f"; latents: {sizes}" if sizes else "")
    ]
    if group.stale:
        lines.append(f"{'':<8} stale, of other encoders than the newest: {group.stale}")
    elif "model" in group.made_by:
        lines.append(f"{'':<8} by {group.made_by['model']}")
    return lines


def _data(report: CacheReport, pruned: bool) -> dict[str, object]:
    groups = [
        {"kind": group.kind, "made_by": dict(group.made_by), "entries": group.entries, "shards": len(group.shards),
         "bytes": group.bytes, "latents": dict(group.sizes), "stale": group.stale or None}
        for group in report.groups
    ]  # fmt: skip
    damaged = [{"file": item.path.name, "text": item.reason} for item in report.bad]
    removed = [path.name for path in report.doomed] if pruned else []
    return {
        "folder": str(report.folder),
        "bytes": report.bytes,
        "groups": groups,
        "damaged": damaged,
        "removed": removed,
    }
