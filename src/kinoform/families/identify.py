"""Detection of the part and the model that a set of tensors is, by names and shapes alone.

A part is known by names that only it has, whatever stands before them; its other names are then translated
to kinoform's own, and compared with those of the module that it is loaded into.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from kinoform.checkpoints.file_sets import open_set, weight_sets
from kinoform.checkpoints.headers import read_json
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles
from kinoform.checkpoints.storage import Described, is_side, storage, tensor_stats
from kinoform.checkpoints.unsupported import check_storage
from kinoform.errors import WeightsError
from kinoform.families import ADAPTER_FAMILY, FAMILIES, LORA_FAMILY, released_models
from kinoform.families.adapter import DOWN, adapter_claims, experts_in, is_adapter
from kinoform.families.family import AVERAGE, MODULE, OWN_NAMES, TRANSFORMER, UNREAD, Dialect, Family, Shapes
from kinoform.families.folders import MANIFEST
from kinoform.families.lora import lora_dialect, lora_prefix, lora_sizes, methods, piece_of
from kinoform.families.lora_config import peft_method
from kinoform.families.lora_names import wan_names
from kinoform.families.names import Names
from kinoform.families.relatives import check_relative, is_module, not_wan, notes_on_names, stranger
from kinoform.families.released import choose, fitting, names_of, of_tuning
from kinoform.families.vace_module import bases_of

if TYPE_CHECKING:
    from kinoform.checkpoints.files import Checkpoint

MAX_LENGTH = 256
VOCABULARY = "spiece_model"
"""A tensor of bytes in ComfyUI's text encoders, under any prefix: the SentencePiece model of the tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One part of a model as its names and shapes tell, no number of it read.

    `part` is transformer, text_encoder, codec, image_encoder, module, lora or adapter. `family` is the name of its
    family, or kinoform for one that only its recipe describes. `dialect` tells whose names these are behind the
    `prefix`. `storage` is plain, fp8 (a cast), fp8-scaled, fp8-mixed or gguf. `sizes` are read off the shapes;
    `dtypes` count tensors; `parameters` are numbers without scales.

    `candidates` are the released models that fit, `chosen` the one that `evidence` points at: flag, structure, folder,
    file name, metadata, settings; or manifest, which names the recipe of a folder of kinoform's own. Of an adapter,
    `chosen` is its recipe and `base` the name and the hash of the model that it is for; of a module, `chosen` is the
    model that it makes of `base`. `notes` are sentences about settings and inputs that its names call for. `doubt`
    names facts that its names tell and no candidate has; then nothing is chosen. `missing` are names that the file
    lacks, as it would spell them; `unknown`, names in the file that no such model has. `methods` are those in a LoRA
    that kinoform does not read, such as DoRA.
    """

    part: str
    family: str
    dialect: str
    prefix: str
    storage: str
    sizes: Mapping[str, int]
    dtypes: Mapping[str, int]
    tensors: int
    parameters: int
    bytes: int
    candidates: tuple[str, ...] = ()
    chosen: str | None = None
    evidence: str = ""
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    base: str = ""
    methods: tuple[str, ...] = ()
    doubt: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The place of a set of tensors, their metadata, and the released model that the user says they are.

    `expert` is the noise that a transformer is given for as one of two.
    """

    path: Path
    metadata: Mapping[str, str]
    flag: str | None
    expert: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedPart:
    """One part of a file: its identity in words, and the values by which it is read.

    `family` is None for a part that only its recipe describes; a LoRA and an adapter have no `dialect`. `names` leads
    from the names behind `identity.prefix`, as the dialect prepares them, to kinoform's own.
    """

    identity: Identity
    family: Family | None = None
    dialect: Dialect | None = None
    names: Names = OWN_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDialect:
    """One part in one dialect, which several families may share."""

    part: str
    dialect: Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The sizes of a part, and the names of the file that its module lacks or needs."""

    sizes: Mapping[str, int]
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def inspect_path(path: Path, flag: str | None = None) -> tuple[Identity, ...]:
    """Identify the parts in a file or a folder of any layout; errors as in `detect`, and as for damaged files."""
    reader = HeaderReader()
    return tuple(part.identity for files in weight_sets(path) for part in detect_opened(open_set(files, reader), flag))


def detect_opened(opened: OpenedFiles, flag: str | None = None) -> tuple[DetectedPart, ...]:
    """Detect the parts in one set of files; the manifest of kinoform's own folders names their recipe."""
    path = opened.files[0]
    parts = detect(opened.tensors, path=path, metadata=opened.metadata, flag=flag)
    manifest = path.parent / MANIFEST
    if all(part.dialect is None or not part.dialect.own for part in parts) or not manifest.is_file():
        return parts
    recipe = read_json(manifest).get("recipe")
    if not isinstance(recipe, str) or len(recipe) > MAX_LENGTH:
        raise WeightsError(f"{manifest} names no recipe; fetch the folder again", code="manifest_damaged")
    return tuple(
        replace(part, identity=replace(part.identity, candidates=(recipe,), chosen=recipe, evidence="manifest"))
        for part in parts
    )


def detect(
    tensors: Mapping[str, Described],
    *,
    path: Path,
    metadata: Mapping[str, str],
    flag: str | None = None,
    expert: str = "",
) -> tuple[DetectedPart, ...]:
    """Detect every part that lies in one file, the transformer first.

    `expert` is the noise, high or low, that the transformer is given for as one of two. Raises WeightsError when the
    tensors are no part of a Wan model, or of a relative that kinoform does not know; UsageError when `flag`, a
    released model's name, contradicts the structure.
    """
    source = Source(path=path, metadata=metadata, flag=flag, expert=expert)
    if is_adapter(metadata):
        return (DetectedPart(identity=_adapter(tensors, source), family=ADAPTER_FAMILY),)
    kinds = {kind: averaged(prefixes) for kind, prefixes in _kinds(tensors).items()}
    if not kinds and (dialect := lora_dialect(tensors)) is not None:
        return (DetectedPart(identity=_lora(tensors, dialect, source), family=LORA_FAMILY),)
    if not kinds and stranger(tensors):
        raise not_wan(path, tensors)
    check_storage(path, tensors, metadata)
    if not kinds:
        raise not_wan(path, tensors)
    _check_single(path, kinds)
    prefixes = {kind: held[0] for kind, held in kinds.items()}
    held, left = _divided(tensors, prefixes)
    parts = [_part(kind, prefix, held[kind], source) for kind, prefix in prefixes.items()]
    unused = tuple(start for kind in prefixes for start in kind.dialect.unused)
    unknown = tuple(name for name in left if not name.startswith(unused) and AVERAGE + name not in tensors)
    first = parts[0].identity
    parts[0] = replace(parts[0], identity=replace(first, unknown=first.unknown + unknown))
    return tuple(parts)


def fragment_of(names: Iterable[str]) -> Family | None:
    """The family of which all of these names are, though too few of them are there to tell a part by.

    None for names that programs of all kinds have, for LoRA files, and for modules that come in files of their own.
    """
    held = tuple(names)
    usual = all(name.count(".") < 2 for name in held)
    if usual or _kinds(held) or lora_dialect(held) is not None or stranger(held) or is_module(held):
        return None
    for family in FAMILIES:
        for dialect in family.dialects:
            bare = [name.removeprefix(dialect.prefix) for name in held]
            if not dialect.own and None not in map(dialect.names(bare).ours, bare):
                return family
    return None


def _kinds(names: Iterable[str]) -> dict[PartDialect, tuple[str, ...]]:
    """The parts and dialects whose signatures are in the names, with the prefixes before them; transformers first.

    A module in the same files as a transformer is a part of that.
    """
    kinds = [PartDialect(part=family.part, dialect=dialect) for family in FAMILIES for dialect in family.dialects]
    known: dict[str, list[PartDialect]] = {}
    for kind in dict.fromkeys(kinds):
        for signature in kind.dialect.signatures:
            known.setdefault(signature, []).append(kind)
    counts: Counter[tuple[PartDialect, str]] = Counter()
    deepest = max(signature.count(".") for signature in known) + 1
    for name in names:
        words = name.rsplit(".", deepest)
        for first in range(len(words)):
            signature = ".".join(words[first:])
            counts.update((kind, name.removesuffix(signature)) for kind in known.get(signature, ()))
    result = {
        kind: tuple(sorted(prefix for held, prefix in counts if held == kind and counts[kind, prefix] >= needed))
        for kind, needed in ((kind, kind.dialect.needed) for kind in dict.fromkeys(kinds))
    }
    whole = any(prefixes and kind.part == TRANSFORMER for kind, prefixes in result.items())
    return {kind: prefixes for kind, prefixes in result.items() if prefixes and not (whole and kind.part == MODULE)}


def averaged(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """The prefixes without those beside which the same part stands as an average of its training."""
    return tuple(prefix for prefix in prefixes if AVERAGE + prefix not in prefixes)


def _check_single(path: Path, kinds: Mapping[PartDialect, tuple[str, ...]]) -> None:
    by_part: dict[str, list[str]] = {}
    for kind, prefixes in kinds.items():
        by_part.setdefault(kind.part, []).extend(prefixes)
    for part, prefixes in by_part.items():
        if len(prefixes) > 1:
            listed = " and ".join(repr(prefix[:60]) for prefix in prefixes[:3])
            raise WeightsError(
                f"{path} holds more than one {part}, under the prefixes {listed}; keep one of them",
                code="weights_ambiguous",
            )


def _divided(
    tensors: Mapping[str, Described], prefixes: Mapping[PartDialect, str]
) -> tuple[dict[PartDialect, dict[str, Described]], list[str]]:
    """The tensors of each part, without its prefix; and names that stand under none."""
    longest_first = sorted(prefixes, key=lambda kind: len(prefixes[kind]), reverse=True)
    held: dict[PartDialect, dict[str, Described]] = {kind: {} for kind in prefixes}
    left: list[str] = []
    for name, tensor in tensors.items():
        kind = next((kind for kind in longest_first if name.startswith(prefixes[kind])), None)
        if name.rpartition(".")[2] == VOCABULARY:
            continue
        if kind is None:
            left.append(name)
        else:
            held[kind][name.removeprefix(prefixes[kind])] = tensor
    return held, left


def _part(kind: PartDialect, prefix: str, tensors: Mapping[str, Described], source: Source) -> DetectedPart:
    weights = {name: tensor for name, tensor in tensors.items() if not is_side(name)}
    held = kind.dialect.prepare(_without_data(source.path, weights)).tensors
    table = kind.dialect.names(held)
    own = {name: table.ours(name) for name in held}
    by_name = {ours: held[name].shape for name, ours in own.items() if ours is not None}
    shapes = Shapes(path=source.path, by_name=by_name, own=kind.dialect.own, strict=False, spelled=table.spelled)
    families = [family for family in FAMILIES if kind.dialect in family.dialects]
    family = next((family for family in families if family.fits(shapes)), None)
    if kind.part == TRANSFORMER and not kind.dialect.own:
        check_relative(source.path, family, shapes, weights)
    family = family or (None if kind.dialect.own else families[0])
    comparison = Comparison(sizes={}) if family is None else _compared(family, kind.dialect, shapes, own, table)
    if kind.dialect.own and comparison.unknown:
        # Parts that no released model has: a recipe alone says what must be there.
        family, comparison = None, replace(comparison, missing=(), unknown=())
    identity = replace(
        _identity(tensors, source, kind.part, kind.dialect.name, comparison.sizes),
        family="kinoform" if family is None else family.name,
        prefix=prefix,
        missing=tuple(prefix + name for name in comparison.missing),
        unknown=tuple(prefix + name for name in comparison.unknown),
    )
    if kind.part in (TRANSFORMER, MODULE):
        names = names_of(source.path, source.metadata)
        identity = replace(identity, notes=notes_on_names(names.near))
        if family is not None:
            models = fitting(family, comparison.sizes, source.expert)
            models = models if source.flag else of_tuning(models, names)
            choice = choose(models, family, path=source.path, names=names, flag=source.flag, expert=source.expert)
            identity = replace(
                identity,
                candidates=tuple(model.name for model in models),
                chosen=choice.name,
                evidence=choice.evidence,
                doubt=choice.doubt,
            )
        if kind.part == MODULE:
            onto = bases_of(identity.candidates if identity.chosen is None else (identity.chosen,))
            identity = replace(identity, base=", ".join(onto))
    return DetectedPart(identity=identity, family=family, dialect=kind.dialect, names=table)


def _identity(
    tensors: Mapping[str, Described], source: Source, part: str, dialect: str, sizes: Mapping[str, int]
) -> Identity:
    stats = tensor_stats(tensors)
    return Identity(
        part=part,
        family=part,
        dialect=dialect,
        prefix="",
        storage=storage(tensors, source.path, source.metadata),
        sizes=sizes,
        dtypes=stats.dtypes,
        tensors=stats.tensors,
        parameters=stats.parameters,
        bytes=stats.bytes,
    )


def _compared(
    family: Family, dialect: Dialect, shapes: Shapes, own: Mapping[str, str | None], table: Names
) -> Comparison:
    """Compare the names with those of the module that such a part is loaded into."""
    # PyTorch takes seconds, which refusals of files that are no model do without.
    from kinoform.models.meta import on_meta

    spec = family.spec(shapes)
    expected = [name for name, _ in on_meta(spec.build).named_parameters()]
    known = {*expected}
    unread = (*UNREAD, *family.unread(spec))
    unknown = (
        name
        for name, ours in own.items()
        if ours not in known
        and not name.startswith(dialect.unused)
        and not any(fnmatchcase(ours or name, pattern) for pattern in unread)
    )
    missing = (table.spelled(name) for name in expected if name not in shapes.by_name)
    return Comparison(sizes=family.sizes(spec), missing=tuple(missing), unknown=tuple(unknown))


def _without_data(path: Path, tensors: Mapping[str, Described]) -> Checkpoint:
    """Make a checkpoint of headers, of which no number can be read; dtypes are all the same."""
    from torch import Tensor, float32

    from kinoform.checkpoints.files import Checkpoint
    from kinoform.checkpoints.formats import Stored

    def read() -> Tensor:
        raise AssertionError("detection reads no numbers")

    stored = {
        name: Stored(shape=tuple(tensor.shape), dtype=float32, file=path, read=read) for name, tensor in tensors.items()
    }
    return Checkpoint(path=path, tensors=stored)


def _lora(tensors: Mapping[str, Described], dialect: str, source: Source) -> Identity:
    sizes = lora_sizes(tensors)
    left = [name for name in tensors if piece_of(name) is None]
    known = wan_names(sizes.get("layers", 0)) if left else None  # whole parameters have no ending that tells them
    return replace(
        _identity(tensors, source, LORA_FAMILY.part, dialect, sizes),
        prefix=lora_prefix(tensors),
        candidates=tuple(model.name for model in released_models() if model.dim == sizes.get("dim")),
        unknown=tuple(name for name in left if known is None or known.parameter(name, ("",)) is None),
        methods=_unread_methods(tensors, source),
    )


def _unread_methods(tensors: Mapping[str, Described], source: Source) -> tuple[str, ...]:
    """Methods of a LoRA that are not read: by its tensors, else by peft's settings."""
    method = peft_method(source.path, source.metadata)
    return methods(tensors) or (() if method is None else (method,))


def _adapter(tensors: Mapping[str, Described], source: Source) -> Identity:
    claims = adapter_claims(source.path, source.metadata)
    ranks = [tensor.shape[0] for name, tensor in tensors.items() if name.endswith(DOWN) and tensor.shape]
    sizes = {"added": len(tensors) - 2 * len(ranks), "changed": len(ranks), "rank": max(ranks, default=0)}
    sizes |= {"experts": len(experts_in(tensors))}
    return replace(
        _identity(tensors, source, ADAPTER_FAMILY.part, "kinoform", {name: n for name, n in sizes.items() if n}),
        candidates=(claims.recipe,),
        chosen=claims.recipe,
        evidence="metadata",
        base=f"{claims.base} {claims.base_hash}",
    )
