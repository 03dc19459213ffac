"""Metadata that an adapter file has in its header. Read without PyTorch.

kinoform_adapter  the version of the form, 1
base, base_hash   the model that it was trained on, by name and by the hash of its files
recipe            module:function of the recipe that adds to that model
channels          {name: number} of what the patch embedding reads, in order, as JSON
made              how it was trained, as a JSON object

The names of its tensors begin with that of the expert where the recipe has several transformers.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinoform.checkpoints.headers import FETCH, json_object
from kinoform.errors import WeightsError
from kinoform.families.family import ADAPTER, Family
from kinoform.solvers.by_expert import expert_names

MARK, FORMAT = "kinoform_adapter", "1"
DOWN, UP = ".adapter.down", ".adapter.up"
"""Endings behind the name of a changed layer, whose change is up @ down."""

LONGEST = {"base": 100, "base_hash": 16, "recipe": 256, "channels": 10_000, "made": 1_000_000}
FORMS = {"base": r"[\w.:-]+", "base_hash": "[0-9a-f]{16}", "recipe": r"[\w.]+:\w+"}
MOST_CHANNELS = 1 << 16
SHOWN = 40


ADAPTER_FAMILY = Family(name="adapter", part=ADAPTER, description="an adapter of kinoform, which adds to a model")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterClaims:
    """The metadata, of the right types but with any values."""

    base: str
    base_hash: str
    recipe: str
    channels: Mapping[str, int]
    made: Mapping[str, Any]


def experts_in(names: Iterable[str]) -> tuple[str, ...]:
    """Return the experts with whose names those of an adapter's tensors begin; none where it is of one transformer."""
    first = {name.partition(".")[0] for name in names}
    experts = expert_names(max(2, len(first)))
    return tuple(name for name in experts if name in first) if first <= set(experts) else ()


def is_adapter(metadata: Mapping[str, str]) -> bool:
    return MARK in metadata


def adapter_claims(path: Path, metadata: Mapping[str, str]) -> AdapterClaims:
    """Raises WeightsError for metadata that are missing, damaged, or of a later version of kinoform."""
    version = metadata.get(MARK)
    if version != FORMAT:
        said = "no adapter" if version is None else f"an adapter of format {version[:SHOWN]!r}, not {FORMAT}"
        raise WeightsError(
            f"{path} is {said}; update kinoform, or give the file that `kinoform train` wrote", code="adapter_damaged"
        )
    for key, longest in LONGEST.items():
        if not 1 <= len(metadata.get(key, "")) <= longest:
            raise WeightsError(
                f"{path} does not say its {key} in 1 to {longest} letters; {FETCH}", code="adapter_damaged"
            )
    for key, form in FORMS.items():
        if not re.fullmatch(form, metadata[key]):
            raise WeightsError(
                f"{path}: its {key} is {metadata[key][:SHOWN]!r}, not of the form {form}; {FETCH}",
                code="adapter_damaged",
            )
    channels, made = (json_object(f"{path}: {key!r}", metadata[key], "adapter_damaged") for key in ("channels", "made"))
    for name, count in channels.items():
        if type(count) is not int or not 1 <= count <= MOST_CHANNELS:
            raise WeightsError(
                f"{path}: the channels {name[:SHOWN]!r} number {str(count)[:SHOWN]}, not 1 to {MOST_CHANNELS}; {FETCH}",
                code="adapter_damaged",
            )
    return AdapterClaims(
        base=metadata["base"],
        base_hash=metadata["base_hash"],
        recipe=metadata["recipe"],
        channels=channels,
        made=made,
    )
