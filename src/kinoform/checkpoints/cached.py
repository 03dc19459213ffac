"""Weights that were fetched already: into kinoform's own cache, or by other programs into that of Hugging Face.

The latter is read as it lies there (https://huggingface.co/docs/huggingface_hub), and never written to; nothing is
fetched here.
"""

import os
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.folders import user_folder

IDS = {
    "t2v-1.3b": "Wan-AI/Wan2.1-T2V-1.3B",
    "t2v-14b": "Wan-AI/Wan2.1-T2V-14B",
    "i2v-14b-480p": "Wan-AI/Wan2.1-I2V-14B-480P",
    "i2v-14b-720p": "Wan-AI/Wan2.1-I2V-14B-720P",
    "flf2v-14b": "Wan-AI/Wan2.1-FLF2V-14B-720P",
    "vace-1.3b": "Wan-AI/Wan2.1-VACE-1.3B",
    "vace-14b": "Wan-AI/Wan2.1-VACE-14B",
}
"""Hub ids of the released models, by the names that --model knows."""

SAME_WEIGHTS = {"t2i-14b": "t2v-14b"}
"""Names that stand for the weights of another one."""

DIFFUSERS_ENDINGS = ("", "-diffusers", "-Diffusers")
"""Ends of ids that hold the same weights, in the layout of diffusers."""

PREFIX, SNAPSHOTS = "models--", "snapshots"


def hugging_face_cache() -> Path | None:
    """The folder of fetched repositories, as huggingface_hub finds it; None where no home is known."""
    for variable, inside in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if place := os.environ.get(variable):
            return Path(os.path.expanduser(os.path.expandvars(place)), inside)
    home = user_folder("XDG_CACHE_HOME", ".cache")
    return None if home is None else home / "huggingface" / "hub"


def snapshot_of(id: str) -> Path | None:
    """The folder of a hub id in the cache of Hugging Face, None where it is not there."""
    root = hugging_face_cache()
    folder = None if root is None else root / (PREFIX + id.replace("/", "--"))
    return opened(folder) if folder is not None and os.path.isdir(folder / SNAPSHOTS) else None


def released_snapshot(name: str) -> Path | None:
    """The folder of a released model by name, in either layout, as `snapshot_of` finds it."""
    ids = (f"{IDS[SAME_WEIGHTS.get(name, name)]}{ending}" for ending in DIFFUSERS_ENDINGS)
    return next(filter(None, map(snapshot_of, ids)), None)


def opened(place: Path) -> Path:
    """The snapshot that a repository's folder of the cache stands for; any other place is itself.

    Raises WeightsError where there is none in it, or several of which none is the branch `main`.
    """
    folder = place.parent if place.name == SNAPSHOTS else place
    if not folder.name.startswith(PREFIX) or not folder.is_dir():
        return place
    found = sorted(each for each in (folder / SNAPSHOTS).iterdir()) if (folder / SNAPSHOTS).is_dir() else []
    main = folder / "refs" / "main"
    commit = main.read_text(encoding="utf-8", errors="replace").strip() if main.is_file() else ""
    chosen = [each for each in found if each.name == commit] or found
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
