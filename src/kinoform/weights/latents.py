"""Latents of a finished denoise, kept on disk until their film is safely written."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kinoform.errors import UsageError
from kinoform.files import check_no_link, whole
from kinoform.types import Latents

SUFFIX = ".latents.safetensors"
LARGEST_PARAMS = 1 << 20


def save_latents(path: Path, latents: Latents, params: Mapping[str, object]) -> None:
    """Write latents [1, c, f, h, w] with the JSON-able `params` of their film, whole or not at all.

    Replaces a file that stands there. Raises KinoformError when the disk is full.
    """
    stored = save({"latents": latents.float().cpu().contiguous()}, {"params": json.dumps(params)})
    with whole(path, force=True) as temporary:
        temporary.write_bytes(stored)  # the library's own writer says of a full disk only that it failed


def read_latents(path: Path) -> tuple[Latents, dict[str, object]]:
    """What `save_latents` wrote. Raises UsageError for a missing, damaged or foreign file, or bad values."""
    if not path.is_file():
        check_no_link(path)
        raise UsageError(f"{path} does not exist; give a file that ends in {SUFFIX}", code="file_missing")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("params", "")
            latents = file.get_tensor("latents")
        params = json.loads(text[:LARGEST_PARAMS])
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise UsageError(f"{path} does not hold latents that kinoform kept: {error}", code="latents_damaged") from error
    single = latents.dim() == 5 and len(latents) == 1 and latents.numel() > 0 and latents.is_floating_point()
    if not single or not isinstance(params, dict):
        raise UsageError(f"{path} does not hold latents that kinoform kept; make the film anew", code="latents_damaged")
    if not bool(torch.isfinite(latents).all()):
        raise UsageError(f"the latents in {path} are not finite; make the film anew", code="latents_damaged")
    return latents.float(), params
