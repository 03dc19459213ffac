"""`kinoform download`: weights by hub id, into the cache folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.options import MODEL, MODELS, OUTPUT, VARIANTS, AsJson, command, one_of, option
from kinoform.cli.progress import MB, megabytes
from kinoform.errors import Interrupted, UsageError, nearest
from kinoform.families import released_for, released_models
from kinoform.families.folders import check_folder, needed


@command
def download(
    model: Annotated[
        str,
        typer.Argument(
            help="t2v-1.3b, t2v-a14b, ti2v-5b, ..., or a hub id: ORG/NAME.", autocompletion=one_of(VARIANTS)
        ),
    ],
    file: Annotated[list[str] | None, option(MODEL, "Only this file; repeat it for more.")] = None,
    revision: Annotated[str | None, option(MODEL, "A branch, tag or commit.")] = None,
    output: Annotated[Path | None, option(OUTPUT, "A folder, else one in the cache.", "-o", "--output")] = None,
    only_list: Annotated[bool, option(OUTPUT, "List files and sizes, fetch nothing.", "--list")] = False,
    *,
    as_json: AsJson = False,
) -> None:
    """Fetch the files of a model that kinoform needs; a broken download goes on where it stopped.

    Weights and settings only, never code; sizes and hashes are compared.
    """
    from kinoform.checkpoints.hub import fetch, folder_name, listing
    from kinoform.recipes.catalogue import cache_folder

    if model in MODELS and model not in VARIANTS:
        raise UsageError(f"{model} comes with kinoform; there is nothing to fetch", code="nothing_to_fetch")
    released = released_for(model)
    if released is None and "/" not in model:
        names = {name for item in released_models() for name in item.recipes}
        raise UsageError(f"{model!r} is not a hub id; write ORG/NAME, or {nearest(model, names)}", code="unknown_model")
    if released is not None and released.model != model:
        console.note(f"{model} has the weights of {released.model}, which are fetched")
    id = model if released is None else released.hub
    listed = listing(id, choose=needed, revision=revision, only=file or ())
    home = cache_folder()
    usual = home / "hub" / folder_name(id) if released is None else home / released.model
    folder = output.expanduser() if output else usual
    rows = [f"{item.bytes / MB:>10.1f} MB  {item.name}" for item in listed.files]
    rows.append(f"{listed.bytes / MB:>10.1f} MB  in all, of {id} at {listed.commit[:8]}")
    data = {
        "id": id,
        "commit": listed.commit,
        "folder": str(folder),
        "files": [{"file": item.name, "bytes": item.bytes} for item in listed.files],
        "bytes": listed.bytes,
        "fetched": not only_list,
    }
    if only_list:
        console.result("\n".join(rows), data, as_json=as_json)
        return
    for row in rows:
        console.note(row)
    with megabytes("fetch", "fetching") as on_bytes:
        try:
            fetch(
                listed,
                folder,
                on_bytes,
                check=check_folder,
            )
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; what was fetched stays, and the same command goes on from there", code="interrupted"
            ) from None
    console.result(str(folder), data, as_json=as_json)
