"""What a model looks like on disk in each dialect: its weight files, the names in them, and what lies beside them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from kinoform.checkpoints.file_sets import STEM, TEXT_STEM
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.write import Outgoing
from kinoform.conversion.clip_towers import fused
from kinoform.conversion.source import HEADS, IMAGE, TABLES, Holdings, Part, Vocabulary
from kinoform.families import configs
from kinoform.families.configs import AS_IT_IS, T5
from kinoform.families.dialects import (
    DIFFUSERS_TO_OFFICIAL,
    HUGGINGFACE_TO_OFFICIAL,
    HUGGINGFACE_TO_OFFICIAL_TOWER,
    vae21_to_official,
)
from kinoform.families.identify import VOCABULARY
from kinoform.families.released import RELEASED
from kinoform.loading import diffusers, official, own
from kinoform.models.tokenizer import JSON_FILE, SENTENCEPIECE_FILE

COMFY_DTYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8_e4m3fn",
    torch.float8_e5m2: "fp8_e5m2",
}
TOKENIZER_CONFIG = "tokenizer_config.json"

TOWER_PREFIX, OFFICIAL_TOWER_PREFIX = "vision_model.", "visual."

Spell = Callable[[str], str | None]
"""From an official name to that of a dialect; None for what it does not keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """`place` is relative and without suffix; `shards` says whether readers take it in several files."""

    place: Path
    tensors: tuple[Outgoing, ...]
    shards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All files by relative place: weights, JSON `documents`, files that are copied, tensors of `raw` bytes."""

    weights: tuple[WeightFile, ...]
    documents: Mapping[Path, Mapping[str, object]] = field(default_factory=dict)
    copies: Mapping[Path, Path] = field(default_factory=dict)
    raw: Mapping[Path, Stored] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """`model` lays out a whole model; `part` one part in a folder, where there is such a thing (else None).

    `names` spells those of a part's tensors; with `prefix` something may stand before those of a transformer;
    with `fuses` the q, k and v of an image encoder are one tensor.
    """

    names: Callable[[Part], Spell]
    model: Callable[[Holdings, Mapping[str, tuple[Outgoing, ...]]], Layout]
    part: Callable[[Part, tuple[Outgoing, ...]], Layout | None]
    prefix: bool = False
    fuses: bool = False


def outgoing(part: Part, dialect: Dialect, *, dtype: torch.dtype | None, prefix: str = "") -> tuple[Outgoing, ...]:
    """The tensors of a part under the names of a dialect, as `dtype` or (None) as they are stored."""
    before, spell = prefix if part.identity.part == "transformer" else "", dialect.names(part)
    found = tuple(
        Outgoing(name=before + spelled, shape=each.shape, dtype=dtype or each.dtype, read=each.read)
        for name, each in part.tensors.items()
        if (spelled := spell(name)) is not None
    )
    return fused(found) if dialect.fuses and part.image is not None else found


def _official_model(found: Holdings, tensors: Mapping[str, tuple[Outgoing, ...]]) -> Layout:
    transformer = found.parts["transformer"]
    copies, raw = _vocabulary(found.vocabulary, official.TOKENIZER)
    return Layout(
        weights=(
            WeightFile(place=Path(STEM), tensors=tensors["transformer"], shards=True),
            WeightFile(place=Path(official.TEXT_ENCODER), tensors=tensors["text_encoder"]),
            WeightFile(place=Path(official.CODEC), tensors=tensors["codec"]),
            *_tower(Path(official.IMAGE_ENCODER), tensors),
        ),
        documents={Path(official.CONFIG): configs.official_transformer(transformer.identity, transformer.untold)},
        copies=copies,
        raw=raw,
    )


def _official_part(part: Part, tensors: tuple[Outgoing, ...]) -> Layout | None:
    if part.identity.part != "transformer":
        return None
    config = configs.official_transformer(part.identity, part.untold)
    return _beside(STEM, tensors, config)


def _diffusers_model(found: Holdings, tensors: Mapping[str, tuple[Outgoing, ...]]) -> Layout:
    folders = {"transformer": diffusers.TRANSFORMER, "text_encoder": diffusers.TEXT_ENCODER, "codec": diffusers.CODEC}
    image = found.parts[IMAGE].image if IMAGE in found.parts else None
    if image is not None:
        folders[IMAGE] = diffusers.IMAGE_ENCODER
    weights: list[WeightFile] = []
    documents: dict[Path, Mapping[str, object]] = {}
    for name, folder in folders.items():
        part = _diffusers_part(found.parts[name], tensors[name])
        weights += [replace(each, place=folder / each.place) for each in part.weights]
        documents |= {folder / place: document for place, document in part.documents.items()}
    home = Path(diffusers.TOKENIZER)
    copies, raw = _vocabulary(found.vocabulary, home)
    told = home / TOKENIZER_CONFIG in copies
    # What another program saved names its own class; without that the file itself is obeyed, if there is one.
    tokenizer = AS_IT_IS if home / JSON_FILE in copies and not told else T5
    if not told:
        rows = found.parts["transformer"].untold.rows
        documents[home / TOKENIZER_CONFIG] = configs.tokenizer_config(tokenizer, rows)
    identity = found.parts["transformer"].identity
    documents |= {
        Path(diffusers.INDEX): configs.pipeline(tokenizer, identity.family, image=image is not None),
        Path("scheduler", "scheduler_config.json"): configs.scheduler(identity),
    }
    if image is not None:
        documents[Path("image_processor", "preprocessor_config.json")] = configs.image_processor(image)
    return Layout(weights=tuple(weights), documents=documents, copies=copies, raw=raw)


def _diffusers_part(part: Part, tensors: tuple[Outgoing, ...]) -> Layout:
    if part.codec is not None:
        return _beside(STEM, tensors, configs.diffusers_codec(part.codec))
    if part.image is not None:
        return _beside(TEXT_STEM, tensors, configs.huggingface_tower(part.image))
    if part.identity.part == "transformer":
        return _beside(STEM, tensors, configs.diffusers_transformer(part.identity, part.untold))
    return _beside(TEXT_STEM, tensors, configs.huggingface_text(part.identity, part.untold))


def _beside(stem: str, tensors: tuple[Outgoing, ...], config: Mapping[str, object]) -> Layout:
    weights = WeightFile(place=Path(stem), tensors=tensors, shards=True)
    return Layout(weights=(weights,), documents={Path(official.CONFIG): config})


def _comfy_model(found: Holdings, tensors: Mapping[str, tuple[Outgoing, ...]]) -> Layout:
    """The tokenizer goes into the text encoder's file, or, where there is only a tokenizer.json, beside it."""
    vocabulary = found.vocabulary
    assert vocabulary is not None
    text, copies = tensors["text_encoder"], {}
    if (spoken := _spoken(vocabulary)) is not None:
        text = (*text, replace(spoken, name=VOCABULARY))
    for file in vocabulary.files:
        if file.name == JSON_FILE:
            copies[Path("text_encoders", JSON_FILE)] = file
    transformer = _comfy_name(found.parts["transformer"])
    return Layout(
        weights=(
            _comfy_file("diffusion_models", transformer, tensors["transformer"]),
            _comfy_file("text_encoders", "umt5_xxl", text),
            WeightFile(place=Path("vae", "wan_2.1_vae"), tensors=tensors["codec"]),
            *_tower(Path("clip_vision", "clip_vision_h"), tensors),
        ),
        copies=copies,
    )


def _comfy_name(part: Part) -> str:
    chosen = part.identity.chosen
    model = next((model for model in RELEASED if model.name == chosen), None)
    if model is None:
        return f"wan2.1_{configs.MODEL_TYPES[part.identity.family]}"
    size = re.sub(r"(\d)b\b", r"\1B", model.name)
    return f"wan{model.version}_{size}".replace("-", "_")


def _comfy_file(folder: str, name: str, tensors: tuple[Outgoing, ...]) -> WeightFile:
    """Named after the dtype that most of its numbers have, as ComfyUI's files are."""
    amounts: dict[torch.dtype, int] = {}
    for each in tensors:
        amounts[each.dtype] = amounts.get(each.dtype, 0) + each.bytes
    most = max(amounts, key=lambda dtype: amounts[dtype])
    return WeightFile(place=Path(folder, f"{name}_{COMFY_DTYPES.get(most, 'mixed')}"), tensors=tensors)


def _own_model(found: Holdings, tensors: Mapping[str, tuple[Outgoing, ...]]) -> Layout:
    copies, raw = _vocabulary(found.vocabulary, Path())
    kept = {place: file for place, file in copies.items() if place.name in (JSON_FILE, SENTENCEPIECE_FILE)}
    stems = {"transformer": own.TRANSFORMER, "codec": own.CODEC, "text_encoder": own.TEXT_ENCODER}
    weights = (
        WeightFile(place=Path(stem), tensors=tensors[part], shards=True)
        for part, stem in stems.items()
        if part in tensors
    )
    return Layout(weights=(*weights, *_tower(Path(own.IMAGE_ENCODER), tensors)), copies=kept, raw=raw)


def _tower(place: Path, tensors: Mapping[str, tuple[Outgoing, ...]]) -> tuple[WeightFile, ...]:
    """The image encoder, where there is one."""
    return (WeightFile(place=place, tensors=tensors[IMAGE]),) if IMAGE in tensors else ()


def _vocabulary(vocabulary: Vocabulary | None, home: Path) -> tuple[dict[Path, Path], dict[Path, Stored]]:
    """Files to copy and tensors to write out, by their places."""
    assert vocabulary is not None
    copies = {home / file.name: file for file in vocabulary.files}
    place = home / SENTENCEPIECE_FILE
    raw = {place: vocabulary.tensor} if vocabulary.tensor is not None and place not in copies else {}
    return copies, raw


def _spoken(vocabulary: Vocabulary) -> Outgoing | None:
    """A SentencePiece model as a tensor of bytes."""
    if vocabulary.tensor is not None:
        held = vocabulary.tensor
        return Outgoing(name=VOCABULARY, shape=held.shape, dtype=held.dtype, read=held.read)
    file = next((file for file in vocabulary.files if file.name == SENTENCEPIECE_FILE), None)
    if file is None:
        return None
    data = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)
    return Outgoing(name=VOCABULARY, shape=tuple(data.shape), dtype=data.dtype, read=lambda: data)


def _official_names(part: Part) -> Spell:
    return OFFICIAL_TOWER_PREFIX.__add__ if part.image is not None else str


def _diffusers_names(part: Part) -> Spell:
    if part.codec is not None:
        return vae21_to_official(part.codec.residual_blocks, len(part.codec.multipliers)).theirs
    if part.image is not None:
        return _tower_name
    return (DIFFUSERS_TO_OFFICIAL if part.identity.part == "transformer" else HUGGINGFACE_TO_OFFICIAL).theirs


def _tower_name(name: str) -> str | None:
    return None if name in HEADS else TOWER_PREFIX + HUGGINGFACE_TO_OFFICIAL_TOWER.theirs(name)


def _comfy_names(part: Part) -> Spell:
    if part.image is not None:
        return _tower_name
    return HUGGINGFACE_TO_OFFICIAL.theirs if part.identity.part == "text_encoder" else str


def _own_names(part: Part) -> Spell:
    table = TABLES[part.identity.part]
    if part.image is None:
        return lambda name: table.ours(name) or name
    last = f"blocks.{part.image.layers - 1}."
    return lambda name: None if (own := table.ours(name)) is None or own.startswith(last) else own


def _no_folder(part: Part, tensors: tuple[Outgoing, ...]) -> None:
    return None


DIALECTS: Mapping[str, Dialect] = {
    "official": Dialect(names=_official_names, model=_official_model, part=_official_part, fuses=True),
    "diffusers": Dialect(names=_diffusers_names, model=_diffusers_model, part=_diffusers_part),
    "comfy": Dialect(names=_comfy_names, model=_comfy_model, part=_no_folder, prefix=True),
    "kinoform": Dialect(names=_own_names, model=_own_model, part=_no_folder),
}
