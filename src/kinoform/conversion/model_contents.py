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
    DIFFUSERS_EXPERTS,
    DIFFUSERS_TOKENIZER,
    MANIFEST,
    OFFICIAL_TOKENIZER,
    TOKENIZER_FILES,
    VOCABULARIES,
    check_folder,
)
from kinoform.families.identify import DetectedPart, Identity, detect, detect_opened
from kinoform.families.names import listed
from kinoform.families.released import expert_alone
from kinoform.loading.experts import ExpertPaths, pair_in, settled
from kinoform.loading.load import match
from kinoform.loading.own import Manifest, open_own, verify
from kinoform.loading.sources import Opening, Overrides, PartFile
from kinoform.loading.tokenizer_file import tokenizer_in
from kinoform.models.meta import on_meta

PARTS = (TRANSFORMER, TEXT_ENCODER, CODEC)

EXPERTS = {name: noise for noise, name in DIFFUSERS_EXPERTS.items()}
"""The noise that each transformer of a model is for, by the name of the part, where it has two."""


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
    """The parts by name: one of them, or all of a model with its tokenizer. `files` are all that is read.

    Of two experts, whose released `model` is named, the one for high noise is `transformer`, the other `transformer_2`.
    """

    path: Path
    parts: Mapping[str, Part]
    tokenizer: TokenizerParts | None
    files: tuple[Path, ...]
    model: str = ""

    @property
    def transformers(self) -> dict[str, Part]:
        """The transformer, or the two experts, by name of the part."""
        return {name: self.parts[name] for name in EXPERTS if name in self.parts}


def model_contents(path: Path, variant: str | None = None) -> ModelContents:
    """Open all parts by their headers.

    Raises WeightsError for parts damaged or there twice, and for those that kinoform cannot build.
    """
    parts: dict[str, Part] = {}
    homes: dict[str, OpenedFiles] = {}
    transformers: list[PartFile] = []
    files: list[Path] = []
    reader = HeaderReader()
    for weights in weight_sets(path):
        files += weights.files
        opened = open_set(weights, reader)
        known = detect_opened(opened)
        named = variant if any(item.identity.part == TRANSFORMER for item in known) else None
        detected = known if named is None else detect_opened(opened, named)
        for item in detected:
            part = item.identity.part
            others = tuple(other.identity.prefix for other in detected if other is not item)
            file = PartFile(files=opened, detected=item, others=others)
            if part == TRANSFORMER:
                transformers.append(file)
            elif part in homes:
                raise _two(part, homes[part], opened)
            else:
                homes[part], parts[part] = opened, _part(file)
    pair = None if len(transformers) < 2 else _pair(path, transformers, reader, variant)
    parts = {
        name: _part(file) for name, file in (pair or dict(zip(EXPERTS, transformers, strict=False))).items()
    } | parts
    if len(parts) == 1:
        return ModelContents(path=path, parts=parts, tokenizer=None, files=tuple(files))
    family = parts[TRANSFORMER].family if TRANSFORMER in parts else None
    seeing = family is not None and family.reads_images
    if lacking := [_word(part) for part in (*PARTS, *([IMAGE_ENCODER] if seeing else [])) if part not in parts]:
        raise WeightsError(
            f"{path} lacks the {' and the '.join(lacking)}; give a whole model (of ComfyUI's the folder above "
            "diffusion_models), or one part of it",
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
    model = _model(path, parts)
    tokenizer = _tokenizer(path, homes[TEXT_ENCODER])
    return ModelContents(path=path, parts=parts, tokenizer=tokenizer, files=(*files, *tokenizer.files), model=model)


def own_contents(folder: Path) -> ModelContents:
    """Open all parts of a folder of kinoform's own, whatever its recipe; tensors keep their names.

    Raises WeightsError as `open_own` and `verify` do, and for a file that is another part than its name says.
    """
    own = open_own(folder)
    held = {
        **dict(zip(EXPERTS, own.transformers, strict=False)),
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
    if [part.identity.part for part in detected] != [TRANSFORMER if name in EXPERTS else name]:
        raise WeightsError(f"{files[0]} is no {_word(name)}; fetch the folder again", code="weights_wrong_part")
    return Part(identity=detected[0].identity, tensors=file.checkpoint().tensors)


def _two(part: str, first: OpenedFiles, second: OpenedFiles) -> WeightsError:
    return WeightsError(
        f"{first.files[0]} and {second.files[0]} are both a {_word(part)}; give the folder or file of one model",
        code="weights_ambiguous",
    )


def _pair(path: Path, files: list[PartFile], reader: HeaderReader, variant: str | None) -> dict[str, PartFile]:
    """The two experts of a model, by name of the part. Raises WeightsError for other transformers in one folder."""
    for file in files:
        assert file.detected is not None
        _check(file.files.files[0], file.detected)
    by_file = {file.files.files[0]: file for file in files}
    paths = _own_pair(list(by_file)) if (path / MANIFEST).is_file() else pair_in(path, list(by_file), reader)
    if paths is None:
        raise _two(TRANSFORMER, files[0].files, files[1].files)
    by_noise = {noise: _expert(by_file[file], noise, variant) for noise, file in paths.by_noise().items()}
    opening = Opening(reader=reader, overrides=Overrides(), variant=variant)
    return dict(zip(EXPERTS, settled(path, by_noise, opening, whole=True).files, strict=True))


def _expert(file: PartFile, noise: str, variant: str | None) -> PartFile:
    """The same as one of two experts, as which its names speak for other models."""
    opened = file.files
    found = detect(opened.tensors, path=opened.files[0], metadata=opened.metadata, flag=variant, expert=noise)
    return replace(file, detected=next(item for item in found if item.identity.part == TRANSFORMER))


def _own_pair(files: list[Path]) -> ExpertPaths | None:
    """The two transformers of a folder of kinoform's own, of which the second is for low noise."""
    second = DIFFUSERS_EXPERTS["low"]
    high, low = ([file for file in files if file.name.startswith(second) is is_second] for is_second in (False, True))
    return ExpertPaths(high=high[0], low=low[0]) if len(high) == len(low) == 1 else None


def _model(path: Path, parts: Mapping[str, Part]) -> str:
    """The name of the model that two experts make, "" of one transformer. Raises WeightsError for one expert alone."""
    check_folder(path)
    transformer = parts[TRANSFORMER]
    assert transformer.family is not None, "parts that only a recipe describes are refused"
    chosen = [model for model in transformer.family.released if model.name == transformer.identity.chosen]
    experts = [model for model in chosen or transformer.family.released if model.noise]
    if len(parts.keys() & EXPERTS.keys()) > 1:
        return experts[0].model
    if len(experts) == len(chosen or transformer.family.released):
        raise expert_alone(
            path, *dict.fromkeys(model.model for model in experts), noise=chosen[0].noise if chosen else ""
        )
    return ""


def _part(file: PartFile) -> Part:
    detected = file.detected
    assert detected is not None, "parts of kinoform's own come from `own_contents`"
    path, identity, family = file.files.files[0], detected.identity, detected.family
    _check(path, detected)
    assert family is not None, "_check refuses what only a recipe describes"
    stored = file.checkpoint().tensors
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
