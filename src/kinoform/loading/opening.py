"""The parts of a model at a path, whatever layout it has: what is known is read, else what is wanted is named."""

from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families.folders import CONFIG, INDEX, check_folder, claims
from kinoform.families.rivals import files_with
from kinoform.families.weight_sets import weight_sets
from kinoform.loading.diffusers import TRANSFORMER, open_diffusers
from kinoform.loading.official import open_official
from kinoform.loading.single import open_single
from kinoform.loading.sources import OpenedModel, Opening

LISTED = 4


def open_model(path: Path, opening: Opening) -> OpenedModel:
    """Open all parts by their headers. Raises WeightsError for what is missing or wrong."""
    if not path.exists():
        raise WeightsError(f"{path} does not exist; check the name", code="weights_missing")
    if path.is_dir():
        check_folder(path)
        if (path / INDEX).is_file() or ((path / TRANSFORMER).is_dir() and not (path / CONFIG).is_file()):
            return open_diffusers(path, opening)
        if "model_type" in claims(path / CONFIG) and not _of_transformers(path):
            return open_official(path, opening)
        path = _transformer_in(path, opening)
    return open_single(path, opening)


def _of_transformers(folder: Path) -> bool:
    """Whether the settings are those of a part in transformers' layout, which has a model_type too."""
    return "architectures" in claims(folder / CONFIG)


def _transformer_in(folder: Path, opening: Opening) -> Path:
    """The only transformer that lies in a folder of no known layout, such as `transformer/` alone."""
    found = files_with("transformer", folder, opening.reader)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found[:LISTED])
        raise WeightsError(
            f"{folder} holds {len(found)} transformers, {names}; pass --model FILE for one of them",
            code="weights_ambiguous",
        )
    weight_sets(folder)  # which says so where there are none at all
    raise WeightsError(
        f"{folder} is no folder of a model: neither {CONFIG} (official), {INDEX} (diffusers) nor manifest.json "
        "(kinoform) is there, nor a transformer's file; kinoform inspect says what is in it",
        code="model_missing",
    )
