"""From a weight file or folder to a part that kinoform reads: what it is, and how its tensors are called there."""

from collections.abc import Mapping
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.weights import dialects, names
from kinoform.weights.files import STEM, open_checkpoint
from kinoform.weights.identity.identify import Identity, identify_parts
from kinoform.weights.identity.marks import kind_of
from kinoform.weights.names import Names
from kinoform.weights.places import Source
from kinoform.weights.shards import shards_of

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

WANTED = {
    "transformer": ("wan21-t2v", "wan21-i2v", "wan21-flf2v", "wan21-vace"),
    "text_encoder": ("umt5",),
    "codec": ("vae21",),
    "image_encoder": ("clip",),
}
READ_PICTURES = ("wan21-i2v", "wan21-flf2v")
"""Families whose transformers read rows of an image encoder."""

FAMILIES = {
    "wan21-t2v": "a text-to-video transformer",
    "wan21-i2v": "an image-to-video transformer of Wan 2.1",
    "wan21-flf2v": "a first-last-frame transformer of Wan 2.1",
    "wan21-vace": "a VACE transformer of Wan 2.1",
    "wan22-i2v": "an image-to-video expert of Wan 2.2",
    "wan22-ti2v": "the TI2V-5B transformer of Wan 2.2",
    "vae21": "the autoencoder of Wan 2.1",
    "vae22": "the autoencoder of Wan 2.2 TI2V",
    "umt5": "a umT5 text encoder",
    "clip": "a CLIP image encoder",
    "lora": "a LoRA, which changes a model and is none",
}

TEXT_STEM = "model"


def recognised(place: Path, part: str, *, config: Path | None = None, variant: str | None = None) -> Source:
    """The source of one part. Raises WeightsError when the place holds another, or one that kinoform cannot use."""
    found = sources_in(whole_set(place), config=config, variant=variant)
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
    return {
        each.part: Source(
            place=place,
            names=_table(place, each),
            prefix=each.prefix,
            others=tuple(other.prefix for other in parts if other is not each),
            config=config,
            unused=kind.unused if (kind := kind_of(each.part, each.dialect)) else (),
            family=each.family,
            models=(each.chosen,) if each.chosen else each.candidates,
        )
        for each in parts
    }


def whole_set(place: Path) -> Path:
    """One path for each set: its first shard for any of them, for a folder what it is sure to mean."""
    if place.is_dir() and not any(place.glob(f"{STEM}*")) and any(place.glob(f"{TEXT_STEM}*.safetensors")):
        return place / TEXT_STEM
    return shards_of(place)[0]


def _table(place: Path, identity: Identity) -> Names | None:
    wanted = WANTED.get(identity.part, WANTED["transformer"])
    if identity.family == "kinoform":
        raise WeightsError(
            f"{place} is a {identity.part} of a kind that only its recipe describes; give its folder, which has a "
            "manifest.json, as the model",
            code="weights_unsupported_model",
        )
    if identity.family not in wanted:
        held = FAMILIES.get(identity.family, f"a {identity.family}")
        needed = FAMILIES[wanted[0]] if len(wanted) == 1 else "a transformer of Wan 2.1 (t2v, i2v, flf2v or vace)"
        raise WeightsError(f"{place} is {held}; kinoform makes films with {needed}", code="weights_unsupported_model")
    return TABLES[identity.part, identity.dialect]
