"""LoRA files opened and checked by their headers: what each changes of a model, what it does not, how strongly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinoform.checkpoints.files import Checkpoint, open_file
from kinoform.checkpoints.formats import Stored
from kinoform.errors import WeightsError
from kinoform.families import released_models
from kinoform.families.lora import (
    ALPHA,
    DOWN,
    SAVED,
    UP,
    is_of_relative,
    is_undotted,
    lora_dialect,
    lora_sizes,
    own_layer,
    own_parameter,
    piece_of,
)
from kinoform.families.lora_config import checked_alpha, peft_config, peft_config_file
from kinoform.families.names import listed
from kinoform.families.relatives import stranger
from kinoform.models.lora import MAX_RANK, LoRARanks

WIDEST = "blocks.0.self_attention.q"
"""A layer as wide as the model."""

PARAMETERS = (".weight", ".bias", ".modulation", ".positions")

Sizes = Mapping[str, tuple[int, int]]
"""Numbers that a layer gives and takes, by its canonical name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change of one layer, of which no matrix is read yet: down [rank, in], up [out, rank]."""

    down: Stored
    up: Stored
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRAFile:
    """`changes` by canonical layer name; `absent` modules are those of other Wan models or of the other
    expert, `unknown` of none.

    `files` are all that was read: the LoRA, and peft's configuration where it lies beside it.
    """

    path: Path
    files: tuple[Path, ...]
    dialect: str
    changes: Mapping[str, Change]
    absent: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def scales(self) -> tuple[float, ...]:
        """alpha / rank, each that occurs; 1 where the file says no alpha."""
        return tuple(sorted({change.alpha / change.rank for change in self.changes.values()}))

    def ranks(self, strength: float) -> LoRARanks:
        """Return what a plan of the model needs to know of the file."""
        return LoRARanks(ranks=tuple((layer, change.rank) for layer, change in self.changes.items()), strength=strength)

    def description(self, strength: float) -> str:
        """One line for people: the layers that are changed and those left out, and the scale of the change."""
        ranks = sorted({change.rank for change in self.changes.values()})
        counts = f"{len(self.changes)} layers changed, {len(self.absent)} of other Wan models or experts left out, "
        counts += f"{len(self.unknown)} unknown"
        effective = [scale * strength for scale in self.scales]
        return (
            f"{self.path.name}: {counts}; rank {_span(ranks)}, "
            f"alpha / rank {_span(self.scales)} x strength {strength:g} = {_span(effective)}"
        )


@dataclass(slots=True, kw_only=True)
class _Sorted:
    """The names of a file: `held` by layer its module and its tensors, `absent` modules of other Wan models, `methods`
    that are not read with their names, and names that are of no Wan model."""

    held: dict[str, tuple[str, dict[str, Stored]]] = field(default_factory=dict)
    absent: dict[str, None] = field(default_factory=dict)
    methods: dict[str, list[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def open_lora(
    path: Path,
    layers: Sizes,
    *,
    ignore_unknown: bool = False,
    checkpoint: Checkpoint | None = None,
    second: bool = False,
) -> LoRAFile:
    """Open what a file changes of a model with these layers, or with `second` what it has for the second expert.

    Reads the numbers called alpha, and the header, unless the file is opened already, as the `checkpoint`.

    Raises WeightsError for a damaged file, a dialect or a method that is not read, names that no Wan model has (unless
    `ignore_unknown`), matrices without their other half or of another model's size, an alpha that is no
    positive number, and when nothing of the file belongs to this model.
    """
    checkpoint = checkpoint or open_file(path)
    tensors = checkpoint.tensors
    dialect = lora_dialect(tensors)
    _check_dialect(path, dialect)
    _check_width(path, tensors, layers)
    found = _sorted_out(path, tensors, layers, second=second)
    _check_methods(path, found)
    pairs = {layer: _matrices(path, *found.held[layer], layers[layer]) for layer in found.held}
    _check_known(path, found, tensors, ignore_unknown=ignore_unknown)
    said = peft_config(path, checkpoint.metadata, second=second)
    config = peft_config_file(path)
    changes = {}
    for layer, (down, up) in pairs.items():
        module, pieces = found.held[layer]
        rank = down.shape[0]
        if ALPHA in pieces:
            alpha = _alpha(module, pieces[ALPHA])
        else:
            alpha = float(rank) if said is None else said.of(module, rank)
        changes[layer] = Change(down=down, up=up, alpha=alpha)
    return LoRAFile(
        path=path,
        files=(path,) if config is None else (path, config),
        dialect=str(dialect),
        changes=changes,
        absent=tuple(found.absent),
        unknown=tuple(found.unknown),
    )


def _check_dialect(path: Path, dialect: str | None) -> None:
    if dialect is None:
        raise WeightsError(
            f"{path} holds no LoRA; if it is a whole model or an adapter, give it as --model", code="lora_missing"
        )


def _check_width(path: Path, tensors: Mapping[str, Stored], layers: Sizes) -> None:
    """Raise WeightsError for a model of another size, of which the blocks too would be unknown, which tells less."""
    found, own = lora_sizes(tensors), layers.get(WIDEST, (0, 0))[1]
    width = found.get("dim", own)
    if not own or width == own:
        return
    fitting = [each.name for each in released_models() if each.dim == width and each.layers >= found["layers"]]
    named = f", as {', '.join(fitting)}" if fitting else ", as no released one"
    raise WeightsError(
        f"{path} is for a model that is {width} wide{named}; this one is {own} wide: give it to a model of its size",
        code="lora_wrong_model",
    )


def _sorted_out(path: Path, tensors: Mapping[str, Stored], layers: Sizes, *, second: bool) -> _Sorted:
    found = _Sorted()
    left: list[str] = []
    for name, stored in tensors.items():
        ended = piece_of(name)
        if ended is None:
            left.append(name)
            continue
        layer, piece = own_layer(ended.module), ended.kind
        if is_of_relative(ended.module, layers, second=second):
            found.absent[ended.module] = None
        elif piece not in (DOWN, UP, ALPHA):
            found.methods.setdefault(piece, []).append(name)
        elif layer not in layers:
            found.unknown.append(name)
        else:
            module, pieces = found.held.setdefault(layer, (ended.module, {}))
            if module != ended.module or piece in pieces:
                raise WeightsError(
                    f"{path} changes {layer} twice, the second time by {name}; keep one of the two in the file",
                    code="lora_ambiguous",
                )
            pieces[piece] = stored
    for name in left:
        own = own_parameter(name) or ""
        places = [own[:place] for place, letter in enumerate(own) if letter == "."]
        if own.endswith(PARAMETERS):
            found.methods.setdefault(SAVED, []).append(name)
        elif any(place in found.held for place in places):
            found.methods.setdefault("a method without a name", []).append(name)
        else:
            found.unknown.append(name)
    return found


def _check_methods(path: Path, found: _Sorted) -> None:
    if not found.methods:
        return
    method, names = next(iter(found.methods.items()))
    also = [each for each in found.methods if each != method]
    others = f" and {' and '.join(also)}" if also else ""
    raise WeightsError(
        f"{path} holds {method} ({listed(names)}){others}, which kinoform does not read, and without it the rest "
        "would be wrong; merge it into its model with the tool that made it, and give the merged model as --model",
        code="lora_unsupported",
    )


def _check_known(path: Path, found: _Sorted, tensors: Mapping[str, Stored], *, ignore_unknown: bool) -> None:
    """Raises WeightsError for names of no Wan model, unless these are waived, and when nothing is left."""
    if not found.held:
        if other := stranger(tensors):
            raise WeightsError(f"{path} is for {other}, no Wan model; leave it out", code="lora_wrong_model")
        if any(map(is_undotted, found.unknown)):
            raise WeightsError(
                f"{path} spells its layers with _ for dots ({listed(found.unknown)}), as kohya's trainers and LyCORIS "
                "do, which kinoform does not read yet; save it with ComfyUI's names (diffusion_model.blocks.0...)",
                code="lora_unsupported",
            )
        raise WeightsError(
            f"{path} would change nothing in this model: {len(found.absent)} of its layers are those of another kind "
            f"of Wan model, {len(found.unknown)} of its names are of none"
            f"{f' ({listed(found.unknown)})' if found.unknown else ''}; leave it out",
            code="lora_wrong_model",
        )
    if found.unknown and not ignore_unknown:
        raise WeightsError(
            f"{path} changes {len(found.unknown)} things that kinoform cannot change ({listed(found.unknown)}); "
            "get the file for this model, or pass --lora-ignore-unknown to use the rest without them",
            code="lora_unknown_keys",
        )


def _matrices(path: Path, module: str, pieces: Mapping[str, Stored], size: tuple[int, int]) -> tuple[Stored, Stored]:
    if DOWN not in pieces or UP not in pieces:
        lacking = "second" if DOWN in pieces else "first"
        raise WeightsError(
            f"{path} lacks the {lacking} of the two matrices of {module}; fetch it again", code="lora_incomplete"
        )
    down, up = pieces[DOWN], pieces[UP]
    for stored in (down, up):
        if len(stored.shape) != 2 or not stored.dtype.is_floating_point:
            raise WeightsError(
                f"{path}: a matrix of {module} has shape {list(stored.shape)} and {stored.dtype}; "
                "only plain matrices of floating-point numbers are read",
                code="lora_unsupported",
            )
    rank = down.shape[0]
    if not 1 <= rank <= MAX_RANK or up.shape[1] != rank:
        raise WeightsError(
            f"{path}: the matrices of {module} have ranks {rank} and {up.shape[1]}, which must be one number "
            f"from 1 to {MAX_RANK}; fetch it again",
            code="lora_damaged",
        )
    if (up.shape[0], down.shape[1]) != size:
        raise WeightsError(
            f"{path} changes {module} as a layer of {down.shape[1]} to {up.shape[0]}, the model's is of {size[1]} to "
            f"{size[0]}; it is for a model of another size",
            code="lora_wrong_model",
        )
    return down, up


def _alpha(module: str, stored: Stored) -> float:
    if stored.shape not in ((), (1,)):
        raise WeightsError(
            f"{stored.file}: alpha of {module} has shape {list(stored.shape)}, no single number", code="lora_damaged"
        )
    return checked_alpha(stored.file, f"alpha of {module}", stored.read().double().item())


def _span(values: Sequence[int] | Sequence[float]) -> str:
    return f"{values[0]:g}" if values[0] == values[-1] else f"{min(values):g} to {max(values):g}"
