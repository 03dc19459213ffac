"""LoRA files opened and checked by their headers: what each changes of a model, what it does not, how strongly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.models.lora import MAX_RANK
from kinoform.weights.files import Checkpoint, open_file
from kinoform.weights.identity.loras import lora_dialect
from kinoform.weights.lora_names import (
    ALPHA,
    DOWN,
    FORMS,
    SECOND_EXPERT,
    UP,
    Form,
    checked_alpha,
    elsewhere,
    peft_alphas,
    taken_apart,
    without_prefix,
)
from kinoform.weights.storage.formats import Stored

LISTED = 3

Sizes = Mapping[str, tuple[int, int]]
"""What a layer gives and takes, by its canonical name."""


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
    """`changes` by canonical layer name; `absent` modules are those of other Wan models, `unknown` of none."""

    path: Path
    dialect: str
    changes: Mapping[str, Change]
    absent: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def scales(self) -> tuple[float, ...]:
        """alpha / rank, each that occurs; 1 where the file says no alpha."""
        return tuple(sorted({change.alpha / change.rank for change in self.changes.values()}))

    def told(self, strength: float) -> str:
        """One line for people: what is applied and what is not, and how strongly it counts."""
        ranks = sorted({change.rank for change in self.changes.values()})
        counts = f"{len(self.changes)} layers changed, {len(self.absent)} of other Wan models left out, "
        counts += f"{len(self.unknown)} unknown"
        effective = [scale * strength for scale in self.scales]
        return (
            f"{self.path.name}: {counts}; rank {_span(ranks)}, "
            f"alpha / rank {_span(self.scales)} x strength {strength:g} = {_span(effective)}"
        )


def open_lora(path: Path, layers: Sizes, *, ignore_unknown: bool = False) -> LoRAFile:
    """What the file changes of a model with these layers. Reads the header, and the numbers called alpha.

    Raises WeightsError for a damaged file, a dialect that is not read, names that no Wan model has (unless
    `ignore_unknown`), matrices without their other half or of another model's size, an alpha that is no
    positive number, and when nothing of the file belongs to this model.
    """
    checkpoint = open_file(path)
    dialect = lora_dialect(checkpoint.tensors)
    form = _form(path, dialect)
    held, absent, unknown = _sorted_out(checkpoint, form, layers)
    if unknown and not ignore_unknown:
        raise WeightsError(
            f"{path} changes {len(unknown)} things that kinoform cannot change ({_listed(unknown)}); "
            "it is for another model, or pass --lora-ignore-unknown to use the rest",
            code="lora_unknown_keys",
        )
    if not held:
        raise WeightsError(
            f"{path} would change nothing in this model: {len(absent)} of its layers are those of another kind of "
            f"Wan model, {len(unknown)} of its names are of none; leave it out",
            code="lora_wrong_model",
        )
    said = peft_alphas(path, checkpoint.metadata)
    changes = {}
    for layer, (module, pieces) in held.items():
        down, up = _matrices(path, module, pieces, layers[layer])
        rank = float(down.shape[0])
        if ALPHA in pieces:
            alpha = _alpha(module, pieces[ALPHA])
        else:
            alpha = rank if said is None else said.of(without_prefix(module))
        changes[layer] = Change(down=down, up=up, alpha=alpha)
    return LoRAFile(path=path, dialect=str(dialect), changes=changes, absent=tuple(absent), unknown=tuple(unknown))


def _form(path: Path, dialect: str | None) -> Form:
    if dialect is None:
        raise WeightsError(
            f"{path} holds no LoRA; if it is a whole model or an adapter, give it as --model", code="lora_missing"
        )
    if dialect not in FORMS:
        raise WeightsError(
            f"{path} is a LoRA in the form {dialect}, which is not read yet; save it in the form of ComfyUI "
            "(names that begin with diffusion_model.) or of diffusers (transformer.)",
            code="lora_unsupported",
        )
    return FORMS[dialect]


def _sorted_out(
    checkpoint: Checkpoint, form: Form, layers: Sizes
) -> tuple[dict[str, tuple[str, dict[str, Stored]]], list[str], list[str]]:
    """By layer its module in the file and its tensors; modules of other Wan models; names that are of none."""
    held: dict[str, tuple[str, dict[str, Stored]]] = {}
    absent: dict[str, None] = {}
    unknown = []
    for name, stored in checkpoint.tensors.items():
        module, piece = taken_apart(name) or (name, "")
        layer = form.own(without_prefix(module))
        if piece and layer in layers:
            first, pieces = held.setdefault(layer, (module, {}))
            if first != module or piece in pieces:
                raise WeightsError(
                    f"{checkpoint.path} changes {layer} twice, the second time by {name}; get it again",
                    code="lora_ambiguous",
                )
            pieces[piece] = stored
        elif piece and (module.startswith(SECOND_EXPERT) or elsewhere(layer, layers)):
            absent[module] = None
        else:
            unknown.append(name)
    return held, list(absent), unknown


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


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:80]) for name in names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def _span(values: Sequence[int] | Sequence[float]) -> str:
    return f"{values[0]:g}" if values[0] == values[-1] else f"{min(values):g} to {max(values):g}"
