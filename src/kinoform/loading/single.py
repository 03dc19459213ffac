"""A single transformer file, as ComfyUI keeps them, and the search for the parts that it lacks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinoform.checkpoints.file_sets import STEM
from kinoform.checkpoints.headers import WEIGHT_SUFFIXES
from kinoform.errors import UsageError, WeightsError
from kinoform.families import FAMILIES
from kinoform.families.config_file import read_config
from kinoform.families.rivals import ARGUMENTS
from kinoform.families.transformer import text_rows
from kinoform.loading.detect import detect_part, detect_parts, settled
from kinoform.loading.official import CONFIG, TOKENIZER
from kinoform.loading.sources import OpenedModel, OpenedPart, Opening, PartFile, opened
from kinoform.loading.tokenizer_file import TokenizerFile, tokenizer_at, tokenizer_in
from kinoform.models.tokenizer import JSON_FILE, SENTENCEPIECE_FILE

Fits = Callable[[OpenedPart[Any]], bool]

HOMES = ("diffusion_models", "unet")
"""Folders in which ComfyUI keeps transformers; their siblings hold the other parts."""

SIBLINGS = {
    "text_encoder": ("text_encoders", "clip", "text_encoder"),
    "codec": ("vae",),
    "image_encoder": ("clip_vision", "image_encoder"),
}
"""Folders of ComfyUI, and those beside `transformer/` in a folder of diffusers."""

LISTED, EXPLAINED = 4, 2


def open_single(path: Path, opening: Opening) -> OpenedModel:
    """Parts are taken from those that the user names, the file itself, ComfyUI's sibling folders, and beside the file.

    Raises WeightsError when nothing fits, or several files do, saying where it looked and what to pass.
    """
    official = path.name.startswith(STEM) and (path.parent / CONFIG).is_file()
    config = read_config(path.parent / CONFIG) if official else None
    held = detect_parts(path, opening, variant=opening.variant)
    if "transformer" not in held:
        raise WeightsError(
            f"{path} is a {' and '.join(held).replace('_', ' ')}; give the transformer's file as model",
            code="weights_wrong_part",
        )
    transformer = replace(settled(path, held["transformer"], opening, whole=False), config=config)
    transformer = opened(transformer)
    spec, given = transformer.spec, opening.overrides
    widths = {stream.name: getattr(stream, "width", 0) for stream in spec.context}

    def part(name: str, place: Path | None, fits: Fits) -> OpenedPart[Any]:
        if place is not None:
            return opened(detect_part(place, name, opening))
        return opened(held[name]) if name in held else _search(path, name, fits, opening)

    text = part("text_encoder", given.text_encoder, lambda each: each.spec.dim == widths["text"])
    codec = part("codec", given.codec, lambda each: each.spec.channels == spec.out_channels)
    image = None
    if transformer.file.reads_images:
        image = part("image_encoder", given.image_encoder, lambda each: each.spec.dim == widths["image"])
    return OpenedModel(
        path=path,
        transformer=transformer,
        text_encoder=opened(text.file, length=text_rows(spec)),
        codec=codec,
        codec_spec=codec.spec,
        tokenizer=_tokenizer(path, text.file, opening),
        image_encoder=image,
    )


def _search(file: Path, part: str, fits: Fits, opening: Opening) -> OpenedPart[Any]:
    """The only file that fits: of the sibling folders, or if none does there, of those beside the file."""
    siblings = _siblings(file, part)
    called = " or ".join(family.description for family in FAMILIES if family.part == part)
    refused: list[str] = []
    for folders in (siblings, [file.parent]):
        fitting = _fitting(
            [each for folder in folders for each in sorted(folder.iterdir()) if each != file],
            part,
            fits,
            opening,
            refused,
        )
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(str(each.file.files.path) for each in fitting[:LISTED])
            raise WeightsError(
                f"several files fit as {called} of {file}: {names}; pass {ARGUMENTS[part]}",
                code="weights_ambiguous",
            )
    looked = " and ".join(str(folder) for folder in (*siblings, file.parent))
    why = f" ({', and '.join(refused[:EXPLAINED])})" if refused else ""
    raise WeightsError(f"no file fits {file} as {called} in {looked}{why}; pass {ARGUMENTS[part]}", code="part_missing")


def _fitting(
    candidates: list[Path], part: str, fits: Fits, opening: Opening, refused: list[str]
) -> list[OpenedPart[Any]]:
    """Each set once, though all of its shards lead to it; why others are `refused` is added there."""
    found: dict[Path, OpenedPart[Any]] = {}
    for candidate in candidates:
        if candidate.suffix.lower() not in WEIGHT_SUFFIXES or not candidate.is_file():
            continue
        try:
            found_part = opened(detect_part(candidate, part, opening))
            if fits(found_part):
                found.setdefault(found_part.file.files.files[0], found_part)
        except (WeightsError, UsageError) as error:
            refused.append(str(error))
    return list(found.values())


def _siblings(file: Path, part: str) -> list[Path]:
    home = next((folder for folder in file.parents if folder.name in HOMES), file.parent)
    return [home.parent / name for name in SIBLINGS[part] if (home.parent / name).is_dir()]


def _tokenizer(file: Path, text: PartFile, opening: Opening) -> TokenizerFile:
    """Find it: the one named by the user, in the text encoder's file, beside that, or beside the transformer."""
    if opening.overrides.tokenizer is not None:
        return tokenizer_at(opening.overrides.tokenizer, opening.reader)
    if (found := tokenizer_in(text.files)) is not None:
        return found
    home = text.files.files[0].parent
    folders = [folder for parent in (home, file.parent) for folder in (parent, parent / TOKENIZER)]
    folders.append(home.parent / "tokenizer")
    for folder in dict.fromkeys(folders):
        for name in (JSON_FILE, SENTENCEPIECE_FILE):
            if (folder / name).is_file():
                return TokenizerFile(path=folder / name)
    looked = " and ".join(str(folder) for folder in dict.fromkeys(folders))
    raise WeightsError(
        f"no {JSON_FILE} or {SENTENCEPIECE_FILE} in {looked}; pass --tokenizer FILE", code="tokenizer_missing"
    )
