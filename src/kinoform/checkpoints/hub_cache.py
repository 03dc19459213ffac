"""Weights that other programs fetched into the cache of Hugging Face, which is read and never written to.

https://huggingface.co/docs/huggingface_hub
"""

import os
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.folders import user_folder

LAYOUT_ENDINGS = ("", "-diffusers", "-Diffusers")
"""Ends of ids of released models: the official layout, and that of diffusers."""

PREFIX, SNAPSHOTS = "models--", "snapshots"


def hugging_face_cache() -> Path | None:
    """Find the folder of fetched repositories as huggingface_hub does; None where no home is known."""
    for variable, inside in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if folder := os.environ.get(variable):
            return Path(os.path.expanduser(os.path.expandvars(folder)), inside)
    home = user_folder("XDG_CACHE_HOME", ".cache")
    return None if home is None else home / "huggingface" / "hub"


def snapshot_of(id: str) -> Path | None:
    """Find the folder of a hub id in the cache; None where it is not there."""
    root = hugging_face_cache()
    folder = None if root is None else root / (PREFIX + id.replace("/", "--"))
    return snapshot_at(folder) if folder is not None and os.path.isdir(folder / SNAPSHOTS) else None


def released_snapshot(id: str) -> Path | None:
    """Find the folder of a released model in either layout, as `snapshot_of` does; `id` is that of the official one."""
    return next(filter(None, (snapshot_of(f"{id}{ending}") for ending in LAYOUT_ENDINGS)), None)


def snapshot_at(path: Path) -> Path:
    """Find the snapshot that a repository's folder of the cache stands for; any other path is itself.

    Raises WeightsError for a repository without snapshots, and for several where none is the branch `main`.
    """
    folder = path.parent if path.name == SNAPSHOTS else path
    if not folder.name.startswith(PREFIX) or not folder.is_dir():
        return path
    snapshots = sorted((folder / SNAPSHOTS).iterdir()) if (folder / SNAPSHOTS).is_dir() else []
    main = folder / "refs" / "main"
    commit = main.read_text(encoding="utf-8", errors="replace").strip() if main.is_file() else ""
    chosen = [snapshot for snapshot in snapshots if snapshot.name == commit] or snapshots
    if not chosen:
        id = folder.name.removeprefix(PREFIX).replace("--", "/")
        raise WeightsError(
            f"{folder} is a repository of the Hugging Face cache without a snapshot; fetch it: kinoform download {id}",
            code="weights_missing",
        )
    if len(chosen) > 1:
        raise WeightsError(
            f"{folder} holds {len(chosen)} snapshots; give the folder of one, such as {chosen[-1]}",
            code="weights_ambiguous",
        )
    return chosen[0]
