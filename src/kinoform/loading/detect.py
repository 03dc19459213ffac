"""From a weight file or folder to a part that kinoform reads: what it is, and how its tensors are called there."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kinoform.checkpoints.file_sets import files_at
from kinoform.errors import WeightsError
from kinoform.families import dialects, names
from kinoform.families.config_file import Config
from kinoform.families.identify import identify_parts
from kinoform.families.kinds import kind_of
from kinoform.families.names import Names
from kinoform.families.rivals import check_alone
from kinoform.families.usable import check_family, one_model
from kinoform.loading.sources import Opening, PartFile

TABLES: Mapping[tuple[str, str], Names | None] = {
    ("transformer", "official"): names.DIT,
    ("transformer", "diffusers"): dialects.DIFFUSERS_DIT,
    ("transformer", "kinoform"): None,
    ("text_encoder", "official"): names.TEXT_ENCODER,
    ("text_encoder", "huggingface"): dialects.HUGGINGFACE_TEXT_ENCODER,
    ("text_encoder", "kinoform"): None,
    ("codec", "official"): names.VAE21,
    ("codec", "diffusers"): dialects.DIFFUSERS_VAE21,
    ("codec", "kinoform"): None,
    ("image_encoder", "official"): names.IMAGE_ENCODER,
    ("image_encoder", "huggingface"): dialects.HUGGINGFACE_IMAGE_ENCODER,
    ("image_encoder", "openclip"): dialects.OPENCLIP_IMAGE_ENCODER,
    ("image_encoder", "kinoform"): None,
}


def detect_part(place: Path, part: str, opening: Opening, *, config: Config | None = None) -> PartFile:
    """Open the one part that a file or a folder is to hold.

    Raises WeightsError when the place holds another, more than one, or one that kinoform cannot use.
    """
    variant = opening.variant if part == "transformer" else None
    found = detect_parts(place, opening, variant=variant)
    if place.is_dir():
        check_alone(place, part, next(iter(found.values())).files.files, opening.reader)
    if part not in found:
        held = " and ".join(found).replace("_", " ")
        raise WeightsError(
            f"{place} is a {held}; give a file with a {part.replace('_', ' ')}", code="weights_wrong_part"
        )
    return replace(found[part], config=config)


def detect_parts(place: Path, opening: Opening, *, variant: str | None = None) -> dict[str, PartFile]:
    """Open the parts in a file or a folder: one, or those of a full checkpoint, by the name of the part.

    `variant` is the released model that the transformer is. Raises WeightsError for parts that kinoform cannot use.
    """
    opened = opening.reader.open(place, files_at(place, opening.reader))
    parts = identify_parts(opened.tensors, path=opened.files[0], metadata=opened.metadata, flag=variant)
    for part in parts:
        check_family(place, part)
    return {
        part.part: PartFile(
            files=opened,
            identity=part,
            names=TABLES[part.part, part.dialect],
            others=tuple(other.prefix for other in parts if other is not part),
            unused=kind.unused if (kind := kind_of(part.part, part.dialect)) else (),
        )
        for part in parts
    }


def settled(path: Path, transformer: PartFile, opening: Opening, *, whole: bool) -> PartFile:
    """The transformer of a model, of which one model is left; see `one_model`.

    Comes before other parts are looked for, so that what cannot work is not asked for more.
    """
    identity = transformer.identity
    assert identity is not None, "only parts of kinoform's own are described by a recipe"
    if opening.named or opening.variant is not None:
        return transformer
    model = one_model(path, transformer.models, family=identity.family, doubt=identity.doubt, whole=whole)
    return replace(transformer, identity=replace(identity, chosen=model)) if transformer.models else transformer
