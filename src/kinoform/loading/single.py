"""A single transformer file, or two of experts, as ComfyUI keeps them, and the search for the parts that they lack."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinoform.checkpoints.file_sets import STEM
from kinoform.checkpoints.headers import WEIGHT_SUFFIXES
from kinoform.errors import UsageError, WeightsError
from kinoform.families import FAMILIES
from kinoform.families.family import MODULE, read_config
from kinoform.families.folders import CONFIG, DIFFUSERS_TOKENIZER, OFFICIAL_TOKENIZER
from kinoform.families.vace_module import module_alone
from kinoform.loading.detect import ARGUMENTS, detect_part, detect_parts
from kinoform.loading.experts import settled
from kinoform.loading.sources import FoundModel, OpenedPart, Opening, PartFile, opened
from kinoform.loading.tokenizer_file import TokenizerFile, tokenizer_in
from kinoform.models.dit import DiTSpec
from kinoform.models.tokenizer import JSON_FILE, SENTENCEPIECE_FILE

HOMES = ("diffusion_models", "unet")
"""Folders in which ComfyUI keeps transformers; their siblings hold the other parts."""

SIBLINGS = {
    "text_encoder": ("text_encoders", "clip", "text_encoder"),
    "codec": ("vae",),
    "image_encoder": ("clip_vision", "image_encoder"),
}
"""Folders of ComfyUI, and those beside `transformer/` in a folder of diffusers."""

LISTED, EXPLAINED = 4, 2


def find_single(files: Mapping[str, Path], opening: Opening) -> FoundModel:
    """The other parts are taken from the file itself, from ComfyUI's sibling folders, and from beside the file.

    Two experts stand under high and low, one transformer under "". Raises WeightsError when there is no transformer in
    one; and later, when nothing fits, or several files do, saying where it looked and what to pass.
    """
    path = next(iter(files.values()))
    held = {noise: _parts_in(file, noise, opening) for noise, file in files.items()}
    place = " and ".join(map(str, files.values()))
    model = settled(place, {noise: parts["transformer"] for noise, parts in held.items()}, opening, whole=False)
    within = {name: part for parts in held.values() for name, part in parts.items()}
    return FoundModel(
        path=path,
        transformers=model.files,
        model=model.model,
        part=lambda part, transformer: within.get(part) or _search(files.values(), part, transformer, opening),
        tokenizer=lambda text: _tokenizer(path, text),
    )


def _parts_in(path: Path, noise: str, opening: Opening) -> dict[str, PartFile]:
    """The parts in the file of a transformer."""
    home = path if path.is_dir() else path.parent
    official = (path.is_dir() or path.name.startswith(STEM)) and (home / CONFIG).is_file()
    config = read_config(home / CONFIG) if official else None
    held = detect_parts(path, opening, variant=opening.variant, expert=noise)
    if MODULE in held:
        raise module_alone(path, held[MODULE].models)
    if "transformer" not in held:
        raise WeightsError(
            f"{path} is a {' and '.join(held).replace('_', ' ')}; give the transformer's file as model",
            code="weights_wrong_part",
        )
    return held | {"transformer": replace(held["transformer"], config=config)}


def _search(files: Iterable[Path], part: str, transformer: OpenedPart[DiTSpec], opening: Opening) -> PartFile:
    """The only file that fits the transformer: of the sibling folders, else of those beside its file, the first."""
    file, *_ = given = list(files)
    siblings = _siblings(file, part)
    called = " or ".join(family.description for family in FAMILIES if family.part == part)
    refused: list[str] = []
    for folders in (siblings, [file.parent]):
        candidates = [each for folder in folders for each in sorted(folder.iterdir()) if each not in given]
        fitting = _fitting(candidates, part, transformer.spec, opening, refused)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(str(each.files.path) for each in fitting[:LISTED])
            raise WeightsError(
                f"several files fit as {called} of {file}: {names}; pass {ARGUMENTS[part]}",
                code="weights_ambiguous",
            )
    looked = " and ".join(str(folder) for folder in (*siblings, file.parent))
    why = f" ({', and '.join(refused[:EXPLAINED])})" if refused else ""
    raise WeightsError(f"no file fits {file} as {called} in {looked}{why}; pass {ARGUMENTS[part]}", code="part_missing")


def _fitting(candidates: list[Path], part: str, spec: DiTSpec, opening: Opening, refused: list[str]) -> list[PartFile]:
    """Each set once, though all of its shards lead to it; why others are `refused` is added there."""
    found: dict[Path, PartFile] = {}
    for candidate in candidates:
        if candidate.suffix.lower() not in WEIGHT_SUFFIXES or not candidate.is_file():
            continue
        try:
            file = detect_part(candidate, part, opening)
            if _fits(part, opened(file).spec, spec):
                found.setdefault(file.files.files[0], file)
        except (WeightsError, UsageError) as error:
            refused.append(str(error))
    return list(found.values())


def _fits(part: str, spec: Any, transformer: DiTSpec) -> bool:
    """Tell whether the transformer reads what the part makes, as far as widths tell."""
    if part == "codec":
        return spec.channels == transformer.out_channels
    stream = "text" if part == "text_encoder" else "image"
    return spec.dim in [getattr(context, "width", 0) for context in transformer.context if context.name == stream]


def _siblings(file: Path, part: str) -> list[Path]:
    here = file if file.is_dir() else file.parent
    home = next((folder for folder in file.parents if folder.name in HOMES), here)
    return [home.parent / name for name in SIBLINGS[part] if (home.parent / name).is_dir()]


def _tokenizer(file: Path, text: PartFile) -> TokenizerFile:
    """Find it: in the text encoder's file, beside that, or beside the transformer."""
    if (found := tokenizer_in(text.files)) is not None:
        return found
    home = text.files.files[0].parent
    folders = [folder for parent in (home, file.parent) for folder in (parent, parent / OFFICIAL_TOKENIZER)]
    folders.append(home.parent / DIFFUSERS_TOKENIZER)
    for folder in dict.fromkeys(folders):
        for name in (JSON_FILE, SENTENCEPIECE_FILE):
            if (folder / name).is_file():
                return TokenizerFile(path=folder / name)
    looked = " and ".join(str(folder) for folder in dict.fromkeys(folders))
    raise WeightsError(
        f"no {JSON_FILE} or {SENTENCEPIECE_FILE} in {looked}; pass --tokenizer FILE", code="tokenizer_missing"
    )
