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

from kinoform.checkpoints.headers import read_json
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles
from kinoform.checkpoints.storage import Described, is_side, storage, tensor_stats
from kinoform.checkpoints.unsupported import check_storage
from kinoform.errors import WeightsError
from kinoform.families import FAMILIES, released_models
from kinoform.families.adapter_files import DOWN, adapter_claims, is_adapter
from kinoform.families.family import OWN_NAMES, TRANSFORMER, UNREAD, Dialect, Family, Shapes
from kinoform.families.foreign import check_relative, foreign, not_wan
from kinoform.families.hints import hints
from kinoform.families.identity import Identity
from kinoform.families.lora_config import peft_method
from kinoform.families.lora_endings import methods
from kinoform.families.lora_files import is_undotted, lora_dialect, lora_prefix, lora_sizes, not_lora
from kinoform.families.names import Names
from kinoform.families.released import Choice, choose, fitting
from kinoform.families.spoken import names_of
from kinoform.families.weight_sets import open_set, weight_sets

if TYPE_CHECKING:
    from kinoform.checkpoints.files import Checkpoint

__all__ = ["DetectedPart", "Identity", "detect", "identify", "identify_opened", "identify_parts", "inspect_path"]

MANIFEST = "manifest.json"
LONGEST = 256
VOCABULARY = "spiece_model"
"""A tensor of bytes in ComfyUI's text encoders, under any prefix: the SentencePiece model of the tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Evidence for one of several models that share a structure."""

    path: Path
    metadata: Mapping[str, str]
    flag: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedPart:
    """One part of a file: what it is in words, and the values by which it is read.

    `family` is None for a LoRA, an adapter, and a part that only its recipe describes; the first two have no `dialect`
    either. `names` leads from the names behind `identity.prefix`, as the dialect prepares them, to kinoform's own.
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


_NOTHING = Comparison(sizes={})


def inspect_path(path: Path, flag: str | None = None) -> tuple[Identity, ...]:
    """The parts in a file or a folder of any layout; errors as in `identify`, and as for damaged files."""
    reader = HeaderReader()
    return tuple(part for weights in weight_sets(path) for part in identify_opened(open_set(weights, reader), flag))


def identify_opened(opened: OpenedFiles, flag: str | None = None) -> tuple[Identity, ...]:
    """The parts in one set of files; those of kinoform's own folders are told by their manifest."""
    return tuple(part.identity for part in detect_opened(opened, flag))


def detect_opened(opened: OpenedFiles, flag: str | None = None) -> tuple[DetectedPart, ...]:
    """The same with the family and the dialect of each part."""
    path = opened.files[0]
    parts = detect(opened.tensors, path=path, metadata=opened.metadata, flag=flag)
    manifest = path.parent / MANIFEST
    if all(part.dialect is None or not part.dialect.own for part in parts) or not manifest.is_file():
        return parts
    recipe = read_json(manifest).get("recipe")
    if not isinstance(recipe, str) or len(recipe) > LONGEST:
        raise WeightsError(f"{manifest} names no recipe; fetch the folder again", code="manifest_damaged")
    return tuple(
        replace(part, identity=replace(part.identity, candidates=(recipe,), chosen=recipe, evidence="manifest"))
        for part in parts
    )


def identify(
    tensors: Mapping[str, Described], *, path: Path, metadata: Mapping[str, str], flag: str | None = None
) -> Identity:
    """The one part that these tensors are; of several parts the sum, with the transformer's family.

    Raises WeightsError when they are no part of a Wan model, or of a relative that kinoform does not know;
    UsageError when `flag`, a released model's name, contradicts the structure.
    """
    parts = identify_parts(tensors, path=path, metadata=metadata, flag=flag)
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        part="checkpoint",
        prefix="",
        dtypes=dict(sorted(sum((Counter(part.dtypes) for part in parts), Counter[str]()).items())),
        tensors=sum(part.tensors for part in parts),
        parameters=sum(part.parameters for part in parts),
        bytes=sum(part.bytes for part in parts),
        missing=tuple(name for part in parts for name in part.missing),
        unknown=tuple(name for part in parts for name in part.unknown),
    )


def identify_parts(
    tensors: Mapping[str, Described], *, path: Path, metadata: Mapping[str, str], flag: str | None = None
) -> tuple[Identity, ...]:
    """Every part that lies in one file, the transformer first; errors as in `identify`."""
    return tuple(part.identity for part in detect(tensors, path=path, metadata=metadata, flag=flag))


def detect(
    tensors: Mapping[str, Described], *, path: Path, metadata: Mapping[str, str], flag: str | None = None
) -> tuple[DetectedPart, ...]:
    """Every part that lies in one file with the family and the dialect it is of; errors as in `identify`."""
    evidence = Evidence(path=path, metadata=metadata, flag=flag)
    if is_adapter(metadata):
        return (DetectedPart(identity=_adapter(tensors, evidence)),)
    found = kinds(tensors)
    if not found and (dialect := lora_dialect(tensors)) is not None:
        return (DetectedPart(identity=_lora(tensors, dialect, evidence)),)
    if not found and foreign(tensors):
        raise not_wan(path, tensors)
    check_storage(path, tensors, metadata)
    if not found:
        raise not_wan(path, tensors)
    _check_single(path, found)
    prefixes = {kind: held[0] for kind, held in found.items()}
    held, left = _shared_out(tensors, prefixes)
    parts = [_part(kind, prefix, held[kind], evidence) for kind, prefix in prefixes.items()]
    unused = tuple(start for kind in prefixes for start in kind.dialect.unused)
    strangers = tuple(name for name in left if not name.startswith(unused))
    first = parts[0].identity
    parts[0] = replace(parts[0], identity=replace(first, unknown=first.unknown + strangers))
    return tuple(parts)


def kinds(names: Iterable[str]) -> dict[PartDialect, tuple[str, ...]]:
    """The parts and dialects that names speak for, with the prefixes under which they stand; transformers first."""
    dialects: dict[PartDialect, list[Family]] = {}
    for family in FAMILIES:
        for dialect in family.dialects:
            dialects.setdefault(PartDialect(part=family.part, dialect=dialect), []).append(family)
    known: dict[str, list[PartDialect]] = {}
    for kind in dialects:
        for signature in kind.dialect.signatures:
            known.setdefault(signature, []).append(kind)
    counts: Counter[tuple[PartDialect, str]] = Counter()
    deepest = max(signature.count(".") for signature in known) + 1
    for name in names:
        words = name.rsplit(".", deepest)
        for first in range(len(words)):
            signature = ".".join(words[first:])
            counts.update((kind, name.removesuffix(signature)) for kind in known.get(signature, ()))
    found = {
        kind: tuple(sorted(prefix for held, prefix in counts if held == kind and counts[kind, prefix] >= needed))
        for kind, needed in ((kind, kind.dialect.needed) for kind in dialects)
    }
    return {kind: prefixes for kind, prefixes in found.items() if prefixes}


def _check_single(path: Path, found: Mapping[PartDialect, tuple[str, ...]]) -> None:
    places: dict[str, list[str]] = {}
    for kind, prefixes in found.items():
        places.setdefault(kind.part, []).extend(prefixes)
    for part, prefixes in places.items():
        if len(prefixes) > 1:
            listed = " and ".join(repr(prefix[:60]) for prefix in prefixes[:3])
            raise WeightsError(
                f"{path} holds more than one {part}, under the prefixes {listed}; keep one of them",
                code="weights_ambiguous",
            )


def _shared_out(
    tensors: Mapping[str, Described], places: Mapping[PartDialect, str]
) -> tuple[dict[PartDialect, dict[str, Described]], list[str]]:
    """The tensors of each part, without its prefix; and names that stand under none."""
    longest_first = sorted(places, key=lambda kind: len(places[kind]), reverse=True)
    held: dict[PartDialect, dict[str, Described]] = {kind: {} for kind in places}
    left: list[str] = []
    for name, tensor in tensors.items():
        kind = next((kind for kind in longest_first if name.startswith(places[kind])), None)
        if name.rpartition(".")[2] == VOCABULARY:
            continue
        if kind is None:
            left.append(name)
        else:
            held[kind][name.removeprefix(places[kind])] = tensor
    return held, left


def _part(kind: PartDialect, prefix: str, tensors: Mapping[str, Described], evidence: Evidence) -> DetectedPart:
    weights = {name: tensor for name, tensor in tensors.items() if not is_side(name)}
    held = kind.dialect.prepare(_unread(evidence.path, weights)).tensors
    table = kind.dialect.names(held)
    own = {name: table.ours(name) for name in held}
    by_name = {ours: held[name].shape for name, ours in own.items() if ours is not None}
    shapes = Shapes(path=evidence.path, by_name=by_name, own=kind.dialect.own, strict=False, spelled=table.spelled)
    families = [family for family in FAMILIES if kind.dialect in family.dialects]
    family = next((family for family in families if family.fits(shapes)), None)
    if kind.part == TRANSFORMER and not kind.dialect.own:
        check_relative(evidence.path, family, shapes, weights)
    family = family or (None if kind.dialect.own else families[0])
    comparison = _NOTHING if family is None else _compared(family, kind.dialect, shapes, own, table)
    if kind.dialect.own and comparison.unknown:
        # Parts that no released model has: a recipe alone says what must be there.
        family, comparison = None, replace(comparison, missing=(), unknown=())
    fits, choice, notes = (), Choice(name=None, evidence=""), ()
    if kind.part == TRANSFORMER:
        names = names_of(evidence.path, evidence.metadata)
        notes = hints(names.near)
        if family is not None:
            fits = fitting(family, comparison.sizes)
            choice = choose(fits, family, path=evidence.path, names=names, flag=evidence.flag)
    found = tensor_stats(tensors)
    identity = Identity(
        part=kind.part,
        family="kinoform" if family is None else family.name,
        dialect=kind.dialect.name,
        prefix=prefix,
        storage=storage(tensors, evidence.path, evidence.metadata),
        sizes=comparison.sizes,
        dtypes=found.dtypes,
        tensors=found.tensors,
        parameters=found.parameters,
        bytes=found.bytes,
        candidates=tuple(model.name for model in fits),
        chosen=choice.name,
        evidence=choice.evidence,
        doubt=choice.doubt,
        notes=notes,
        missing=tuple(prefix + name for name in comparison.missing),
        unknown=tuple(prefix + name for name in comparison.unknown),
    )
    return DetectedPart(identity=identity, family=family, dialect=kind.dialect, names=table)


def _compared(
    family: Family, dialect: Dialect, shapes: Shapes, own: Mapping[str, str | None], table: Names
) -> Comparison:
    """Hold the names against those of the module that such a part is loaded into."""
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


def _unread(path: Path, tensors: Mapping[str, Described]) -> Checkpoint:
    """The headers as a checkpoint of which no number can be read; dtypes are all the same."""
    from torch import Tensor, float32

    from kinoform.checkpoints.files import Checkpoint
    from kinoform.checkpoints.formats import Stored

    def read() -> Tensor:
        raise AssertionError("detection reads no numbers")

    stored = {
        name: Stored(shape=tuple(tensor.shape), dtype=float32, file=path, read=read) for name, tensor in tensors.items()
    }
    return Checkpoint(path=path, tensors=stored)


def _lora(tensors: Mapping[str, Described], dialect: str, evidence: Evidence) -> Identity:
    sizes, found = lora_sizes(tensors), tensor_stats(tensors)
    return Identity(
        part="lora",
        family="lora",
        dialect=dialect,
        prefix=lora_prefix(tensors),
        storage=storage(tensors, evidence.path, evidence.metadata),
        sizes=sizes,
        dtypes=found.dtypes,
        tensors=found.tensors,
        parameters=found.parameters,
        bytes=found.bytes,
        candidates=tuple(model.name for model in released_models() if model.dim == sizes.get("dim")),
        chosen=None,
        evidence="",
        missing=(),
        unknown=not_lora(tensors),
        methods=_unread_methods(tensors, evidence),
    )


def _unread_methods(tensors: Mapping[str, Described], evidence: Evidence) -> tuple[str, ...]:
    """Methods of a LoRA that are not read: by their tensors, else by what peft says, else by its names."""
    said = peft_method(evidence.path, evidence.metadata)
    undotted = ("names with _ for dots",) if any(map(is_undotted, tensors)) else ()
    return methods(tensors) or (undotted if said is None else (said,))


def _adapter(tensors: Mapping[str, Described], evidence: Evidence) -> Identity:
    claims, found = adapter_claims(evidence.path, evidence.metadata), tensor_stats(tensors)
    ranks = [tensor.shape[0] for name, tensor in tensors.items() if name.endswith(DOWN) and tensor.shape]
    sizes = {"added": len(tensors) - 2 * len(ranks), "changed": len(ranks), "rank": max(ranks, default=0)}
    return Identity(
        part="adapter",
        family="adapter",
        dialect="kinoform",
        prefix="",
        storage=storage(tensors, evidence.path, evidence.metadata),
        sizes={name: size for name, size in sizes.items() if size},
        dtypes=found.dtypes,
        tensors=found.tensors,
        parameters=found.parameters,
        bytes=found.bytes,
        candidates=(claims.recipe,),
        chosen=claims.recipe,
        evidence="metadata",
        missing=(),
        unknown=(),
        base=f"{claims.base} {claims.base_hash}",
    )
