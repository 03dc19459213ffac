"""Detection of the parts in a weight file or folder: what each is, and how its tensors are called there."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from kinoform.checkpoints.file_sets import files_at, open_set, sets_in
from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import KinoformError, WeightsError
from kinoform.families import released_models
from kinoform.families.family import OWN_NAMES, Config
from kinoform.families.identify import DetectedPart, detect, detect_opened
from kinoform.families.released import model_types
from kinoform.loading.sources import OpenedPart, Opening, PartFile
from kinoform.models.block import FullBlock
from kinoform.models.dit import DiTSpec
from kinoform.models.factorized_block import FactorizedBlock, has_time_attention

ARGUMENTS = {
    "text_encoder": "--text-encoder FILE",
    "codec": "--vae FILE",
    "image_encoder": "--image-encoder FILE",
    "transformer": "--model FILE",
}


def detect_part(
    place: Path, part: str, opening: Opening, *, config: Config | None = None, expert: str = ""
) -> PartFile:
    """Open the one part that a file or a folder is to hold; `expert` is the noise that it is given for as one of two.

    Raises WeightsError when the place holds another, more than one, or one that kinoform cannot use.
    """
    variant = opening.variant if part == "transformer" else None
    found = detect_parts(place, opening, variant=variant, expert=expert)
    if place.is_dir():
        _check_alone(place, part, next(iter(found.values())).files.files, opening.reader)
    if part not in found:
        held = " and ".join(found).replace("_", " ")
        raise WeightsError(
            f"{place} is a {held}; give a file with a {part.replace('_', ' ')}", code="weights_wrong_part"
        )
    return replace(found[part], config=config)


def detect_parts(place: Path, opening: Opening, *, variant: str | None = None, expert: str = "") -> dict[str, PartFile]:
    """Open the parts in a file or a folder: one, or those of a full checkpoint, by the name of the part.

    `variant` is the released model that the transformer is, `expert` the noise that it is given for. Raises
    WeightsError for parts that kinoform cannot use.
    """
    opened = opening.reader.open(place, files_at(place, opening.reader))
    parts = detect(opened.tensors, path=opened.files[0], metadata=opened.metadata, flag=variant, expert=expert)
    for part in parts:
        _check_family(place, part)
    return {
        part.identity.part: PartFile(
            files=opened,
            detected=part,
            others=tuple(other.identity.prefix for other in parts if other is not part),
        )
        for part in parts
    }


def files_with(part: str, folder: Path, reader: HeaderReader, chosen: Iterable[Path] = ()) -> list[Path]:
    """List the first files of the sets in a folder that hold that part, without the chosen and the unreadable ones."""
    names = [file.name for file in folder.iterdir() if file.is_file()]
    result: list[Path] = []
    for group in sets_in(folder, names):
        with suppress(KinoformError):
            if set(chosen).isdisjoint(group.files):
                parts = detect_opened(open_set(group, reader))
                result += [group.path] if any(item.identity.part == part for item in parts) else []
    return sorted(result)


def stored_block(file: PartFile, spec: DiTSpec) -> DiTSpec:
    """The spec with factorized blocks where weights by own names have them, and it full ones.

    So a model that was converted keeps the recipe of the one it was made from.
    """
    if spec.block != FullBlock() or file.names is not OWN_NAMES or not has_time_attention(file.files.tensors):
        return spec
    return replace(spec, block=FactorizedBlock())


def check_block(path: Path, part: OpenedPart[DiTSpec]) -> None:
    """Raise WeightsError where the spec has factorized blocks and the weights full ones; it names the command."""
    if isinstance(part.spec.block, FactorizedBlock) and not has_time_attention(part.file.files.tensors):
        raise WeightsError(
            f"{path} holds blocks of full attention, the recipe's have a temporal attention of their own; "
            f"make such weights first: kinoform convert --to factorized {path} OUT",
            code="weights_wrong_model",
        )


def _check_alone(folder: Path, part: str, chosen: tuple[Path, ...], reader: HeaderReader) -> None:
    """Check that a folder holds that part only once, under any name. Raises WeightsError: which is meant is asked."""
    for other in files_with(part, folder, reader, chosen):
        raise WeightsError(
            f"{folder} holds a {part.replace('_', ' ')} in {chosen[0].name} and another in {other.name}; pass "
            f"{ARGUMENTS.get(part, 'the file of one')}, or move one of them away",
            code="weights_ambiguous",
        )


def _check_family(path: Path, part: DetectedPart) -> None:
    """Check that kinoform builds such a part. Raises WeightsError naming what it is."""
    if part.family is None:
        raise WeightsError(
            f"{path} is a {part.identity.part} of a kind that only its recipe describes; give its folder, which has a "
            "manifest.json, as the model",
            code="weights_unsupported_model",
        )
    if not part.family.supported:
        versions = sorted({model.version for model in released_models() if model.recipes})
        needed = f"a transformer of Wan {' or '.join(versions)} ({', '.join(model_types())})"
        raise WeightsError(
            f"{path} is {part.family.description}; kinoform makes videos with {needed}",
            code="weights_unsupported_model",
        )
