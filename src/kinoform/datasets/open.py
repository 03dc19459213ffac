"""Opening a dataset: a folder of clips with texts, or a table of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kinoform.conditions.inputs import InputField
from kinoform.datasets.folder import folder_dataset
from kinoform.datasets.item import Dataset
from kinoform.datasets.own_inputs import own_inputs
from kinoform.datasets.table import TABLES, table_dataset
from kinoform.datasets.trainer_files import trainer_dataset
from kinoform.errors import UsageError
from kinoform.files import check_no_link, missing

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.json", "videos2caption.json")
"""Tables that describe the folder they lie in."""


def open_dataset(path: Path, takes: Iterable[InputField[Any]] = ()) -> Dataset:
    """Open a folder (its clips with .txt files beside them, or a metadata table in it), a .jsonl, .csv or .json table,
    or the .toml file of musubi-tuner or diffusion-pipe.

    Inputs of the model that no role becomes, of those that it `takes`, are columns, or files beside a clip, by their
    names.
    No media is read. Raises UsageError for a path that is missing or none of these, for unknown columns, for files
    that are missing, and for a dataset without items.
    """
    check_no_link(path)
    own = own_inputs(takes)
    if path.is_dir():
        table = next((path / name for name in METADATA if (path / name).is_file()), None)
        return folder_dataset(path, own=own) if table is None else table_dataset(table, own)
    if not path.exists():
        raise missing(path)
    if path.suffix.lower() == ".toml":
        return trainer_dataset(path, own)
    if path.suffix.lower() in TABLES:
        return table_dataset(path, own)
    raise UsageError(
        f"{path} is no dataset; give a folder of clips with .txt files, a {', '.join(TABLES)} table, or a .toml file",
        code="dataset_unknown",
    )
