"""Folders and repositories of whole models, by the names and settings in them, before any weight is looked at."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from kinoform.checkpoints.file_sets import read_shard
from kinoform.checkpoints.headers import read_json
from kinoform.errors import UsageError, WeightsError

INDEX, CONFIG, MANIFEST = "model_index.json", "config.json", "manifest.json"
"""Settings of a whole folder of diffusers, of one part or an official folder, and of kinoform's own folder."""

PARTS = ("transformer", "text_encoder", "vae", "image_encoder")
"""Folders of diffusers, each of one part; all models have the first three."""

EXPERTS = ("high_noise_model", "low_noise_model", "transformer_2")
"""Folders that only a model of two experts has."""

CACHE_FOLDER = re.compile(r"snapshots|[0-9a-f]{40}")
"""Folders of the Hugging Face cache that stand between a model's name and its files."""

OFFICIAL_TOKENIZER, DIFFUSERS_TOKENIZER = "google/umt5-xxl", "tokenizer"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
VOCABULARIES = ("tokenizer.json", "spiece.model")

STEM, SHARD = r"(diffusion_pytorch_model|model)", r"(-\d{5}-of-\d{5})?"
WEIGHTS = re.compile(rf"{STEM}{SHARD}\.safetensors")
INDEXES = re.compile(rf"{STEM}\.safetensors\.index\.json")
VARIANTS = re.compile(
    rf"{STEM}\.(?P<variant>[a-z0-9]+){SHARD}\.safetensors|{STEM}\.safetensors\.index\.(?P<other>[a-z0-9]+)\.json"
)
PICKLES = re.compile(rf"(diffusion_)?pytorch_model{SHARD}\.bin|(diffusion_)?pytorch_model\.bin\.index\.json")

OFFICIAL_TRANSFORMER = re.compile(rf"diffusion_pytorch_model{SHARD}\.safetensors")
OFFICIAL_PARTS = {
    "text encoder": re.compile(r"models_t5_.*\.(pth|safetensors)"),
    "autoencoder": re.compile(r"Wan2\.1_VAE\.(pth|safetensors)"),
    "image encoder": re.compile(r"models_clip_.*\.(pth|safetensors)"),
}
CODEC_22 = re.compile(r"Wan2\.2_VAE\.(pth|safetensors)")

OWN = re.compile(
    rf"(transformer|autoencoder|text_encoder|image_encoder){SHARD}\.safetensors(\.index\.json)?|manifest\.json"
    r"|tokenizer\.json|spiece\.model"
)
LISTED = 3


def check_folder(folder: Path) -> None:
    """Check that a folder is of no model that kinoform makes no videos with, whole or not. Raises WeightsError."""
    index = settings_in(folder / INDEX)
    if any((folder / name).is_dir() for name in EXPERTS) or has_experts(index):
        raise _unsupported(folder, "a Wan 2.2 model of two experts")
    if index.get("expand_timesteps") is True:
        raise _unsupported(folder, "the TI2V-5B model of Wan 2.2")


def has_experts(index: Mapping[str, Any]) -> bool:
    """Return whether a model_index.json names a second transformer, or the time at which one takes over."""
    second, boundary = index.get("transformer_2"), index.get("boundary_ratio")
    named = isinstance(second, list) and any(isinstance(item, str) for item in cast("list[object]", second))
    return named or (isinstance(boundary, int | float) and not isinstance(boundary, bool))


def settings_in(file: Path) -> Mapping[str, Any]:
    """Read the object in a JSON file; empty where there is none that can be read, which others refuse."""
    if not file.is_file():
        return {}
    try:
        return read_json(file)
    except WeightsError:
        return {}


def named_folders(path: Path, *, is_file: bool) -> list[Path]:
    """List the folders above a file, or a folder and those above it, without those that only a cache has."""
    above = path.parents if is_file else (path, *path.parents)
    return [folder for folder in above if CACHE_FOLDER.fullmatch(folder.name) is None]


def origins(folder: Path) -> list[str]:
    """List the names that the settings in and above a folder give the model: diffusers notes where it came from."""
    files = (folder / CONFIG, folder / INDEX, folder.parent / INDEX)
    names = (settings_in(file).get("_name_or_path") for file in files)
    return [name for name in names if isinstance(name, str)]


def needed(id: str, names: Iterable[str]) -> set[str]:
    """Choose the files of a repository that make a whole model, in the official layout, diffusers' or kinoform's own.

    Raises WeightsError for models that kinoform makes no videos with, UsageError where a repository is no folder of one
    model, or lacks a part of one.
    """
    held = set(names)
    if {name.partition("/")[0] for name in held if "/" in name} & set(EXPERTS):
        raise _unsupported(id, "a Wan 2.2 model of two experts")
    if INDEX in held:
        return _diffusers(id, held)
    if MANIFEST in held:
        return {name for name in held if OWN.fullmatch(name)}
    if CONFIG in held and any(OFFICIAL_TRANSFORMER.fullmatch(name) for name in held):
        return _official(id, held)
    raise UsageError(
        f"{id} is no repository of one model; name the files that you want with --file", code="download_ambiguous"
    )


def _official(id: str, held: set[str]) -> set[str]:
    parts = {part: {name for name in held if form.fullmatch(name)} for part, form in OFFICIAL_PARTS.items()}
    if any(CODEC_22.fullmatch(name) for name in held) and not parts["autoencoder"]:
        raise _unsupported(id, "the TI2V-5B model of Wan 2.2", ". What of it you want all the same, name with --file")
    weights = {name for name in held if OFFICIAL_TRANSFORMER.fullmatch(name)}
    _check_shards(id, weights)
    tokenizer = held & {f"{OFFICIAL_TOKENIZER}/{name}" for name in TOKENIZER_FILES}
    _check_whole(id, [part for part, files in parts.items() if not files and part != "image encoder"], tokenizer)
    files = {name for names in parts.values() for name in names}
    doubled = {name for name in files if name.endswith(".pth") and f"{name[:-4]}.safetensors" in files}
    index = held & {"diffusion_pytorch_model.safetensors.index.json"}
    return {CONFIG} | weights | index | (files - doubled) | tokenizer


def _diffusers(id: str, held: set[str]) -> set[str]:
    chosen = {INDEX} | (held & {"scheduler/scheduler_config.json"})
    lacking: list[str] = []
    for part in PARTS:
        within = {name.removeprefix(f"{part}/") for name in held if name.startswith(f"{part}/")}
        files = _part(id, part, within)
        if not files and part in PARTS[:3]:
            lacking.append(part)
        chosen |= {f"{part}/{name}" for name in files | (within & {CONFIG})}
    tokenizer = held & {f"{DIFFUSERS_TOKENIZER}/{name}" for name in TOKENIZER_FILES}
    _check_whole(id, lacking, tokenizer)
    return chosen | tokenizer


def _part(id: str, part: str, within: set[str]) -> set[str]:
    """Choose the weights of a part: plain safetensors, else the only variant of them, else pickles."""
    plain = {name for name in within if WEIGHTS.fullmatch(name)}
    if plain:
        _check_shards(f"{id}/{part}", plain)
        return plain | {name for name in within if INDEXES.fullmatch(name)}
    variants: dict[str, set[str]] = {}
    for name in within:
        if match := VARIANTS.fullmatch(name):
            variants.setdefault(match["variant"] or match["other"], set()).add(name)
    if len(variants) > 1:
        raise UsageError(
            f"{id} has {part} as {' and '.join(sorted(variants))}; name the files of one with --file",
            code="download_ambiguous",
        )
    files = next(iter(variants.values()), {name for name in within if PICKLES.fullmatch(name)})
    _check_shards(f"{id}/{part}", files)
    return files


def _check_whole(id: str, lacking: list[str], tokenizer: set[str]) -> None:
    if not any(name.endswith(VOCABULARIES) for name in tokenizer):
        lacking = [*lacking, "tokenizer"]
    if lacking:
        raise UsageError(
            f"{id} has no {' and no '.join(lacking)}, so it is no whole model; name the files that you want of it "
            "with --file",
            code="download_incomplete",
        )


def _check_shards(repository: str, files: set[str]) -> None:
    """Check that with each numbered file all others of its set are listed. Raises UsageError."""
    for shard in filter(None, map(read_shard, files)):
        whole = (f"{shard.stem}-{number:05d}{shard.ending}" for number in range(1, shard.total + 1))
        if missing := [name for name in whole if name not in files]:
            raise UsageError(
                f"{repository} lacks {len(missing)} of its {shard.total} files ({', '.join(missing[:LISTED])}); name "
                "the files that you want with --file",
                code="download_incomplete",
            )


def _unsupported(path: object, model: str, advice: str = "") -> WeightsError:
    return WeightsError(
        f"{path} is {model}; kinoform makes videos with those of Wan 2.1{advice}", code="weights_unsupported_model"
    )
