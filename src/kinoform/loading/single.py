"""A single transformer file, as ComfyUI keeps them, and the search for the parts that it lacks."""

from collections.abc import Callable
from math import prod
from pathlib import Path

from kinoform.checkpoints.files import open_checkpoint
from kinoform.checkpoints.headers import WEIGHT_SUFFIXES
from kinoform.checkpoints.stems import STEM
from kinoform.errors import UsageError, WeightsError
from kinoform.families.rivals import ARGUMENTS
from kinoform.families.specs import shapes_of
from kinoform.families.usable import READ_IMAGES
from kinoform.loading.detect import recognised, settled, sources_in, whole_set
from kinoform.loading.official import CONFIG, TOKENIZER
from kinoform.loading.sources import Given, Places, Source
from kinoform.loading.tokenizer_file import held_vocabulary, vocabulary_file
from kinoform.models.tokenizer import JSON_FILE, SENTENCEPIECE_FILE

HOMES = ("diffusion_models", "unet")
"""Folders in which ComfyUI keeps transformers; their siblings hold the other parts."""

SIBLINGS = {
    "text_encoder": ("text_encoders", "clip", "text_encoder"),
    "codec": ("vae",),
    "image_encoder": ("clip_vision", "image_encoder"),
}
"""Folders of ComfyUI, and those beside `transformer/` in a folder of diffusers."""

CALLED = {
    "text_encoder": "umT5 text encoder",
    "codec": "Wan 2.1 autoencoder",
    "image_encoder": "CLIP image encoder",
}
LISTED, EXPLAINED = 4, 2


def single_places(file: Path, given: Given, *, variant: str | None = None, named: bool = False) -> Places:
    """Parts are taken from `given`, from the file itself, from ComfyUI's sibling folders, from beside the file.

    Raises WeightsError when nothing fits, or several files do, saying where it looked and what to pass.
    """
    config = file.parent / CONFIG
    official = file.name.startswith(STEM) and config.is_file()
    held = sources_in(whole_set(file), config=config if official else None, variant=variant)
    if "transformer" not in held:
        raise WeightsError(
            f"{file} is a {' and '.join(held).replace('_', ' ')}; give the transformer's file as model",
            code="weights_wrong_part",
        )
    transformer = settled(file, held["transformer"], whole=False, named=named or variant is not None)
    shapes = shapes_of(transformer.open(), transformer.names)
    width = shapes.length("context.text.layers.0.weight", 1)
    patch = prod(shapes.length("patch_embedding.weight", axis) for axis in (2, 3, 4))
    channels = shapes.length("head.linear.weight", 0) // patch

    def part(name: str, place: Path | None, own_name: str, axis: int, size: int) -> Source:
        if place is not None:
            return recognised(place, name)
        if name in held:
            return held[name]
        return _found(file, name, lambda source: _size(source, own_name, axis) == size)

    def image_encoder() -> Source | None:
        if transformer.family not in READ_IMAGES:
            return None
        size = shapes.length("context.image.layers.0.weight", 1)
        return part("image_encoder", given.image_encoder, "class_embedding", 0, size)

    text = part("text_encoder", given.text_encoder, "token_embedding.weight", 1, width)
    return Places(
        path=file,
        transformer=transformer,
        text_encoder=text,
        codec=part("codec", given.codec, "expand.weight", 0, channels),
        tokenizer=vocabulary_file(given.tokenizer) if given.tokenizer else _vocabulary(file, text),
        image_encoder=image_encoder(),
    )


def _found(file: Path, part: str, fits: Callable[[Source], bool]) -> Source:
    """The only file that fits: of the sibling folders, or if none does there, of those beside the file."""
    siblings = _siblings(file, part)
    refused: list[str] = []
    for folders in (siblings, [file.parent]):
        fitting = _fitting(
            [each for folder in folders for each in sorted(folder.iterdir()) if each != file], part, fits, refused
        )
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(str(each.place) for each in fitting[:LISTED])
            raise WeightsError(
                f"several files fit as {CALLED[part]} of {file}: {names}; pass {ARGUMENTS[part]}",
                code="weights_ambiguous",
            )
    looked = " and ".join(str(folder) for folder in (*siblings, file.parent))
    why = f" ({', and '.join(refused[:EXPLAINED])})" if refused else ""
    raise WeightsError(
        f"no {CALLED[part]} that fits {file} in {looked}{why}; pass {ARGUMENTS[part]}", code="part_missing"
    )


def _fitting(candidates: list[Path], part: str, fits: Callable[[Source], bool], refused: list[str]) -> list[Source]:
    """Each place once, though shards of one set lead to the same; why others are `refused` is added there."""
    found: dict[Path, Source] = {}
    for candidate in candidates:
        if candidate.suffix.lower() not in WEIGHT_SUFFIXES or not candidate.is_file():
            continue
        try:
            source = recognised(candidate, part)
            if fits(source):
                found[source.place] = source
        except (WeightsError, UsageError) as error:
            refused.append(str(error))
    return list(found.values())


def _siblings(file: Path, part: str) -> list[Path]:
    home = next((folder for folder in file.parents if folder.name in HOMES), file.parent)
    return [home.parent / name for name in SIBLINGS[part] if (home.parent / name).is_dir()]


def _size(source: Source, own_name: str, axis: int) -> int:
    return shapes_of(source.open(), source.names).length(own_name, axis)


def _vocabulary(file: Path, text: Source) -> Path:
    """A tensor in the text encoder's file, else a file beside it, else one beside the transformer."""
    checkpoint = open_checkpoint(text.place)
    if name := held_vocabulary(checkpoint):
        return checkpoint.tensors[name].file
    folders = [folder for parent in (text.place.parent, file.parent) for folder in (parent, parent / TOKENIZER)]
    folders.append(text.place.parent.parent / "tokenizer")
    for folder in dict.fromkeys(folders):
        for name in (JSON_FILE, SENTENCEPIECE_FILE):
            if (folder / name).is_file():
                return folder / name
    looked = " and ".join(str(folder) for folder in dict.fromkeys(folders))
    raise WeightsError(
        f"no {JSON_FILE} or {SENTENCEPIECE_FILE} in {looked}; pass --tokenizer FILE", code="tokenizer_missing"
    )
