"""The road from a path to the opened parts of a model, whatever layout it has; what is missing or wrong is named."""

from pathlib import Path
from typing import Any

from kinoform.checkpoints.file_sets import open_set, weight_sets
from kinoform.errors import WeightsError
from kinoform.families.folders import (
    CONFIG,
    INDEX,
    bare_experts,
    check_folder,
    is_diffusers,
    official_transformers,
    settings_in,
)
from kinoform.families.released import TWO_FILES, noise_named
from kinoform.families.transformer import text_length
from kinoform.loading.detect import detect_part, files_with
from kinoform.loading.experts import ExpertPaths, pair_in
from kinoform.loading.folders import find_diffusers, find_official
from kinoform.loading.single import find_single
from kinoform.loading.sources import FoundModel, OpenedModel, OpenedPart, Opening, check_codec, opened
from kinoform.loading.tokenizer_file import tokenizer_at
from kinoform.models.dit import DiTSpec

LISTED = 4
OTHERS = ("text_encoder", "codec", "image_encoder")
ABSENT = ("weights_missing", "part_missing")
"""Codes of parts that are not there, or that nobody has chosen yet."""


def open_model(path: Path | ExpertPaths, opening: Opening) -> OpenedModel:
    """Open all parts by their headers. Raises WeightsError for what is missing or wrong."""
    found = _find_model(path, opening)
    transformers = tuple(map(opened, found.transformers))
    transformer = transformers[0]
    text = _part(found, "text_encoder", transformer, opening)
    codec = _part(found, "codec", transformer, opening)
    chosen = opening.overrides.tokenizer
    tokenizer = tokenizer_at(chosen, opening.reader) if chosen is not None else found.tokenizer(text.file)
    reads_images = found.transformers[0].reads_images
    return OpenedModel(
        path=found.path,
        transformers=transformers,
        text_encoder=text,
        codec=codec,
        codec_spec=codec.spec,
        tokenizer=tokenizer,
        image_encoder=_part(found, "image_encoder", transformer, opening) if reads_images else None,
        model=found.model,
    )


def usable_model(path: Path | ExpertPaths, opening: Opening) -> str:
    """The released model that the weights at a path are loaded as, though parts beside the transformer be absent.

    Raises the WeightsError with which `open_model` and the load behind it refuse them otherwise.
    """
    found = _find_model(path, opening)
    first, transformers = found.transformers[0], [opened(file) for file in found.transformers]
    for transformer in transformers:
        transformer.check_tensors()
    for name in OTHERS:
        if name == "image_encoder" and not first.reads_images:
            continue
        try:
            part = _part(found, name, transformers[0], opening)
            part.check_tensors()
            if name == "codec":
                check_codec(found.path, transformers[0].spec, part.spec, part)
        except WeightsError as error:
            if error.code not in ABSENT:
                raise
    return found.model


def _find_model(path: Path | ExpertPaths, opening: Opening) -> FoundModel:
    """The model in the layout that the path has, its transformers opened."""
    if isinstance(path, ExpertPaths):
        return find_single(path.by_noise(), opening)
    if not path.exists():
        raise WeightsError(f"{path} does not exist; check the name", code="weights_missing")
    if path.is_dir():
        check_folder(path)
        if is_diffusers(path):
            return find_diffusers(path, opening)
        if experts := bare_experts(path):
            return find_single(experts, opening)
        if len(official_transformers(path)) > 1 or (
            "model_type" in settings_in(path / CONFIG) and not _of_transformers(path)
        ):
            return find_official(path, opening)
        return find_single(_transformers_in(path, opening), opening)
    return find_single({"": path}, opening)


def _part(found: FoundModel, part: str, transformer: OpenedPart[DiTSpec], opening: Opening) -> OpenedPart[Any]:
    """The part that the user names, else that of the layout."""
    chosen = opening.overrides.of(part)
    file = found.part(part, transformer) if chosen is None else detect_part(chosen, part, opening)
    # The token limit of a prompt leaves no trace in the text encoder.
    return opened(file, length=text_length(transformer.spec)) if part == "text_encoder" else opened(file)


def _of_transformers(folder: Path) -> bool:
    """Tell whether the settings are those of a part in transformers' layout, which has a model_type too."""
    return "architectures" in settings_in(folder / CONFIG)


def _transformers_in(folder: Path, opening: Opening) -> dict[str, Path]:
    """The only transformer that lies in a folder of no known layout, such as `transformer/` alone, or two experts."""
    found = files_with("transformer", folder, opening.reader)
    if len(found) == 1:
        if noise_named(found[0], opening.reader.read(found[0]).metadata):
            _check_readable(folder, opening)
        return {"": found[0]}
    if (pair := pair_in(folder, found, opening.reader)) is not None:
        return pair.by_noise()
    if found:
        names = ", ".join(file.name for file in found[:LISTED])
        raise WeightsError(
            f"{folder} holds {len(found)} transformers, {names}; pass --model FILE for one of them, or, for two "
            f"experts of one model, {TWO_FILES}",
            code="weights_ambiguous",
        )
    weight_sets(folder)  # which says so where there are none at all
    raise WeightsError(
        f"{folder} is no folder of a model: neither {CONFIG} (official), {INDEX} (diffusers) nor manifest.json "
        "(kinoform) is there, nor a transformer's file; of ComfyUI's folders give diffusion_models; kinoform inspect "
        "says what is in it",
        code="model_missing",
    )


def _check_readable(folder: Path, opening: Opening) -> None:
    """Raise WeightsError for a file that cannot be read, which may be the expert that lacks."""
    for weights in weight_sets(folder):
        open_set(weights, opening.reader)
