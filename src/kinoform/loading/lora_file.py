"""LoRA files opened and checked by their headers: what each changes of a model, what it does not, how strongly.

Every tensor of a file is applied, known from elsewhere (a part that this model lacks), or unknown.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, prod
from pathlib import Path

from kinoform.checkpoints.files import Checkpoint, open_file
from kinoform.checkpoints.formats import Stored
from kinoform.errors import WeightsError
from kinoform.families import released_models
from kinoform.families.lora import (
    DIFFERENCE,
    DOWN,
    LEAVES,
    READ,
    SHAPE,
    WHOLE_BIAS,
    WHOLE_WEIGHT,
    lora_dialect,
    lora_sizes,
    piece_of,
)
from kinoform.families.lora_config import PeftConfig, peft_config, peft_config_file, says_dora
from kinoform.families.lora_names import OTHERS, LoRANames, without_prefix
from kinoform.families.names import listed
from kinoform.families.relatives import RELEASED_INPUTS, control_of, stranger
from kinoform.loading.lora_changes import Pieces, StoredChange, stored_change
from kinoform.models.lora import LoRARanks

WIDEST = "blocks.0.self_attention.q.weight"
"""A parameter as wide as the model."""

PATCH = "patch_embedding.weight"
KERNELS = (DOWN, DIFFERENCE, WHOLE_WEIGHT)
"""Roles of tensors that have the kernel of a convolution."""

Parameters = Mapping[str, tuple[int, ...]]
"""Shapes of a model's parameters, by own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRAFile:
    """`changes` by the own name of the parameter.

    `applied` is the number of tensors that they are made of; `absent` are tensors of parts that the model lacks, by
    name with that part, `unknown` those of no Wan model.

    `files` are all that was read: the LoRA, and peft's configuration where it lies beside it.
    """

    path: Path
    files: tuple[Path, ...]
    dialect: str
    changes: Mapping[str, StoredChange]
    applied: int
    absent: Mapping[str, str]
    unknown: tuple[str, ...]

    @property
    def scales(self) -> tuple[float, ...]:
        """alpha / rank, each that occurs; 1 where the file says no alpha, and for whole differences."""
        return tuple(sorted({change.scale for change in self.changes.values()}))

    def ranks(self, strength: float) -> LoRARanks:
        """Return what a plan of the model needs to know of the file."""
        beside = {place: change for place, change in self.changes.items() if _beside(place, change)}
        return LoRARanks(
            ranks=tuple((place.removesuffix(".weight"), change.rank) for place, change in beside.items()),
            strength=strength,
            others=sum(change.numbers for place, change in self.changes.items() if place not in beside),
        )

    def description(self, strength: float) -> str:
        """One line for people: the tensors that are applied, left out and unknown, and the scale of the change."""
        parts = Counter(self.absent.values())
        left_out = f" ({', '.join(f'{count} of {part}' for part, count in parts.items())})" if parts else ""
        kinds = Counter(change.name for change in self.changes.values())
        made = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        ranks = sorted({change.rank for change in self.changes.values() if change.rank})
        effective = [scale * strength for scale in self.scales]
        return (
            f"{self.path.name}: {self.applied} tensors applied (changes: {made}), "
            f"{len(self.absent)} known elsewhere{left_out}, {len(self.unknown)} unknown; "
            f"{f'rank {_span(ranks)}, ' if ranks else ''}"
            f"alpha / rank {_span(self.scales)} x strength {strength:g} = {_span(effective)}"
        )


@dataclass(slots=True, kw_only=True)
class _Sorted:
    """The names of a file: `held` by own parameter its module and its tensors by role; `absent` ones with the part that
    the model lacks; `methods` that are not read with their names; and names that are of no Wan model."""

    held: dict[str, tuple[str, dict[str, Stored]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    methods: dict[str, list[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def applied(self) -> int:
        return sum(len(pieces) for _, pieces in self.held.values())


def open_lora(
    path: Path,
    parameters: Parameters,
    *,
    ignore_unknown: bool = False,
    checkpoint: Checkpoint | None = None,
    second: bool = False,
    names: LoRANames | None = None,
) -> LoRAFile:
    """Open what a file changes of a model with these parameters, or with `second` what it has for the second expert.

    Reads the numbers called alpha, and the header, unless the file is opened already, as the `checkpoint`. `names` are
    those of the parameters, where they were made before.

    Raises WeightsError for a damaged file, a method that is not read, names that no Wan model has (unless
    `ignore_unknown`), tensors without their other half or of another model's size, an alpha that is no
    positive number, and when nothing of the file belongs to this model.
    """
    checkpoint = checkpoint or open_file(path)
    tensors = checkpoint.tensors
    dialect = lora_dialect(tensors)
    _check_dialect(path, dialect)
    _check_width(path, tensors, parameters)
    found = _sorted_out(path, tensors, names or LoRANames(own=frozenset(parameters)), second=second)
    _check_methods(path, found)
    _leave_out_other_inputs(path, found, parameters)
    _check_known(path, found, tensors, ignore_unknown=ignore_unknown)
    said = peft_config(path, checkpoint.metadata, second=second)
    changes = dict(_changes(path, found, parameters, said))
    _check_dora(path, checkpoint, changes)
    config = peft_config_file(path)
    return LoRAFile(
        path=path,
        files=(path,) if config is None else (path, config),
        dialect=str(dialect),
        changes=changes,
        applied=found.applied,
        absent=found.absent,
        unknown=tuple(found.unknown),
    )


def read_names(
    path: Path, tensors: Mapping[str, Stored], names: LoRANames
) -> Mapping[str, tuple[str, Mapping[str, Stored]]]:
    """The module and the tensors by role that a file has for each parameter of a model with these names.

    Raises WeightsError for what is no LoRA, methods that are not read, and tensors of anything else.
    """
    _check_dialect(path, lora_dialect(tensors))
    found = _sorted_out(path, tensors, names, second=False)
    _check_methods(path, found)
    if left := [*found.absent, *found.unknown]:
        raise WeightsError(
            f"{path} has {len(left)} tensors ({listed(left)}) that belong to no single Wan transformer and would be "
            "lost; take them out of the file",
            code="lora_unknown_keys",
        )
    return found.held


def _beside(place: str, change: StoredChange) -> bool:
    """Return whether a change becomes two matrices beside a linear layer."""
    return change.low_rank and place.endswith(".weight") and len(change.pieces.shape) == 2


def _check_dialect(path: Path, dialect: str | None) -> None:
    if dialect is None:
        raise WeightsError(
            f"{path} holds no LoRA; if it is a whole model or an adapter, give it as --model", code="lora_missing"
        )


def _check_width(path: Path, tensors: Mapping[str, Stored], parameters: Parameters) -> None:
    """Raise WeightsError for a model of another size, of which the blocks too would be unknown, which tells less."""
    found, own = lora_sizes(tensors), parameters.get(WIDEST, (0, 0))[1]
    width = found.get("dim", own)
    if not own or width == own:
        return
    raise WeightsError(
        f"{path} is for a model that is {width} wide{_as_released(width, found['layers'])}; this one is {own} "
        f"wide{_as_released(own, 0)}: give it to a model of its size",
        code="lora_wrong_model",
    )


def _as_released(width: int, layers: int) -> str:
    fitting = [item.name for item in released_models() if item.dim == width and item.layers >= layers]
    return f", as {', '.join(fitting)}" if fitting else ", as no released one"


def _sorted_out(path: Path, tensors: Mapping[str, Stored], names: LoRANames, *, second: bool) -> _Sorted:
    found = _Sorted()
    left: list[str] = []
    for name, stored in tensors.items():
        ended = piece_of(name)
        if ended is None:
            left.append(name)
            continue
        module, role = ended.module, ended.role
        parameter = names.parameter(module, LEAVES.get(role, ("weight",)))
        if (part := names.lacks(module, parameter, second=second)) is not None:
            found.absent[name] = part
        elif role not in READ:
            found.methods.setdefault(role, []).append(name)
        elif parameter is None:
            found.unknown.append(name)
        else:
            _hold(path, found, parameter, module, role, name, stored)
    for name in left:  # whole parameters, or what no ending tells
        parameter = names.parameter(name, ("",))
        if (part := names.lacks(name, parameter, second=second)) is not None:
            found.absent[name] = part
        elif parameter is not None:
            role = WHOLE_BIAS if parameter.endswith(".bias") else WHOLE_WEIGHT
            _hold(path, found, parameter, name, role, name, tensors[name])
        elif any(names.parameter(module) in found.held for module in _above(name)):
            found.methods.setdefault("a method without a name", []).append(name)
        else:
            found.unknown.append(name)
    return found


def _hold(path: Path, found: _Sorted, parameter: str, module: str, role: str, name: str, stored: Stored) -> None:
    _, pieces = found.held.setdefault(parameter, (module, {}))
    if role in pieces:
        raise WeightsError(
            f"{path} changes {parameter} twice, the second time by {name}; keep one of the two in the file",
            code="lora_ambiguous",
        )
    pieces[role] = stored


def _above(name: str) -> Iterator[str]:
    """The modules that a name lies in, without the words before them."""
    bare = without_prefix(name)
    while "." in bare:
        bare = bare.rpartition(".")[0]
        yield bare


def _check_methods(path: Path, found: _Sorted) -> None:
    if not found.methods:
        return
    method, names = next(iter(found.methods.items()))
    also = [other for other in found.methods if other != method]
    others = f" and {' and '.join(also)}" if also else ""
    raise WeightsError(
        f"{path} holds {method} ({listed(names)}){others}, which kinoform does not read, and without it the rest "
        "would be wrong; merge it into its model with the tool that made it, and give the merged model as --model",
        code="lora_unsupported",
    )


def _leave_out_other_inputs(path: Path, found: _Sorted, parameters: Parameters) -> None:
    """Leave out what a file changes of a patch embedding with other input channels, as text-to-video and image-to-video
    models have them. Raises WeightsError where the file is for inputs that no such model has: without them its other
    changes mean nothing."""
    if PATCH not in found.held or PATCH not in parameters:
        return
    module, pieces = found.held[PATCH]
    shape = parameters[PATCH]
    channels = _channels(pieces)
    if channels in (None, shape[1]):
        pieces.pop(SHAPE, None)
        return
    if not {channels, shape[1]} <= RELEASED_INPUTS:
        raise WeightsError(
            f"{path} changes {module} for {channels} input channels, as {control_of(channels)} reads them; this model "
            f"reads {shape[1]}: give it to a model with these inputs",
            code="lora_other_inputs",
        )
    del found.held[PATCH]
    found.absent |= {f"{module}.{role}": OTHERS for role in pieces}


def _channels(pieces: Mapping[str, Stored]) -> int | None:
    """Input channels of a patch embedding that its change is for, where its tensors have the shape of a convolution."""
    if SHAPE in pieces and prod(pieces[SHAPE].shape) > 1:
        channels = pieces[SHAPE].read().flatten()[1].item()
        return int(channels) if isfinite(channels) else 0
    kernels = [stored.shape for role, stored in pieces.items() if role in KERNELS and len(stored.shape) > 2]
    return kernels[0][1] if kernels else None


def _check_known(path: Path, found: _Sorted, tensors: Mapping[str, Stored], *, ignore_unknown: bool) -> None:
    """Raises WeightsError for names of no Wan model, unless these are waived, and when nothing is left."""
    if not found.held:
        if other := stranger(tensors):
            raise WeightsError(f"{path} is for {other}, and this is a Wan model; leave it out", code="lora_wrong_model")
        parts = ", ".join(dict.fromkeys(found.absent.values()))
        raise WeightsError(
            f"{path} would change nothing in this model: {len(found.absent)} of its tensors are those of parts that it "
            f"lacks{f' ({parts})' if parts else ''}, {len(found.unknown)} of its names are of no Wan model"
            f"{f' ({listed(found.unknown)})' if found.unknown else ''}; leave it out",
            code="lora_wrong_model",
        )
    if found.unknown and not ignore_unknown:
        raise WeightsError(
            f"{path} changes {len(found.unknown)} things that kinoform cannot change ({listed(found.unknown)}); "
            "get the file for this model, or pass --lora-ignore-unknown to use the rest without them",
            code="lora_unknown_keys",
        )


def _changes(
    path: Path, found: _Sorted, parameters: Parameters, said: PeftConfig | None
) -> Iterator[tuple[str, StoredChange]]:
    for parameter, (module, pieces) in found.held.items():

        def alpha(rank: int, module: str = module) -> float | None:
            return None if said is None else said.of(module, rank)

        held = Pieces(path=path, module=module, shape=parameters[parameter], by_role=pieces)
        yield parameter, stored_change(held, alpha, 0 if said is None else said.rank)


def _check_dora(path: Path, checkpoint: Checkpoint, changes: Mapping[str, StoredChange]) -> None:
    if says_dora(path, checkpoint.metadata) and not any(change.decomposed for change in changes.values()):
        raise WeightsError(
            f"{path} says that it was trained with DoRA and lacks the lengths of it; fetch it again",
            code="lora_incomplete",
        )


def _span(values: Sequence[int] | Sequence[float]) -> str:
    return f"{values[0]:g}" if values[0] == values[-1] else f"{min(values):g} to {max(values):g}"
