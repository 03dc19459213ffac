"""From a weight file or folder to a part that kinoform reads: what it is, and how its tensors are called there."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kinoform.checkpoints.files import open_checkpoint
from kinoform.checkpoints.shards import shards_of
from kinoform.checkpoints.stems import STEM, files_of, stem_of
from kinoform.errors import WeightsError
from kinoform.families import dialects, names
from kinoform.families.identify import identify_parts
from kinoform.families.kinds import kind_of
from kinoform.families.names import Names
from kinoform.families.rivals import check_alone
from kinoform.families.usable import check_family, one_model
from kinoform.loading.sources import Source

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


def recognised(place: Path, part: str, *, config: Path | None = None, variant: str | None = None) -> Source:
    """The source of one part. Raises WeightsError when the place holds another, or one that kinoform cannot use."""
    found = sources_in(whole_set(place), config=config, variant=variant)
    if place.is_dir():
        check_alone(place, part, files_of(place / stem_of(place)))
    if part not in found:
        held = " and ".join(found).replace("_", " ")
        raise WeightsError(
            f"{place} is a {held}; give a file with a {part.replace('_', ' ')}", code="weights_wrong_part"
        )
    return found[part]


def sources_in(place: Path, *, config: Path | None = None, variant: str | None = None) -> dict[str, Source]:
    """By part: one, or those of a full checkpoint. Raises WeightsError for parts that kinoform cannot use."""
    checkpoint = open_checkpoint(place)
    path = checkpoint.files[0] if len(checkpoint.files) == 1 else place
    parts = identify_parts(checkpoint.tensors, path=path, metadata=checkpoint.metadata, flag=variant)
    for each in parts:
        check_family(place, each)
    return {
        each.part: Source(
            place=place,
            names=TABLES[each.part, each.dialect],
            prefix=each.prefix,
            others=tuple(other.prefix for other in parts if other is not each),
            config=config,
            unused=kind.unused if (kind := kind_of(each.part, each.dialect)) else (),
            family=each.family,
            models=(each.chosen,) if each.chosen else each.candidates,
            doubt=each.doubt,
            notes=each.notes,
        )
        for each in parts
    }


def settled(path: Path, transformer: Source, *, whole: bool, named: bool) -> Source:
    """The transformer of a model, of which one model is left; `named`: the user has said which. See `one_model`.

    Comes before other parts are looked for, so that what cannot work is not asked for more.
    """
    if named:
        return transformer
    model = one_model(path, transformer.models, family=transformer.family, doubt=transformer.doubt, whole=whole)
    return replace(transformer, models=(model,) if transformer.models else ())


def whole_set(place: Path) -> Path:
    """One path for each set: its first shard for any of them, for a folder what it is sure to mean."""
    if place.is_dir():
        stem = stem_of(place)
        return place if stem == STEM else place / stem
    return shards_of(place)[0]
