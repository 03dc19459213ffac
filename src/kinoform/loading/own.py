"""kinoform's own folder: the parts as safetensors, a tokenizer and a manifest with their hashes.

    transformer.safetensors  autoencoder.safetensors  text_encoder.safetensors  tokenizer.json  manifest.json
    image_encoder.safetensors, where the model has one; a model of pixels has no autoencoder
    transformer_2.safetensors and so on, where the model has several; transformer.safetensors is that of high noise

Weights have kinoform's own names and any floating dtype; a part may come in numbered shards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import count, takewhile
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kinoform.checkpoints.file_sets import files_at
from kinoform.checkpoints.hashes import file_hash
from kinoform.checkpoints.headers import FETCH, check_size, read_json
from kinoform.checkpoints.reader import HeaderReader
from kinoform.checkpoints.write import outgoing, write_set
from kinoform.errors import UsageError, WeightsError
from kinoform.families.folders import MANIFEST
from kinoform.files import whole_folder
from kinoform.loading.sources import PartFile
from kinoform.loading.tokenizer_file import TokenizerFile, tokenizer_at
from kinoform.models.dit import DiTSpec
from kinoform.models.packed import PackedLinear
from kinoform.models.tokenizer import JSON_FILE

FORMAT = 1
TRANSFORMER, CODEC, TEXT_ENCODER, IMAGE_ENCODER = "transformer", "autoencoder", "text_encoder", "image_encoder"

HOLDS = "*.[sj][as][fo][en]*"
"""Pattern of *.safetensors and *.json: a folder with anything else in it is never replaced."""

HASHED = 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """The finished parts of a model, as they are saved; not all models have an autoencoder or an image encoder."""

    transformer: nn.Module
    autoencoder: nn.Module | None
    text_encoder: nn.Module
    image_encoder: nn.Module | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`recipe` is module:function; `parts` by file name; `made` says how it was trained, in free JSON."""

    recipe: str
    parts: Mapping[str, FileRecord]
    made: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFolder:
    """A folder of kinoform's own, opened: its manifest, and the headers of its parts, whose sizes its recipe tells."""

    path: Path
    manifest: Manifest
    transformers: tuple[PartFile, ...]
    text_encoder: PartFile
    codec: PartFile | None
    image_encoder: PartFile | None
    tokenizer: TokenizerFile

    def repeated(self, count: int) -> OwnFolder:
        """Return the folder whose only transformer, if it is the only one, stands for each of `count` experts."""
        return replace(self, transformers=count * self.transformers) if len(self.transformers) == 1 else self

    def paired(self, specs: tuple[DiTSpec, ...]) -> list[tuple[PartFile, DiTSpec]]:
        """The transformers, each with its spec. Raises WeightsError for more or fewer specs."""
        if len(specs) != len(self.transformers):
            raise WeightsError(
                f"number of transformers: {len(self.transformers)} in {self.path}, {len(specs)} in the recipe; "
                "pass the recipe that it was made with",
                code="recipe_contradicts_weights",
            )
        return list(zip(self.transformers, specs, strict=True))


def save_own(
    folder: Path,
    modules: Modules,
    *,
    tokenizer_json: str,
    recipe: str,
    made: Mapping[str, Any],
    dtype: torch.dtype = torch.float16,
    max_shard_bytes: int | None = None,
    force: bool = False,
) -> Manifest:
    """Write the folder whole or not at all; with `max_shard_bytes` no weight file is larger.

    Raises UsageError when the folder exists (see `whole_folder` for `force`), when `recipe` is not
    module:function, a weight is packed or one tensor alone is larger than a shard; NonFiniteError when a
    weight is NaN, infinite, or too large for `dtype`.
    """
    if not re.fullmatch(r"[\w.]+:\w+", recipe):
        raise UsageError(f"recipe {recipe!r} is not an address; write module:function", code="recipe_invalid")
    named = {
        TRANSFORMER: modules.transformer,
        CODEC: modules.autoencoder,
        TEXT_ENCODER: modules.text_encoder,
        IMAGE_ENCODER: modules.image_encoder,
    }
    parts = {stem: module for stem, module in named.items() if module is not None}
    for stem, module in parts.items():
        _check_unpacked(stem, module)
    with whole_folder(folder, holds=HOLDS, force=force) as temporary:
        for stem, module in parts.items():
            tensors = [outgoing(name, value, dtype, f"{stem}: ") for name, value in module.named_parameters()]
            write_set(temporary, stem, tensors, max_shard_bytes, lambda count: None)
        (temporary / JSON_FILE).write_text(tokenizer_json, encoding="utf-8")
        return write_manifest(temporary, recipe, made)


def write_manifest(folder: Path, recipe: str, made: Mapping[str, Any]) -> Manifest:
    """Write the manifest of all files in a folder, with their hashes."""
    parts = {file.name: _record(file) for file in sorted(folder.iterdir())}
    manifest = Manifest(recipe=recipe, parts=parts, made=dict(made))
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Raises WeightsError when the manifest is missing, damaged, or of a later version of kinoform."""
    path = folder / MANIFEST
    found = read_json(path)
    if found.get("format") != FORMAT:
        raise WeightsError(
            f"{path} has format {found.get('format')!r}, not {FORMAT}; update kinoform to read it",
            code="manifest_unsupported",
        )
    try:
        recipe, parts, made = found["recipe"], found["parts"], found["made"]
        records = {name: FileRecord(sha256=part["sha256"], bytes=index(part["bytes"])) for name, part in parts.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path} is damaged: no usable {error}; fetch the folder again", code="manifest_damaged"
        ) from error
    if not isinstance(recipe, str) or not isinstance(made, dict):
        raise WeightsError(
            f"{path} is damaged: recipe or made is of the wrong type; fetch the folder again", code="manifest_damaged"
        )
    return Manifest(recipe=recipe, parts=records, made=made)


def open_own(folder: Path, reader: HeaderReader | None = None) -> OwnFolder:
    """Open the manifest and the headers.

    Raises WeightsError when a file is missing, not of the manifest's size, or not in the manifest.
    """
    reader, manifest = reader or HeaderReader(), read_manifest(folder)
    for name, record in manifest.parts.items():
        check_recorded(folder, name, record)
    names = (*manifest.parts, *(file.name for file in folder.iterdir()))
    later = takewhile(
        lambda stem: any(name.startswith(stem) for name in names), map(f"{TRANSFORMER}_{{}}".format, count(2))
    )
    transformers = (TRANSFORMER, *later)
    stems = (
        *transformers,
        TEXT_ENCODER,
        *(stem for stem in (CODEC, IMAGE_ENCODER) if any(name.startswith(stem) for name in names)),
    )
    tokenizer = tokenizer_at(folder, reader)
    files = {stem: PartFile(files=reader.open(folder / stem, files_at(folder / stem, reader))) for stem in stems}
    for file in (*(file for part in files.values() for file in part.files.files), tokenizer.path):
        if file.name not in manifest.parts:
            raise WeightsError(
                f"{file} is not in {MANIFEST}; remove it, or fetch the folder again", code="weights_ambiguous"
            )
    return OwnFolder(
        path=folder,
        manifest=manifest,
        transformers=tuple(files[stem] for stem in transformers),
        text_encoder=files[TEXT_ENCODER],
        codec=files.get(CODEC),
        image_encoder=files.get(IMAGE_ENCODER),
        tokenizer=tokenizer,
    )


def check_recorded(folder: Path, name: str, record: FileRecord) -> None:
    """Check that a file of the manifest is there, and as long as that says. Raises WeightsError."""
    file = folder / name
    if Path(name).name != name or not file.is_file():
        raise WeightsError(f"{file} is missing, though {MANIFEST} names it; {FETCH}", code="weights_incomplete")
    check_size(file, record.bytes)


def verify(manifest: Manifest, files: Iterable[Path]) -> None:
    """Compare the SHA-256 of files below 64 MB with the manifest. Raises WeightsError naming the file."""
    for file in files:
        record = manifest.parts[file.name]
        if record.bytes < HASHED and file_hash(file) != record.sha256:
            raise WeightsError(
                f"{file} is damaged: its SHA-256 is not the one in {MANIFEST}; fetch it again", code="weights_damaged"
            )


def _check_unpacked(stem: str, module: nn.Module) -> None:
    """A packed weight is no parameter, and would be left out."""
    packed = [name for name, layer in module.named_modules() if isinstance(layer, PackedLinear)]
    if packed:
        raise UsageError(
            f"{stem}: {len(packed)} weights are packed as their file stores them, first {packed[0]}; "
            "load the model with keep_packed=False to save it",
            code="weights_packed",
        )


def _record(file: Path) -> FileRecord:
    return FileRecord(sha256=file_hash(file), bytes=file.stat().st_size)
