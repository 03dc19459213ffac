"""Contents of a path, made ready to be written in another dialect: every tensor under kinoform's own name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kinoform.checkpoints.file_sets import STEM, TEXT_STEM, open_set, weight_sets
from kinoform.checkpoints.files import Checkpoint
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles
from kinoform.errors import WeightsError
from kinoform.families import ADAPTER_FAMILY, LORA_FAMILY
from kinoform.families.family import (
    CODEC,
    IMAGE_ENCODER,
    MODULE,
    TEXT_ENCODER,
    TRANSFORMER,
    UNREAD,
    Config,
    Family,
    Shapes,
    read_config,
)
from kinoform.families.folders import (
    CONFIG,
    DIFFUSERS_TOKENIZER,
    OFFICIAL_TOKENIZER,
    TOKENIZER_FILES,
    VOCABULARIES,
)
from kinoform.families.identify import DetectedPart, Identity, detect_opened
from kinoform.families.names import listed
from kinoform.loading.load import match
from kinoform.loading.own import Manifest, open_own, verify
from kinoform.loading.parts import the_only
from kinoform.loading.sources import PartFile
from kinoform.loading.tokenizer_file import tokenizer_in
from kinoform.models.meta import on_meta

PARTS = (TRANSFORMER, TEXT_ENCODER, CODEC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part, complete: `tensors` by own name, also those that no model reads.

    `family` is None for a part of kinoform's own that only its recipe describes; others have a `spec`, in which what
    neither shapes nor `config` tell is a guess.
    """

    identity: Identity
    tensors: Mapping[str, Stored]
    family: Family | None = None
    spec: Any = None
    shapes: Shapes | None = None
    config: Config | None = None

    def document(self, dialect: str) -> dict[str, object]:
        """The config.json of that dialect. Raises WeightsError where something in it is not known."""
        assert self.family is not None and self.shapes is not None, "recipes need no config.json"
        document = self.family.config(dialect, self.family.read(replace(self.shapes, strict=True), self.config))
        assert document is not None, f"{self.family.name} has a config.json in {dialect}"
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerParts:
    """The tokenizer of a model: its files, and the tensor that holds it in ComfyUI's text encoders."""

    files: tuple[Path, ...]
    tensor: Stored | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContents:
    """The parts by name: one of them, or all of a model with its tokenizer. `files` are all that is read."""

    path: Path
    parts: Mapping[str, Part]
    tokenizer: TokenizerParts | None
    files: tuple[Path, ...]


def model_contents(path: Path, variant: str | None = None) -> ModelContents:
    """Open all parts by their headers.

    Raises WeightsError for parts damaged or there twice, and for those that kinoform cannot build.
    """
    parts: dict[str, Part] = {}
    homes: dict[str, OpenedFiles] = {}
    files: list[Path] = []
    reader = HeaderReader()
    for weights in weight_sets(path):
        files += weights.files
        opened = open_set(weights, reader)
        known = detect_opened(opened)
        named = variant if any(item.identity.part == TRANSFORMER for item in known) else None
        detected = known if named is None else detect_opened(opened, named)
        for item in detected:
            identity = item.identity
            if identity.part in homes:
                both = f"{homes[identity.part].files[0]} and {weights.path}"
                raise WeightsError(
                    f"{both} are both a {_word(identity.part)}; give the folder or file of one model",
                    code="weights_ambiguous",
                )
            homes[identity.part] = opened
            others = tuple(other.identity.prefix for other in detected if other is not item)
            parts[identity.part] = _part(opened, item, others)
    if len(parts) == 1:
        return ModelContents(path=path, parts=parts, tokenizer=None, files=tuple(files))
    family = parts[TRANSFORMER].family if TRANSFORMER in parts else None
    seeing = family is not None and family.reads_images
    if lacking := [_word(part) for part in (*PARTS, *([IMAGE_ENCODER] if seeing else [])) if part not in parts]:
        raise WeightsError(
            f"{path} lacks the {' and the '.join(lacking)}; give a whole model, or one part of it",
            code="weights_incomplete",
        )
    assert family is not None, "parts that only a recipe describes are refused"
    if not family.supported:
        raise WeightsError(
            f"{path} has {family.description}; kinoform converts whole models that it makes videos with, else single "
            "parts",
            code="weights_unsupported_model",
        )
    if IMAGE_ENCODER in parts and not seeing:
        raise WeightsError(
            f"{path} has an image encoder, which {family.description} does not read; take it out", code="part_not_read"
        )
    tokenizer = _tokenizer(path, homes[TEXT_ENCODER])
    return ModelContents(path=path, parts=parts, tokenizer=tokenizer, files=(*files, *tokenizer.files))


def own_contents(folder: Path) -> ModelContents:
    """Open all parts of a folder of kinoform's own, whatever its recipe; tensors keep their names.

    Raises WeightsError as `open_own` and `verify` do, and for a file that is another part than its name says.
    """
    own = open_own(folder)
    held = {
        TRANSFORMER: the_only(own.transformers),
        TEXT_ENCODER: own.text_encoder,
        CODEC: own.codec,
        IMAGE_ENCODER: own.image_encoder,
    }
    parts = {name: _own_part(name, file, own.manifest) for name, file in held.items() if file is not None}
    files = [file for part in held.values() if part is not None for file in part.files.files]
    verify(own.manifest, [own.tokenizer.path])
    tokenizer = TokenizerParts(files=(own.tokenizer.path,))
    return ModelContents(path=folder, parts=parts, tokenizer=tokenizer, files=(*files, own.tokenizer.path))


def _own_part(name: str, file: PartFile, manifest: Manifest) -> Part:
    files = file.files.files
    verify(manifest, files)
    detected = detect_opened(file.files)
    if [part.identity.part for part in detected] != [name]:
        raise WeightsError(f"{files[0]} is no {_word(name)}; fetch the folder again", code="weights_wrong_part")
    return Part(identity=detected[0].identity, tensors=file.checkpoint().tensors)


def _part(opened: OpenedFiles, detected: DetectedPart, others: tuple[str, ...]) -> Part:
    path, identity, family = opened.files[0], detected.identity, detected.family
    _check(path, detected)
    assert family is not None, "_check refuses what only a recipe describes"
    stored = PartFile(files=opened, detected=detected, others=others).checkpoint().tensors
    named = ((detected.names.ours(name), tensor) for name, tensor in stored.items() if _used(name))
    tensors = {name: tensor for name, tensor in named if name is not None}
    by_name = {name: tensor.shape for name, tensor in tensors.items()}
    shapes = Shapes(path=path, by_name=by_name, strict=False)
    config = _config(path, identity)
    spec = family.read(shapes, config)
    match(on_meta(spec.build), Checkpoint(path=path, tensors=tensors), unused=family.unread(spec))
    return Part(identity=identity, tensors=tensors, family=family, spec=spec, shapes=shapes, config=config)


def _check(path: Path, detected: DetectedPart) -> None:
    identity, family = detected.identity, detected.family
    if family is LORA_FAMILY:
        raise WeightsError(
            f"{path} is a LoRA, which changes a model and is none; give it as --lora, no conversion is needed",
            code="weights_unsupported_model",
        )
    if family is None or family is ADAPTER_FAMILY:
        adapter = "an adapter, which is converted as a file of its own"
        held = "of a kind that only its recipe describes" if family is None else adapter
        raise WeightsError(
            f"{path} is {held}; kinoform converts only what it can build", code="weights_unsupported_model"
        )
    if identity.part == MODULE:
        raise WeightsError(
            f"{path} is {family.description}, no model; it is read as it is, with --vace",
            code="weights_unsupported_model",
        )
    if "time_layers" in identity.sizes:
        raise WeightsError(
            f"{path} has factorized blocks, for which no other dialect has names; load it as it is",
            code="weights_unsupported_model",
        )
    if identity.part == IMAGE_ENCODER and detected.dialect is not None and detected.dialect.own:
        raise WeightsError(
            f"{path} lacks the block of CLIP that no model reads; convert the file that it was made from",
            code="weights_incomplete",
        )
    unknown = tuple(name for name in identity.unknown if _used(name))
    for names, fault in ((identity.missing, "lacks"), (unknown, "holds, beside the model's,")):
        if names:
            raise WeightsError(
                f"{path} {fault} {len(names)} tensors ({listed(names)}); get the file of a whole model",
                code="weights_incomplete" if fault == "lacks" else "weights_unknown_keys",
            )


def _used(name: str) -> bool:
    return not any(fnmatchcase(name, pattern) for pattern in UNREAD)


def _config(path: Path, identity: Identity) -> Config | None:
    """The config.json that belongs to these weights, not to others beside it."""
    stems = (STEM, TEXT_STEM) if identity.dialect == "huggingface" else (STEM,)
    config = path.parent / CONFIG
    return read_config(config) if path.name.startswith(stems) and config.is_file() else None


def _tokenizer(path: Path, text_encoder: OpenedFiles) -> TokenizerParts:
    """Find the files of the first folder that has a tokenizer, and the tensor that is one. Raises WeightsError."""
    held = tokenizer_in(text_encoder)
    tensor = None if held is None else held.stored()
    root = path if path.is_dir() else path.parent
    folders = (root / OFFICIAL_TOKENIZER, root / DIFFUSERS_TOKENIZER, root, text_encoder.files[0].parent)
    for folder in folders:
        files = tuple(folder / file for file in TOKENIZER_FILES if (folder / file).is_file())
        if any(file.name in VOCABULARIES for file in files):
            return TokenizerParts(files=files, tensor=tensor)
    if tensor is None:
        looked = ", ".join(str(folder) for folder in dict.fromkeys(folders))
        raise WeightsError(
            f"{path} has no tokenizer: no {' or '.join(VOCABULARIES)} in {looked}", code="tokenizer_missing"
        )
    return TokenizerParts(files=(), tensor=tensor)


def _word(part: str) -> str:
    return part.replace("_", " ")
