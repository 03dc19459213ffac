"""Layouts of models on disk, one for each target of a conversion: weight files, names in them, files beside them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from kinoform.checkpoints.file_sets import STEM, TEXT_STEM
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.write import Outgoing, stored_outgoing
from kinoform.conversion.documents import (
    AS_IT_IS,
    T5,
    image_processor,
    pipeline,
    scheduler,
    tokenizer_config,
)
from kinoform.conversion.factorized import factorized
from kinoform.conversion.model_contents import EXPERTS, ModelContents, Part, TokenizerParts
from kinoform.errors import UsageError, nearest
from kinoform.families.family import CODEC, IMAGE_ENCODER, TEXT_ENCODER, TRANSFORMER, Dialect, Family
from kinoform.families.folders import (
    CONFIG,
    DIFFUSERS_EXPERTS,
    DIFFUSERS_TOKENIZER,
    INDEX,
    OFFICIAL_EXPERTS,
    OFFICIAL_TOKENIZER,
    RENDERER,
)
from kinoform.families.identify import VOCABULARY
from kinoform.families.transformer import text_length
from kinoform.loading import own
from kinoform.loading.folders import DIFFUSERS_FOLDERS
from kinoform.models.tokenizer import JSON_FILE, SENTENCEPIECE_FILE

COMFY_DTYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8_e4m3fn",
    torch.float8_e5m2: "fp8_e5m2",
}
TOKENIZER_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """Weights of one part: `path` is relative and without suffix, `shards`: readers take several files."""

    path: Path
    tensors: tuple[Outgoing, ...]
    shards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All files by relative path: weights, JSON `documents`, files that are copied, tensors of `raw` bytes."""

    weights: tuple[WeightFile, ...]
    documents: Mapping[Path, Mapping[str, object]] = field(default_factory=dict[Path, Mapping[str, object]])
    copies: Mapping[Path, Path] = field(default_factory=dict[Path, Path])
    raw: Mapping[Path, Stored] = field(default_factory=dict[Path, Stored])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A layout that weights are converted to.

    `spellings` are the dialects of families in which its files are written, the first that a family has. `model` lays
    out a whole model, `part` one part in a folder, None where there is no such thing. With `shards` weights may come
    in several files, with `prefix` something may stand before the names of a transformer; an `own` one is kinoform's
    folder, which names a recipe. `grow` makes other blocks of
    those of a transformer (named by the path) before it is written.
    """

    name: str
    spellings: tuple[str, ...]
    model: Callable[[ModelContents, Mapping[str, tuple[Outgoing, ...]]], Layout]
    part: Callable[[Part, tuple[Outgoing, ...]], Layout | None] = lambda part, tensors: None
    shards: bool = False
    prefix: bool = False
    own: bool = False
    grow: Callable[[Path, Iterable[Outgoing]], tuple[Outgoing, ...]] | None = None


def target_named(name: str) -> Target:
    """Find a target. Raises UsageError for a name that none has."""
    known = {target.name: target for target in TARGETS}
    if name not in known:
        raise UsageError(f"no dialect {name!r}; {nearest(name, known)}", code="unknown_name")
    return known[name]


def outgoing(part: Part, target: Target, *, dtype: torch.dtype | None, prefix: str = "") -> tuple[Outgoing, ...]:
    """Name the tensors of a part as a target has them, as `dtype` or (None) as they are stored."""
    before = prefix if part.identity.part == TRANSFORMER else ""
    if part.family is None:  # of a recipe's own, whose names stay
        return tuple(stored_outgoing(before + name, stored, dtype) for name, stored in part.tensors.items())
    dialect = _spelling(part.family, target.spellings)
    names, unread = dialect.names_for(part.spec), part.family.unread(part.spec)
    tensors: list[Outgoing] = []
    for name, stored in part.tensors.items():
        optional = any(fnmatchcase(name, pattern) for pattern in unread)
        if not optional or (not dialect.own and names.knows(name)):
            tensors.append(stored_outgoing(before + dialect.prefix + names.theirs(name), stored, dtype))
    return dialect.restore(tuple(tensors))


def _spelling(family: Family, spellings: tuple[str, ...]) -> Dialect:
    return next(dialect for name in spellings for dialect in family.dialects if dialect.name == name)


def _official_model(contents: ModelContents, tensors: Mapping[str, tuple[Outgoing, ...]]) -> Layout:
    copies, raw = _tokenizer_files(contents.tokenizer, Path(OFFICIAL_TOKENIZER))
    homes = {name: Path(OFFICIAL_EXPERTS[EXPERTS[name]] if contents.model else "") for name in contents.transformers}
    return Layout(
        weights=(
            *(WeightFile(path=home / STEM, tensors=tensors[name], shards=True) for name, home in homes.items()),
            *(
                WeightFile(path=_file(part, "official"), tensors=tensors[name])
                for name, part in contents.parts.items()
                if name not in homes
            ),
        ),
        documents={home / CONFIG: contents.parts[name].document("official") for name, home in homes.items()},
        copies=copies,
        raw=raw,
    )


def _official_part(part: Part, tensors: tuple[Outgoing, ...]) -> Layout | None:
    if part.identity.part != "transformer":
        return None
    return _beside(STEM, tensors, part.document("official"))


def _diffusers_model(contents: ModelContents, tensors: Mapping[str, tuple[Outgoing, ...]]) -> Layout:
    image = contents.parts.get(IMAGE_ENCODER)
    weights: list[WeightFile] = []
    documents: dict[Path, Mapping[str, object]] = {}
    for name, folder in {**DIFFUSERS_FOLDERS, SECOND: SECOND}.items():
        if name not in contents.parts:
            continue
        part = _diffusers_part(contents.parts[name], tensors[name])
        weights += [replace(file, path=folder / file.path) for file in part.weights]
        documents |= {folder / path: document for path, document in part.documents.items()}
    home = Path(DIFFUSERS_TOKENIZER)
    copies, raw = _tokenizer_files(contents.tokenizer, home)
    has_config = home / TOKENIZER_CONFIG in copies
    # What another program saved names its own class; without that the file itself is obeyed, if there is one.
    tokenizer = AS_IT_IS if home / JSON_FILE in copies and not has_config else T5
    if not has_config:
        documents[home / TOKENIZER_CONFIG] = tokenizer_config(tokenizer, text_length(contents.parts[TRANSFORMER].spec))
    transformer = contents.parts[TRANSFORMER]
    assert transformer.family is not None, "only models of released families become folders of diffusers"
    class_name = str(documents[Path(DIFFUSERS_FOLDERS[TRANSFORMER], CONFIG)]["_class_name"])
    documents |= {
        Path(INDEX): pipeline(tokenizer, transformer.family, class_name, image=image is not None, model=contents.model),
        Path("scheduler", "scheduler_config.json"): scheduler(transformer, contents.model),
    }
    tuning = transformer.family.tuning_of(contents.model or transformer.identity.chosen)
    if tuning:
        documents[Path(CONFIG)] = {"model_type": f"{tuning}_{RENDERER}"}
    if image is not None:
        documents[Path("image_processor", "preprocessor_config.json")] = image_processor(image.spec)
    return Layout(weights=tuple(weights), documents=documents, copies=copies, raw=raw)


def _diffusers_part(part: Part, tensors: tuple[Outgoing, ...]) -> Layout:
    assert part.family is not None, "only parts of released families become folders of diffusers"
    dialect = _spelling(part.family, DIFFUSERS_SPELLINGS).name
    return _beside(TEXT_STEM if dialect == "huggingface" else STEM, tensors, part.document(dialect))


def _beside(stem: str, tensors: tuple[Outgoing, ...], config: Mapping[str, object]) -> Layout:
    weights = WeightFile(path=Path(stem), tensors=tensors, shards=True)
    return Layout(weights=(weights,), documents={Path(CONFIG): config})


def _comfy_model(contents: ModelContents, tensors: Mapping[str, tuple[Outgoing, ...]]) -> Layout:
    """Lay out a whole model of ComfyUI.

    The tokenizer goes into the text encoder's file, or, where there is only a tokenizer.json, beside it.
    """
    tokenizer = contents.tokenizer
    assert tokenizer is not None
    text, copies = tensors["text_encoder"], dict[Path, Path]()
    if (pieces := _pieces(tokenizer)) is not None:
        text = (*text, replace(pieces, name=VOCABULARY))
    for file in tokenizer.files:
        if file.name == JSON_FILE:
            copies[Path("text_encoders", JSON_FILE)] = file
    return Layout(
        weights=(
            *(
                _comfy_file(
                    "diffusion_models", _comfy_name(part, EXPERTS[name] if contents.model else ""), tensors[name]
                )
                for name, part in contents.transformers.items()
            ),
            _comfy_file("text_encoders", _file(contents.parts[TEXT_ENCODER], "comfy").name, text),
            WeightFile(path=Path("vae") / _file(contents.parts[CODEC], "comfy"), tensors=tensors[CODEC]),
            *(
                WeightFile(path=Path("clip_vision") / _file(part, "comfy"), tensors=tensors[name])
                for name, part in contents.parts.items()
                if name == IMAGE_ENCODER
            ),
        ),
        copies=copies,
    )


def _file(part: Part, layout: str) -> Path:
    """The file of a part beside the transformer, without suffix."""
    assert part.family is not None, "only parts of released families have files of other programs"
    return Path(part.family.files[layout])


def _comfy_name(part: Part, noise: str) -> str:
    """Name the file of a transformer; `noise` is that which it is an expert for."""
    assert part.family is not None, "only parts of released families become files of ComfyUI"
    model = next((model for model in part.family.released if model.name == part.identity.chosen), None)
    if noise:
        size = "" if model is None else f"_{model.size.upper()}"
        kind = model.task if model is not None and model.tuning else part.family.model_type
        return f"wan2.2_{kind}_{noise}_noise{size}"
    if model is None:
        return f"wan{part.family.released[0].version}_{part.family.model_type}"
    size = re.sub(r"(\d)b\b", r"\1B", model.name)
    return f"wan{model.version}_{size}".replace("-", "_")


def _comfy_file(folder: str, name: str, tensors: tuple[Outgoing, ...]) -> WeightFile:
    """Name a file after the dtype that most of its numbers have, as ComfyUI's files are."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.bytes
    ((usual, _),) = sizes.most_common(1)
    return WeightFile(path=Path(folder, f"{name}_{COMFY_DTYPES.get(usual, 'mixed')}"), tensors=tensors)


def _own_model(contents: ModelContents, tensors: Mapping[str, tuple[Outgoing, ...]]) -> Layout:
    copies, raw = _tokenizer_files(contents.tokenizer, Path())
    kept = {path: file for path, file in copies.items() if path.name in (JSON_FILE, SENTENCEPIECE_FILE)}
    stems = {TRANSFORMER: own.TRANSFORMER, SECOND: SECOND, "codec": own.CODEC, "text_encoder": own.TEXT_ENCODER}
    weights = (
        WeightFile(path=Path(stem), tensors=tensors[part], shards=True)
        for part, stem in stems.items()
        if part in tensors
    )
    return Layout(weights=(*weights, *_tower(Path(own.IMAGE_ENCODER), tensors)), copies=kept, raw=raw)


def _tower(path: Path, tensors: Mapping[str, tuple[Outgoing, ...]]) -> tuple[WeightFile, ...]:
    """Lay out the image encoder, where there is one."""
    return (WeightFile(path=path, tensors=tensors[IMAGE_ENCODER]),) if IMAGE_ENCODER in tensors else ()


def _tokenizer_files(tokenizer: TokenizerParts | None, home: Path) -> tuple[dict[Path, Path], dict[Path, Stored]]:
    """Find the files to copy and the tensors to write out, by their paths."""
    assert tokenizer is not None
    copies = {home / file.name: file for file in tokenizer.files}
    path = home / SENTENCEPIECE_FILE
    raw = {path: tokenizer.tensor} if tokenizer.tensor is not None and path not in copies else {}
    return copies, raw


def _pieces(tokenizer: TokenizerParts) -> Outgoing | None:
    """Make a tensor of bytes of a SentencePiece model; None without one."""
    if tokenizer.tensor is not None:
        return stored_outgoing(VOCABULARY, tokenizer.tensor)
    file = next((file for file in tokenizer.files if file.name == SENTENCEPIECE_FILE), None)
    if file is None:
        return None
    data = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)
    return Outgoing(name=VOCABULARY, shape=tuple(data.shape), dtype=data.dtype, read=lambda: data)


SECOND = DIFFUSERS_EXPERTS["low"]
"""The expert for low noise: the name of the part, of its folder in diffusers, and of its file in kinoform's own."""

DIFFUSERS_SPELLINGS = ("diffusers", "huggingface")

TARGETS = (
    Target(name="official", spellings=("official",), model=_official_model, part=_official_part, shards=True),
    Target(
        name="diffusers",
        spellings=DIFFUSERS_SPELLINGS,
        model=_diffusers_model,
        part=_diffusers_part,
        shards=True,
    ),
    Target(name="comfy", spellings=("huggingface", "official"), model=_comfy_model, prefix=True),
    Target(name="kinoform", spellings=("kinoform",), model=_own_model, shards=True, own=True),
    Target(name="factorized", spellings=("kinoform",), model=_own_model, shards=True, own=True, grow=factorized),
)
