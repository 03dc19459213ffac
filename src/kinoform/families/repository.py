"""Files of a repository that make a whole model: chosen by their names, or refused before the first byte."""

import re
from collections.abc import Iterable

from kinoform.checkpoints.file_sets import read_shard
from kinoform.errors import UsageError, WeightsError
from kinoform.families.folders import CONFIG, EXPERTS, INDEX, PARTS, two_experts

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
VOCABULARIES = ("tokenizer.json", "spiece.model")
TOKENIZERS = {"official": "google/umt5-xxl/", "diffusers": "tokenizer/"}
ALWAYS = PARTS[:3]
"""Parts that every model of diffusers has."""

STEM = r"(diffusion_pytorch_model|model)"
SHARD = r"(-\d{5}-of-\d{5})?"
WEIGHTS = re.compile(rf"{STEM}{SHARD}\.safetensors")
INDEXES = re.compile(rf"{STEM}\.safetensors\.index\.json")
VARIANTS = re.compile(
    rf"{STEM}\.(?P<variant>[a-z0-9]+){SHARD}\.safetensors|{STEM}\.safetensors\.index\.(?P<other>[a-z0-9]+)\.json"
)
PICKLES = re.compile(rf"(diffusion_)?pytorch_model{SHARD}\.bin|(diffusion_)?pytorch_model\.bin\.index\.json")

TRANSFORMER = re.compile(rf"diffusion_pytorch_model{SHARD}\.safetensors")
TEXT_ENCODER = re.compile(r"models_t5_.*\.(pth|safetensors)")
IMAGE_ENCODER = re.compile(r"models_clip_.*\.(pth|safetensors)")
CODEC = re.compile(r"Wan2\.1_VAE\.(pth|safetensors)")
CODEC_22 = re.compile(r"Wan2\.2_VAE\.(pth|safetensors)")

OWN = re.compile(
    rf"(transformer|autoencoder|text_encoder|image_encoder){SHARD}\.safetensors(\.index\.json)?|manifest\.json"
    r"|tokenizer\.json|spiece\.model"
)
SHOWN = 3


def needed(id: str, names: Iterable[str]) -> set[str]:
    """Names of the files that are needed of an official folder, one of diffusers or one of kinoform's own.

    Raises WeightsError for models that kinoform makes no videos with, UsageError where a repository is no folder of one
    model, or lacks a part of one.
    """
    held = set(names)
    if {name.partition("/")[0] for name in held if "/" in name} & set(EXPERTS):
        raise two_experts(id)
    if INDEX in held:
        return _diffusers(id, held)
    if "manifest.json" in held:
        return {name for name in held if OWN.fullmatch(name)}
    if CONFIG in held and any(TRANSFORMER.fullmatch(name) for name in held):
        return _official(id, held)
    raise UsageError(
        f"{id} is no repository of one model; name the files that you want with --file", code="download_ambiguous"
    )


def _official(id: str, held: set[str]) -> set[str]:
    if any(CODEC_22.fullmatch(name) for name in held) and not any(CODEC.fullmatch(name) for name in held):
        raise WeightsError(
            f"{id} is the TI2V-5B model of Wan 2.2; kinoform makes videos with those of Wan 2.1. What of it you want "
            "all the same, name with --file",
            code="weights_unsupported_model",
        )
    weights = {name for name in held if TRANSFORMER.fullmatch(name)}
    _check_shards(id, weights)
    parts = {"text encoder": TEXT_ENCODER, "autoencoder": CODEC}
    vocabulary = held & {TOKENIZERS["official"] + name for name in TOKENIZER}
    lacking = [part for part, form in parts.items() if not any(map(form.fullmatch, held))]
    _check_whole(id, lacking, vocabulary)
    forms = (*parts.values(), IMAGE_ENCODER)
    files = {name for name in held if any(form.fullmatch(name) for form in forms)}
    doubled = {name for name in files if name.endswith(".pth") and f"{name[:-4]}.safetensors" in files}
    index = held & {"diffusion_pytorch_model.safetensors.index.json"}
    return {CONFIG} | weights | index | (files - doubled) | vocabulary


def _diffusers(id: str, held: set[str]) -> set[str]:
    chosen = {INDEX} | (held & {"scheduler/scheduler_config.json"})
    lacking: list[str] = []
    for part in PARTS:
        within = {name.removeprefix(f"{part}/") for name in held if name.startswith(f"{part}/")}
        files = _part(id, part, within)
        if not files and part in ALWAYS:
            lacking.append(part)
        chosen |= {f"{part}/{name}" for name in files | (within & {CONFIG})}
    vocabulary = held & {TOKENIZERS["diffusers"] + name for name in TOKENIZER}
    _check_whole(id, lacking, vocabulary)
    return chosen | vocabulary


def _part(id: str, part: str, within: set[str]) -> set[str]:
    """The weights of a part: plain safetensors, else the only variant of them, else pickles."""
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


def _check_whole(id: str, lacking: list[str], vocabulary: set[str]) -> None:
    told = [*lacking, *([] if any(name.endswith(VOCABULARIES) for name in vocabulary) else ["tokenizer"])]
    if told:
        raise UsageError(
            f"{id} has no {' and no '.join(told)}, so it is no whole model; name the files that you want of it "
            "with --file",
            code="download_incomplete",
        )


def _check_shards(place: str, files: set[str]) -> None:
    """Raises UsageError where a numbered file is listed and others of its set are not."""
    for shard in filter(None, map(read_shard, files)):
        whole = (f"{shard.stem}-{number:05d}{shard.ending}" for number in range(1, shard.total + 1))
        if missing := [name for name in whole if name not in files]:
            raise UsageError(
                f"{place} lacks {len(missing)} of its {shard.total} files ({', '.join(missing[:SHOWN])}); name the "
                "files that you want with --file",
                code="download_incomplete",
            )
