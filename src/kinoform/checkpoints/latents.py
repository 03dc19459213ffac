"""Latents of a finished denoise, kept on disk until their video is safely written."""

import json
import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kinoform.errors import UsageError
from kinoform.files import missing, whole
from kinoform.types import Latents

SUFFIX = ".latents.safetensors"
LARGEST_PARAMS = 1 << 20
PASS = re.compile(r"pass_(?P<number>[0-9]{1,6})")


def save_latents(path: Path, latents: Latents, params: Mapping[str, object]) -> None:
    """Write latents [1, c, f, h, w] with the JSON-able `params` of their video, whole or not at all.

    Replaces a file that stands there. Raises KinoformError when the disk is full.
    """
    _save(path, {"latents": latents}, params)


def save_passes(path: Path, passes: Mapping[int, Latents], params: Mapping[str, object]) -> None:
    """Save the passes of an edit as `save_latents` saves latents, by their numbers."""
    _save(path, {f"pass_{number}": latents for number, latents in passes.items()}, params)


def read_latents(path: Path) -> tuple[Latents, dict[str, object]]:
    """Read what `save_latents` wrote.

    Raises UsageError for a missing, damaged or foreign file, bad values, and for the passes of an edit.
    """
    found, params = _read(path)
    if _are_passes(found):
        raise UsageError(
            f"{path} holds passes of kinoform {params.get('task')}; {resuming(path)}", code="passes_of_an_edit"
        )
    if set(found) != {"latents"}:
        raise UsageError(
            f"{path} does not hold latents that kinoform kept; make the video anew", code="latents_damaged"
        )
    return found["latents"], params


def read_passes(path: Path) -> tuple[dict[int, Latents], dict[str, object]]:
    """Read what `save_passes` wrote. Raises UsageError as `read_latents` does, and for the latents of a whole video."""
    found, params = _read(path)
    if not _are_passes(found):
        raise UsageError(
            f"{path} holds the latents of a video and no edit; run kinoform decode {path}", code="latents_of_a_video"
        )
    return {int(PASS.fullmatch(name)["number"]): each for name, each in found.items()}, params  # type: ignore[index]


def holds_passes(path: Path) -> bool:
    """Return whether a file holds the passes of an edit, not the latents of a video; False for a damaged one."""
    try:
        with safe_open(path, framework="pt") as file:
            return _are_passes(list(file.keys()))
    except (SafetensorError, ValueError, OSError):
        return False


def resuming(path: Path) -> str:
    """Advise how the passes of an edit are used."""
    return f"run the command that made it again, with --resume {shlex.quote(str(path))}"


def _are_passes(names: Collection[str]) -> bool:
    return bool(names) and all(map(PASS.fullmatch, names))


def _save(path: Path, latents: Mapping[str, Latents], params: Mapping[str, object]) -> None:
    stored = save(
        {name: each.float().cpu().contiguous() for name, each in latents.items()}, {"params": json.dumps(params)}
    )
    with whole(path, force=True) as temporary:
        temporary.write_bytes(stored)  # the library's own writer says of a full disk only that it failed


def _read(path: Path) -> tuple[dict[str, Latents], dict[str, object]]:
    if not path.is_file():
        raise missing(path, f"give a file that ends in {SUFFIX}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("params", "")
            latents = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        params = json.loads(text[:LARGEST_PARAMS])
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise UsageError(f"{path} does not hold latents that kinoform kept: {error}", code="latents_damaged") from error
    single = all(
        each.dim() == 5 and len(each) == 1 and each.numel() > 0 and each.is_floating_point()
        for each in latents.values()
    )  # fmt: skip
    if not latents or not single or not isinstance(params, dict):
        raise UsageError(
            f"{path} does not hold latents that kinoform kept; make the video anew", code="latents_damaged"
        )
    if not all(bool(torch.isfinite(each).all()) for each in latents.values()):
        raise UsageError(f"the latents in {path} are not finite; make the video anew", code="latents_damaged")
    return {name: each.float() for name, each in latents.items()}, params
