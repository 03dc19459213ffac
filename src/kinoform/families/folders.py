"""Folders and repositories of whole models, by the names and settings in them, before any weight is looked at."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, cast

from kinoform.checkpoints.file_sets import read_shard
from kinoform.checkpoints.headers import read_json
from kinoform.errors import UsageError, WeightsError

INDEX, CONFIG, MANIFEST = "model_index.json", "config.json", "manifest.json"
"""Settings of a whole folder of diffusers, of one part or an official folder, and of kinoform's own folder."""

SCHEDULER = "scheduler/scheduler_config.json"
"""Settings of the solver in a folder of diffusers."""

PARTS = ("transformer", "text_encoder", "vae", "image_encoder")
"""Folders of diffusers, each of one part; all models have the first three."""

OFFICIAL_EXPERTS = {"high": "high_noise_model", "low": "low_noise_model"}
DIFFUSERS_EXPERTS = {"high": "transformer", "low": "transformer_2"}
RENDERER_EXPERTS = {"high": "bernini_renderer_high", "low": "bernini_renderer_low"}
"""Folders of the two experts of a model, by the noise that each is for; the last hold nothing but weights."""

RENDERER, PLANNED = "renderer", "bernini"
"""Words of model_type at the root of folders of diffusers: in that of Bernini-R, and in that of Bernini with its
planner, a language model, which decides what Bernini-R renders."""

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
    "autoencoder": re.compile(r"Wan2\.[12]_VAE\.(pth|safetensors)"),
    "image encoder": re.compile(r"models_clip_.*\.(pth|safetensors)"),
}

OWN = re.compile(
    rf"(transformer|autoencoder|text_encoder|image_encoder){SHARD}\.safetensors(\.index\.json)?|manifest\.json"
    r"|tokenizer\.json|spiece\.model"
)
LISTED = 3
LARGEST = 1e9
"""Numbers in settings are below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedSettings:
    """Settings of a diffusers folder that a recipe has values of its own for; None where it states none.

    `unreadable` names those that are stated as something else than a number.
    """

    flow_shift: float | None = None
    boundary_ratio: float | None = None
    unreadable: tuple[str, ...] = ()


def stated_settings(folder: Path) -> StatedSettings:
    """Read the settings of a diffusers folder that a recipe has values of its own for; none of any other path."""
    stated = {
        "flow_shift": settings_in(folder / SCHEDULER).get("flow_shift"),
        "boundary_ratio": settings_in(folder / INDEX).get("boundary_ratio"),
    }
    numbers = {name: value for name, value in stated.items() if _is_number(value)}
    others = tuple(name for name, value in stated.items() if value is not None and name not in numbers)
    return StatedSettings(**numbers, unreadable=others)


def check_folder(folder: Path) -> None:
    """Check, by its settings and the names of its folders, that it is not of half a model, and not of Bernini with its
    planner. Raises WeightsError."""
    if settings_in(folder / CONFIG).get("model_type") == PLANNED:
        raise WeightsError(
            f"{folder} is Bernini with its planner, a language model, with which kinoform makes no videos; get what it "
            "renders with, Bernini-R: kinoform download bernini-1.3b, or bernini-a14b",
            code="weights_unsupported_model",
        )
    official_transformers(folder)
    diffusers_transformers(folder)


def official_transformers(folder: Path) -> dict[str, Path]:
    """The folders of the transformers of an official folder, by the noise that they are for; of one, itself under "".

    Raises WeightsError where one of two experts is missing.
    """
    experts = {noise: folder / name for noise, name in OFFICIAL_EXPERTS.items()}
    if not any(place.is_dir() for place in experts.values()):
        return {"": folder}
    return _both(folder, experts)


def bare_experts(folder: Path) -> dict[str, Path]:
    """The folders of two experts that hold nothing but weights, by the noise that they are for; empty without any.

    Raises WeightsError where one of two is missing.
    """
    experts = {noise: folder / name for noise, name in RENDERER_EXPERTS.items()}
    return _both(folder, experts) if any(place.is_dir() for place in experts.values()) else {}


def is_diffusers(folder: Path) -> bool:
    """Return whether a folder has the layout of diffusers; its settings may be missing, or be those of a renderer."""
    settings = settings_in(folder / CONFIG)
    own = not (folder / CONFIG).is_file() or RENDERER in str(settings.get("model_type"))
    return (folder / INDEX).is_file() or (own and (folder / PARTS[0]).is_dir())


def diffusers_transformers(folder: Path) -> dict[str, Path]:
    """The folders of the transformers of a diffusers folder, as `official_transformers`."""
    experts = {noise: folder / name for noise, name in DIFFUSERS_EXPERTS.items()}
    if not experts["low"].is_dir() and not has_experts(settings_in(folder / INDEX)):
        return {"": experts["high"]}
    return _both(folder, experts)


def _both(folder: Path, experts: dict[str, Path]) -> dict[str, Path]:
    for noise, place in experts.items():
        if not place.is_dir():
            raise WeightsError(
                f"{folder} is a model of two experts without {place.name}/, the one for {noise} noise; fetch it, or "
                "give both by themselves: --model high=FILE --model low=FILE",
                code="expert_alone",
            )
    return experts


def has_experts(index: Mapping[str, Any]) -> bool:
    """Return whether a model_index.json names a second transformer, or the time at which one takes over."""
    second, boundary = index.get("transformer_2"), index.get("boundary_ratio")
    named = isinstance(second, list) and any(isinstance(item, str) for item in cast("list[object]", second))
    return named or _is_number(boundary)


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
    folders = {name.partition("/")[0] for name in held if "/" in name}
    if INDEX in held or {*PARTS[:3]} <= folders:
        return _diffusers(id, held)
    if MANIFEST in held:
        return {name for name in held if OWN.fullmatch(name)}
    if experts := [name for name in OFFICIAL_EXPERTS.values() if name in folders]:
        if lacking := [name for name in OFFICIAL_EXPERTS.values() if name not in experts]:
            raise _incomplete(id, lacking)
        return _official(id, held, [f"{name}/" for name in experts])
    if CONFIG in held and any(OFFICIAL_TRANSFORMER.fullmatch(name) for name in held):
        return _official(id, held, [""])
    raise UsageError(
        f"{id} is no repository of one model; name the files that you want with --file", code="download_ambiguous"
    )


def _official(id: str, held: set[str], transformers: Iterable[str]) -> set[str]:
    """Choose the files of an official folder; `transformers` are the folders of its transformers in it."""
    parts = {part: {name for name in held if form.fullmatch(name)} for part, form in OFFICIAL_PARTS.items()}
    lacking = [part for part, files in parts.items() if not files and part != "image encoder"]
    chosen: set[str] = set()
    for folder in transformers:
        within = _within(held, folder)
        weights = {name for name in within if OFFICIAL_TRANSFORMER.fullmatch(name)}
        _check_shards(f"{id}/{folder}".rstrip("/"), weights)
        if not weights:
            lacking.append(f"transformer in {folder}")
        settings = within & {CONFIG, "diffusion_pytorch_model.safetensors.index.json"}
        chosen |= {f"{folder}{name}" for name in weights | settings}
    tokenizer = held & {f"{OFFICIAL_TOKENIZER}/{name}" for name in TOKENIZER_FILES}
    _check_whole(id, lacking, tokenizer)
    files = {name for names in parts.values() for name in names}
    doubled = {name for name in files if name.endswith(".pth") and f"{name[:-4]}.safetensors" in files}
    return chosen | (files - doubled) | tokenizer


def _diffusers(id: str, held: set[str]) -> set[str]:
    chosen = held & {INDEX, CONFIG, SCHEDULER}
    lacking: list[str] = []
    second = DIFFUSERS_EXPERTS["low"]
    experts = (second,) if _within(held, f"{second}/") else ()
    for part in (*PARTS, *experts):
        within = _within(held, f"{part}/")
        files = _part(id, part, within)
        if not files and part in (*PARTS[:3], *experts):
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
        raise _incomplete(id, lacking)


def _incomplete(id: str, lacking: Iterable[str]) -> UsageError:
    return UsageError(
        f"{id} has no {' and no '.join(lacking)}, so it is no whole model; name the files that you want of it "
        "with --file",
        code="download_incomplete",
    )


def _within(held: Iterable[str], folder: str) -> set[str]:
    """The names of the files in a folder and below, without it."""
    return {name.removeprefix(folder) for name in held if name.startswith(folder)}


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


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
