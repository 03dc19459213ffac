"""Latents of a finished denoise, kept on disk until their film is safely written."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kinoform.errors import UsageError
from kinoform.files import whole
from kinoform.types import Latents

SUFFIX = ".latents.safetensors"
LARGEST_PARAMS = 1 << 20


def save_latents(path: Path, latents: Latents, params: Mapping[str, object]) -> None:
    """Write latents [1, c, f, h, w] with the JSON-able `params` of their film, whole or not at all."""
    with whole(path, force=True) as temporary:
        save_file({"latents": latents.float().cpu().contiguous()}, temporary, {"params": json.dumps(params)})


def read_latents(path: Path) -> tuple[Latents, dict[str, object]]:
    """What `save_latents` wrote. Raises UsageError for a missing, damaged or foreign file, or bad values."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give a file that ends in {SUFFIX}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("params", "")
            latents = file.get_tensor("latents")
        params = json.loads(text[:LARGEST_PARAMS])
    except (SafetensorError, ValueError, OSError) as error:
        raise UsageError(f"{path} does not hold latents that kinoform kept: {error}") from error
    if latents.dim() != 5 or not isinstance(params, dict):
        raise UsageError(f"{path} does not hold latents that kinoform kept; make the film anew")
    if not bool(torch.isfinite(latents).all()):
        raise UsageError(f"the latents in {path} are not finite; make the film anew")
    return latents, params
