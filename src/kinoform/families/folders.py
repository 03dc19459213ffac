"""Claims of the small files and the subfolders of a model's folder, before any weight is looked at."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from kinoform.checkpoints.headers import read_json
from kinoform.errors import WeightsError

INDEX, CONFIG = "model_index.json", "config.json"
PARTS = ("transformer", "text_encoder", "vae", "image_encoder")
"""Folders of diffusers, each of one part."""

EXPERTS = ("high_noise_model", "low_noise_model", "transformer_2")
"""Folders that only a model of two experts has."""

PASSAGE = re.compile(r"snapshots|[0-9a-f]{40}")
"""Folders of the Hugging Face cache that stand between a model's name and its files."""


def check_folder(folder: Path) -> None:
    """Raises WeightsError for a folder of a model that needs more than one transformer, or of TI2V, whole or not."""
    if any((folder / name).is_dir() for name in EXPERTS) or has_experts(claims(folder / INDEX)):
        raise two_experts(folder)
    if claims(folder / INDEX).get("expand_timesteps") is True:
        raise WeightsError(
            f"{folder} is the TI2V-5B model of Wan 2.2; kinoform makes videos with those of Wan 2.1",
            code="weights_unsupported_model",
        )


def two_experts(place: object) -> WeightsError:
    """The refusal of a model of two experts, of which one alone makes no good video."""
    return WeightsError(
        f"{place} is a Wan 2.2 model of two experts; kinoform makes videos with those of Wan 2.1",
        code="weights_unsupported_model",
    )


def has_experts(index: Mapping[str, Any]) -> bool:
    """Return whether a model_index.json names a second transformer, or the time at which one takes over."""
    second, boundary = index.get("transformer_2"), index.get("boundary_ratio")
    named = isinstance(second, list) and any(isinstance(item, str) for item in cast("list[object]", second))
    return named or (isinstance(boundary, int | float) and not isinstance(boundary, bool))


def claims(file: Path) -> Mapping[str, Any]:
    """The object in a JSON file, empty where there is none that can be read: others will say so."""
    if not file.is_file():
        return {}
    try:
        return read_json(file)
    except WeightsError:
        return {}


def named_folders(place: Path, *, is_file: bool) -> list[Path]:
    """The folders above a file, or a folder and those above it, without those that only a cache has."""
    above = place.parents if is_file else (place, *place.parents)
    return [folder for folder in above if PASSAGE.fullmatch(folder.name) is None]


def origins(folder: Path) -> list[str]:
    """Names that the settings in a folder and above it give the model: diffusers notes where it came from."""
    files = (folder / CONFIG, folder / INDEX, folder.parent / INDEX)
    found = (claims(file).get("_name_or_path") for file in files)
    return [name for name in found if isinstance(name, str)]
