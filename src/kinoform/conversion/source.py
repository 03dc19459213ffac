"""What a path holds, made ready to be written in another dialect: every tensor under its official name."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from kinoform.checkpoints.file_sets import STEM, TEXT_STEM
from kinoform.checkpoints.files import Checkpoint
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles
from kinoform.errors import WeightsError
from kinoform.families import clip_qkv as clip
from kinoform.families.config_file import Config, read_config
from kinoform.families.configs import MODEL_TYPES, Untold, untold
from kinoform.families.dialects import HUGGINGFACE_TO_OFFICIAL_TOWER, OPENCLIP_TO_OFFICIAL
from kinoform.families.identify import Identity, identify_opened
from kinoform.families.kinds import KINDS, Kind, translation
from kinoform.families.names import DIT, IMAGE_ENCODER, TEXT_ENCODER, VAE21
from kinoform.families.specs import Shapes, codec_spec, side_blocks, text_spec, transformer_spec, vision_spec
from kinoform.families.usable import FAMILIES, READ_IMAGES, WANTED
from kinoform.families.weight_sets import open_set, weight_sets
from kinoform.loading.diffusers import TOKENIZER as DIFFUSERS_TOKENIZER
from kinoform.loading.load import match, on_meta
from kinoform.loading.official import CONFIG, TOKENIZER
from kinoform.loading.parts import UNUSED
from kinoform.loading.sources import PartFile
from kinoform.loading.tokenizer_file import tokenizer_in
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.tokenizer import JSON_FILE, SENTENCEPIECE_FILE
from kinoform.models.vae import VAESpec
from kinoform.models.vision import VisionSpec

PARTS, IMAGE = ("transformer", "text_encoder", "codec"), "image_encoder"
HELD = {
    "kinoform": "of a kind that only its recipe describes",
    "adapter": "an adapter, which is converted as a file of its own",
}
LISTED, LONGEST = 3, 80
TABLES = {"transformer": DIT, "text_encoder": TEXT_ENCODER, "codec": VAE21, IMAGE: IMAGE_ENCODER}
TOWERS = {"huggingface": HUGGINGFACE_TO_OFFICIAL_TOWER, "openclip": OPENCLIP_TO_OFFICIAL}
HEADS = ("head", "proj")
"""CLIP's way to its text tower, official and OpenCLIP's, which no video model reads."""

BUILT = {*MODEL_TYPES, "umt5", "vae21", "clip"}
TOKENIZER_FILES = (JSON_FILE, SENTENCEPIECE_FILE, "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part, complete: `tensors` by official name, and what no shape tells.

    Those of an image encoder are without prefix, and have q, k and v apart.
    """

    identity: Identity
    tensors: Mapping[str, Stored]
    untold: Untold
    codec: VAESpec | None = None
    image: VisionSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The tokenizer of a model: its files, and the tensor that holds it in ComfyUI's text encoders."""

    files: tuple[Path, ...]
    tensor: Stored | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """The parts by name: one of them, or all of a model with its tokenizer. `files` are all that is read."""

    path: Path
    parts: Mapping[str, Part]
    vocabulary: Vocabulary | None
    files: tuple[Path, ...]


def holdings(path: Path, variant: str | None = None) -> Holdings:
    """Headers only. Raises WeightsError for parts damaged or there twice, and for what kinoform cannot build."""
    parts: dict[str, Part] = {}
    homes: dict[str, OpenedFiles] = {}
    files: list[Path] = []
    reader = HeaderReader()
    for weights in weight_sets(path):
        files += weights.files
        opened = open_set(weights, reader)
        known = identify_opened(opened)
        named = variant if any(each.part == "transformer" for each in known) else None
        identities = known if named is None else identify_opened(opened, named)
        for identity in identities:
            if identity.part in homes:
                both = f"{homes[identity.part].files[0]} and {weights.path}"
                raise WeightsError(
                    f"{both} are both a {_word(identity.part)}; give the folder or file of one model",
                    code="weights_ambiguous",
                )
            homes[identity.part] = opened
            others = tuple(each.prefix for each in identities if each is not identity)
            parts[identity.part] = _part(opened, identity, others)
    if len(parts) == 1:
        return Holdings(path=path, parts=parts, vocabulary=None, files=tuple(files))
    seeing = "transformer" in parts and parts["transformer"].identity.family in READ_IMAGES
    if lacking := [_word(part) for part in (*PARTS, *([IMAGE] if seeing else [])) if part not in parts]:
        raise WeightsError(
            f"{path} lacks the {' and the '.join(lacking)}; give a whole model, or one part of it",
            code="weights_incomplete",
        )
    family = parts["transformer"].identity.family
    if family not in WANTED["transformer"]:
        raise WeightsError(
            f"{path} has {FAMILIES[family]}; kinoform converts whole models of Wan 2.1, else single parts",
            code="weights_unsupported_model",
        )
    if IMAGE in parts and not seeing:
        raise WeightsError(
            f"{path} has an image encoder, which {FAMILIES[family]} does not read; take it out", code="part_not_read"
        )
    vocabulary = _vocabulary(path, homes["text_encoder"])
    return Holdings(path=path, parts=parts, vocabulary=vocabulary, files=(*files, *vocabulary.files))


def _part(opened: OpenedFiles, identity: Identity, others: tuple[str, ...]) -> Part:
    path = opened.files[0]
    _check(path, identity)
    kind = next(kind for kind in KINDS if (kind.part, kind.dialect) == (identity.part, identity.dialect))
    stored = PartFile(files=opened, identity=identity, others=others, unused=kind.unused).checkpoint().tensors
    official = _official(kind, stored)
    tensors = {
        name: each for spelled, each in stored.items() if (name := official(spelled)) is not None and _used(spelled)
    }
    config = _config(path, identity)
    table = TABLES[identity.part]
    own = Shapes(path=path, by_name={table.ours(name) or name: each.shape for name, each in tensors.items()})
    spec = _spec(own, identity, config)
    unused = clip.unused(spec.layers) if isinstance(spec, VisionSpec) else ()
    match(on_meta(spec.build), Checkpoint(path=path, tensors=tensors), names=table, unused=unused)
    if isinstance(spec, VAESpec):
        return Part(identity=identity, tensors=tensors, untold=Untold(), codec=spec)
    if isinstance(spec, VisionSpec):
        return Part(identity=identity, tensors=tensors, untold=Untold(), image=spec)
    more = Untold() if config is None else untold(config)
    if isinstance(spec, DiTSpec) and (side := side_blocks(spec)) is not None:
        more = replace(more, side_layers=side.layers)
    return Part(identity=identity, tensors=tensors, untold=more)


def _official(kind: Kind, names: Iterable[str]) -> Callable[[str], str | None]:
    """From the names of a dialect; None for what has no official name."""
    if kind.part != IMAGE:
        return translation(kind, names).official
    return TOWERS[kind.dialect].ours if kind.dialect in TOWERS else str


def _check(path: Path, identity: Identity) -> None:
    if identity.family == "lora":
        raise WeightsError(
            f"{path} is a LoRA, which changes a model and is none; give it as --lora, no conversion is needed",
            code="weights_unsupported_model",
        )
    if identity.family not in BUILT:
        held = FAMILIES.get(identity.family) or HELD.get(identity.family, f"a {identity.family}")
        raise WeightsError(
            f"{path} is {held}; kinoform converts only what it can build", code="weights_unsupported_model"
        )
    if "time_layers" in identity.sizes:
        raise WeightsError(
            f"{path} has factorized blocks, for which no other dialect has names; load it as it is",
            code="weights_unsupported_model",
        )
    if identity.part == IMAGE and identity.dialect == "kinoform":
        raise WeightsError(
            f"{path} lacks the block of CLIP that no model reads; convert the file that it was made from",
            code="weights_incomplete",
        )
    missing = tuple(name for name in identity.missing if identity.part != IMAGE or not name.endswith(HEADS))
    unknown = tuple(name for name in identity.unknown if _used(name))
    for names, fault in ((missing, "lacks"), (unknown, "holds, beside the model's,")):
        if names:
            shown = ", ".join(name[:LONGEST] for name in names[:LISTED])
            raise WeightsError(
                f"{path} {fault} {len(names)} tensors ({shown}); get the file of a whole model",
                code="weights_incomplete" if fault == "lacks" else "weights_unknown_keys",
            )


def _used(name: str) -> bool:
    return not any(fnmatchcase(name, pattern) for pattern in UNUSED)


def _config(path: Path, identity: Identity) -> Config | None:
    """The config.json that belongs to these weights, not to others beside it."""
    stems = (STEM, TEXT_STEM) if identity.dialect == "huggingface" else (STEM,)
    config = path.parent / CONFIG
    return read_config(config) if path.name.startswith(stems) and config.is_file() else None


def _spec(own: Shapes, identity: Identity, config: Config | None) -> DiTSpec | TextSpec | VAESpec | VisionSpec:
    """Of a transformer all but its heads, of which no shape depends."""
    if identity.part == "codec":
        return _codec(own, config)
    if identity.part == IMAGE:
        return vision_spec(own, heads=None if config is None else config.number("num_attention_heads"))
    if config is not None:
        config.check({"num_layers": identity.sizes["layers"]})
    if identity.part == "text_encoder":
        return text_spec(own)
    sides = None if config is None else config.rising("vace_layers", own.blocks())
    return transformer_spec(own, heads=1, side_layers=sides)


def _codec(own: Shapes, config: Config | None) -> VAESpec:
    spec = codec_spec(own)
    if config is None or "latents_mean" not in config.values:
        return spec
    mean, std = (config.numbers(f"latents_{key}", spec.channels) for key in ("mean", "std"))
    return replace(spec, mean=mean, std=std)


def _vocabulary(path: Path, text_encoder: OpenedFiles) -> Vocabulary:
    """The files of the first folder that has a tokenizer, and the tensor that is one. Raises WeightsError."""
    held = tokenizer_in(text_encoder)
    tensor = None if held is None else held.stored()
    root = path if path.is_dir() else path.parent
    folders = (root / TOKENIZER, root / DIFFUSERS_TOKENIZER, root, text_encoder.files[0].parent)
    for folder in folders:
        files = tuple(folder / file for file in TOKENIZER_FILES if (folder / file).is_file())
        if any(file.name in (JSON_FILE, SENTENCEPIECE_FILE) for file in files):
            return Vocabulary(files=files, tensor=tensor)
    if tensor is None:
        looked = ", ".join(str(folder) for folder in dict.fromkeys(folders))
        raise WeightsError(
            f"{path} has no tokenizer: no {JSON_FILE} or {SENTENCEPIECE_FILE} in {looked}", code="tokenizer_missing"
        )
    return Vocabulary(files=(), tensor=tensor)


def _word(part: str) -> str:
    return part.replace("_", " ")
