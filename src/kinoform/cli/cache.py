"""`kinoform cache`: what a training's cache of encoded clips holds, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.option_groups import OutputOptions
from kinoform.cli.options import command, varied
from kinoform.cli.progress import megabytes
from kinoform.errors import KinoformError

if TYPE_CHECKING:
    from kinoform.training.cache.survey import CacheGroup, CacheReport


@command
def cache(
    folder: Annotated[Path, typer.Argument(help="The folder of a cache.")],
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Read every shard: its hash, and whether all is finite.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove damaged shards, and what other encoders made before.")
    ] = False,
    results: Annotated[OutputOptions, varied(only=("as_json",))],
) -> None:
    """Say what a cache of encoded clips holds, and check it."""
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


def _text(report: CacheReport, *, checked: bool, pruned: bool) -> str:
    lines = [line for group in report.groups for line in _lines(group)]
    lines += [f"damaged  {item.path.name}: {item.reason}" for item in report.bad]
    state = f"{report.bytes / 1e9:.3f} GB"
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
