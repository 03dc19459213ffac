"""The model that `kinoform generate --model PATH` runs, told from headers alone; the other parts may be missing."""

from collections.abc import Mapping
from pathlib import Path

from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import WeightsError
from kinoform.families import family_named
from kinoform.families.folders import PARTS, check_folder
from kinoform.families.identity import Identity
from kinoform.families.rivals import twice
from kinoform.families.usable import check_family, one_model, other_model
from kinoform.families.weight_sets import WeightSet, disputes

TRANSFORMER, MANIFEST = "transformer", "manifest"
SHOWN = 60


def verdict(
    path: Path,
    found: Mapping[WeightSet, tuple[Identity, ...]],
    refused: Mapping[WeightSet, WeightsError],
    *,
    reader: HeaderReader,
    named: bool = False,
) -> str:
    """The released model or the recipe that the weights at a path are used as, from what is in them.

    `named`: the user has said which model it is. Raises the WeightsError with which loading them is refused, as far as
    headers of the transformer tell, and where a manifest names the other parts, the files of these.
    """
    if path.is_dir():
        check_folder(path)
        for error in disputes(path, reader):
            raise error
    weights, parts = _main(path, found, refused)
    if any(part.base for part in parts):
        return parts[0].base
    for part in parts:
        if part.evidence != MANIFEST:
            check_family(weights.path, part)
    transformer = next((part for part in parts if part.part == TRANSFORMER), None)
    if transformer is None:
        held = " and ".join(part.part for part in parts).replace("_", " ")
        raise WeightsError(
            f"{weights.path} is a {held}; give the transformer's file as model", code="weights_wrong_part"
        )
    if transformer.evidence == MANIFEST:
        if path.is_dir():
            # Imported here because PyTorch takes seconds, which weights of other programs do without.
            from kinoform.loading.own import open_own

            open_own(path, reader)
        return str(transformer.chosen)
    models = (transformer.chosen,) if transformer.chosen else transformer.candidates
    doubt = "" if named else transformer.doubt
    family = family_named(transformer.family)
    assert family is not None, "check_family refuses what only a recipe describes"
    name = one_model(path, models, family=family, doubt=doubt, whole=path.is_dir() or named)
    _check_complete(weights.path, transformer)
    return name


def _main(
    path: Path, found: Mapping[WeightSet, tuple[Identity, ...]], refused: Mapping[WeightSet, WeightsError]
) -> tuple[WeightSet, tuple[Identity, ...]]:
    """The set that has the transformer, else the only one there is."""
    for folder in (path, *(path / name for name in PARTS)) if path.is_dir() else ():
        _check_alone(folder, found, TRANSFORMER if folder == path else "")
    homes = (path, path / TRANSFORMER)
    holding = [
        each
        for each, parts in found.items()
        if any(part.part == TRANSFORMER for part in parts) and (not path.is_dir() or each.path.parent in homes)
    ]
    if not holding and refused:
        raise next(iter(refused.values()))
    if not holding and path.is_dir():
        raise WeightsError(f"{path} holds no transformer; give the folder of a model", code="model_missing")
    weights = holding[0] if holding else next(iter(found))
    return weights, found[weights]


def _check_alone(folder: Path, found: Mapping[WeightSet, tuple[Identity, ...]], only: str) -> None:
    """Raises WeightsError where a folder holds a part twice; in an official one the others are told by their names."""
    held: dict[str, Path] = {}
    for weights, parts in found.items():
        for part in (each.part for each in parts if weights.path.parent == folder and only in ("", each.part)):
            if part in held:
                raise twice(folder, part, held[part], weights.path)
            held[part] = weights.path


def _check_complete(path: Path, part: Identity) -> None:
    told = [f"lacks {len(part.missing)} of its tensors ({part.missing[0][:SHOWN]!r})"] if part.missing else []
    if part.unknown:
        told.append(f"has {len(part.unknown)} tensors that the model does not know ({part.unknown[0][:SHOWN]!r})")
    if told:
        raise other_model(f"{path} {' and '.join(told)}", lacks=bool(part.missing), strange=bool(part.unknown))
