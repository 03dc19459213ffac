"""Which part of which model a set of tensors is, told by names and shapes alone.

A part is known by names that only it has, whatever stands before them; its other names are then translated
to the official ones, and compared with those that a model of these sizes must have.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kinoform.checkpoints.headers import read_json
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles
from kinoform.checkpoints.storage import Described, amounts, is_side, storage
from kinoform.checkpoints.unsupported import check_storage
from kinoform.errors import WeightsError
from kinoform.families.adapter_files import DOWN, adapter_claims, is_adapter
from kinoform.families.foreign import check_offspring, foreign, not_wan
from kinoform.families.hints import hints
from kinoform.families.identity import Identity
from kinoform.families.kinds import TRANSFORMER, Kind, kinds, translation
from kinoform.families.lora_config import peft_method
from kinoform.families.lora_endings import methods
from kinoform.families.lora_files import is_undotted, lora_dialect, lora_prefix, lora_sizes, not_lora
from kinoform.families.released import RELEASED, Choice, choose, fitting
from kinoform.families.spoken import names_of
from kinoform.families.structure import Shapes
from kinoform.families.weight_sets import open_set, weight_sets

__all__ = ["Identity", "identify", "identify_opened", "identify_parts", "inspect_path"]

MANIFEST = "manifest.json"
LONGEST = 256
VOCABULARY = "spiece_model"
"""A tensor of bytes in ComfyUI's text encoders, under any prefix: the SentencePiece model of the tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What may speak for one of several models that share a structure."""

    path: Path
    metadata: Mapping[str, str]
    flag: str | None


def inspect_path(path: Path, flag: str | None = None) -> tuple[Identity, ...]:
    """The parts in a file or a folder of any layout; errors as in `identify`, and as for damaged files."""
    reader = HeaderReader()
    return tuple(part for weights in weight_sets(path) for part in identify_opened(open_set(weights, reader), flag))


def identify_opened(opened: OpenedFiles, flag: str | None = None) -> tuple[Identity, ...]:
    """The parts in one set of files; those of kinoform's own folders are told by their manifest."""
    path = opened.files[0]
    parts = identify_parts(opened.tensors, path=path, metadata=opened.metadata, flag=flag)
    manifest = path.parent / MANIFEST
    if all(part.dialect != "kinoform" or part.base for part in parts) or not manifest.is_file():
        return parts
    recipe = read_json(manifest).get("recipe")
    if not isinstance(recipe, str) or len(recipe) > LONGEST:
        raise WeightsError(f"{manifest} names no recipe; fetch the folder again", code="manifest_damaged")
    return tuple(replace(part, candidates=(recipe,), chosen=recipe, evidence="manifest") for part in parts)


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
        dtypes=dict(sorted(sum((Counter(part.dtypes) for part in parts), Counter()).items())),
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
    evidence = Evidence(path=path, metadata=metadata, flag=flag)
    if is_adapter(metadata):
        return (_adapter(tensors, evidence),)
    found = kinds(tensors)
    if not found and (dialect := lora_dialect(tensors)) is not None:
        return (_lora(tensors, dialect, evidence),)
    if not found and foreign(tensors):
        raise not_wan(path, tensors)
    check_storage(path, tensors, metadata)
    if not found:
        raise not_wan(path, tensors)
    _check_single(path, found)
    places = {kind: prefixes[0] for kind, prefixes in found.items()}
    held, left = _shared_out(tensors, places)
    parts = [_part(kind, prefix, held[kind], evidence) for kind, prefix in places.items()]
    unused = tuple(start for kind in places for start in kind.unused)
    strangers = tuple(name for name in left if not name.startswith(unused))
    parts[0] = replace(parts[0], unknown=parts[0].unknown + strangers)
    return tuple(parts)


def _check_single(path: Path, found: Mapping[Kind, tuple[str, ...]]) -> None:
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
    tensors: Mapping[str, Described], places: Mapping[Kind, str]
) -> tuple[dict[Kind, dict[str, Described]], list[str]]:
    """The tensors of each part, without its prefix; and names that stand under none."""
    longest_first = sorted(places, key=lambda kind: len(places[kind]), reverse=True)
    held: dict[Kind, dict[str, Described]] = {kind: {} for kind in places}
    left = []
    for name, tensor in tensors.items():
        kind = next((kind for kind in longest_first if name.startswith(places[kind])), None)
        if name.rpartition(".")[2] == VOCABULARY:
            continue
        if kind is None:
            left.append(name)
        else:
            held[kind][name.removeprefix(places[kind])] = tensor
    return held, left


def _part(kind: Kind, prefix: str, tensors: Mapping[str, Described], evidence: Evidence) -> Identity:
    weights = {name: tensor for name, tensor in tensors.items() if not is_side(name)}
    spelled = translation(kind, weights)
    official = {name: spelled.official(name) for name in weights}
    shapes = {own: tuple(weights[name].shape) for name, own in official.items() if own is not None}
    structure = kind.structure(Shapes(path=evidence.path, shapes=shapes))
    fits, choice, notes = (), Choice(name=None, evidence=""), ()
    if kind.part == TRANSFORMER:
        if kind.dialect != "kinoform":
            check_offspring(evidence.path, structure, weights)
        fits = fitting(structure.family, structure.sizes)
        names = names_of(evidence.path, evidence.metadata)
        choice = choose(fits, structure.family, path=evidence.path, names=names, flag=evidence.flag)
        notes = hints(names.near)
    known = set(structure.names)
    found = amounts(tensors)
    return Identity(
        part=kind.part,
        family=structure.family,
        dialect=kind.dialect,
        prefix=prefix,
        storage=storage(tensors, evidence.path, evidence.metadata),
        sizes=structure.sizes,
        dtypes=found.dtypes,
        tensors=found.tensors,
        parameters=found.parameters,
        bytes=found.bytes,
        candidates=tuple(model.name for model in fits),
        chosen=choice.name,
        evidence=choice.evidence,
        doubt=choice.doubt,
        notes=notes,
        missing=tuple(prefix + spelled.theirs(name) for name in structure.names if name not in shapes),
        unknown=_under(prefix, (n for n, own in official.items() if own not in known), kind.unused),
    )


def _under(prefix: str, names: Iterable[str], unused: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(prefix + name for name in names if not name.startswith(unused))


def _lora(tensors: Mapping[str, Described], dialect: str, evidence: Evidence) -> Identity:
    sizes, found = lora_sizes(tensors), amounts(tensors)
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
        candidates=tuple(model.name for model in RELEASED if model.dim == sizes.get("dim")),
        chosen=None,
        evidence="",
        missing=(),
        unknown=not_lora(tensors),
        methods=_unread(tensors, evidence),
    )


def _unread(tensors: Mapping[str, Described], evidence: Evidence) -> tuple[str, ...]:
    """Methods of a LoRA that are not read: by their tensors, else by what peft says, else by its names."""
    said = peft_method(evidence.path, evidence.metadata)
    undotted = ("names with _ for dots",) if any(map(is_undotted, tensors)) else ()
    return methods(tensors) or (undotted if said is None else (said,))


def _adapter(tensors: Mapping[str, Described], evidence: Evidence) -> Identity:
    claims, found = adapter_claims(evidence.path, evidence.metadata), amounts(tensors)
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
