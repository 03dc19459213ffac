"""Tensors of a LoRA file put together to changes, one for each parameter, and checked by their shapes.

Each kind of change is a function of the tensors by role, which says what it needs and how it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from kinoform.checkpoints.formats import Stored
from kinoform.errors import WeightsError
from kinoform.families.lora import (
    ALPHA,
    BIAS,
    DIFFERENCE,
    DOWN,
    HADAMARD,
    KRONECKER,
    MAGNITUDE,
    MID,
    MODULATION,
    SHAPE,
    UP,
    WHOLE_BIAS,
    WHOLE_WEIGHT,
)
from kinoform.families.lora_config import checked_alpha
from kinoform.models.lora import MAX_RANK
from kinoform.models.lora_changes import (
    Decomposed,
    Hadamard,
    Kronecker,
    Replacement,
    Summed,
    WeightChange,
    WholeDifference,
)
from kinoform.models.lora_linear import Adapter

Shape = tuple[int, ...]
Read = Callable[[str], Tensor]
"""Reads the tensor of a role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """The tensors that one file has for one parameter of this `shape`, by role; `module` is what the file calls it."""

    path: Path
    module: str
    shape: Shape
    by_role: Mapping[str, Stored]

    def of(self, role: str) -> Shape:
        return self.by_role[role].shape

    def needs(self, *roles: str) -> None:
        """Raises WeightsError for a tensor that is not there."""
        if lacking := [role for role in roles if role not in self.by_role]:
            raise WeightsError(
                f"{self.path} lacks {' and '.join(lacking)} of {self.module}, without which the rest is no change; "
                "fetch it again",
                code="lora_incomplete",
            )

    def fits(self, out: int, into: int) -> None:
        """Raises WeightsError for a change that gives and takes other numbers than the parameter."""
        if (out, into) != (self.shape[0], prod(self.shape[1:])):
            raise WeightsError(
                f"{self.path} changes {self.module} as a layer of {into} to {out}, the model's is of "
                f"{prod(self.shape[1:])} to {self.shape[0]}; it is for a model of another size",
                code="lora_wrong_model",
            )

    def matrices(self, *roles: str) -> None:
        """Raises WeightsError for what is no plain matrix (or kernel) of floating-point numbers, of 1 to MAX_RANK."""
        for role in roles:
            stored = self.by_role[role]
            if len(stored.shape) < 2 or not stored.dtype.is_floating_point:
                raise WeightsError(
                    f"{self.path}: {role} of {self.module} has shape {list(stored.shape)} and {stored.dtype}; only "
                    "matrices of floating-point numbers are read",
                    code="lora_unsupported",
                )

    def flat(self, *roles: str) -> None:
        """Raises WeightsError for a kernel where only the matrix that reads the inputs has one."""
        for role in roles:
            if len(self.of(role)) > 2:
                self.damaged(f"has {role} of {list(self.of(role))}, which must be a matrix")

    def damaged(self, fault: str) -> NoReturn:
        raise WeightsError(f"{self.path}: {self.module} {fault}; fetch it again", code="lora_damaged")

    def ranks(self, *ranks: int) -> int:
        """Return the one rank. Raises WeightsError for several, and for one that none has."""
        if len({*ranks}) != 1 or not 1 <= ranks[0] <= MAX_RANK:
            every = " and ".join(map(str, ranks))
            self.damaged(f"has matrices of ranks {every}, which must be one number from 1 to {MAX_RANK}")
        return ranks[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One change made of some tensors: `roles` are those that it takes, `rank` 0 where it has none; `build` makes it of
    their values and its scale."""

    name: str
    roles: tuple[str, ...]
    rank: int
    build: Callable[[Read, float], WeightChange]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """All that one file changes of one parameter, of which no number is read but `alpha`."""

    pieces: Pieces
    kinds: tuple[Kind, ...]
    alpha: float
    decomposed: bool

    @property
    def rank(self) -> int:
        """The highest; 0 where no change of the parameter has one."""
        return max(kind.rank for kind in self.kinds)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank if self.rank else 1.0

    @property
    def low_rank(self) -> bool:
        """Return whether it is two matrices and nothing else."""
        return not self.decomposed and [kind.name for kind in self.kinds] == [LOW_RANK]

    @property
    def name(self) -> str:
        joined = " and ".join(kind.name for kind in self.kinds)
        return f"{joined} with DoRA" if self.decomposed else joined

    @property
    def numbers(self) -> int:
        return sum(prod(stored.shape) for stored in self.pieces.by_role.values())

    def build(self, read: Callable[[Stored], Tensor]) -> WeightChange:
        """The change, of tensors that `read` fetches."""
        parts = [kind.build(lambda role: read(self.pieces.by_role[role]), self.scale) for kind in self.kinds]
        change = parts[0] if len(parts) == 1 else Summed(parts)
        if not self.decomposed:
            return change
        magnitude = self.pieces.by_role[MAGNITUDE]
        return Decomposed(change, read(magnitude), columns=not _of_rows(magnitude.shape, self.pieces.shape))


def stored_change(pieces: Pieces, alpha: Callable[[int], float | None], whole_rank: int = 0) -> StoredChange:
    """Put the tensors together; `alpha` is what the file says elsewhere for a rank, None for nothing, `whole_rank` the
    rank that peft's settings say, by which it scales whole factors of LoKr too.

    Raises WeightsError for halves, ranks that differ, and what is of another size than the parameter.
    """
    kinds = tuple(kind for make in KINDS if (kind := make(pieces)) is not None)
    kinds = tuple(replace(kind, rank=kind.rank or whole_rank) if kind.name == LOKR else kind for kind in kinds)
    decomposed = MAGNITUDE in pieces.by_role
    if not kinds:
        pieces.needs(DOWN, UP)
    if decomposed:
        _check_magnitude(pieces)
    rank = max(kind.rank for kind in kinds)
    if ALPHA in pieces.by_role:
        found = _alpha(pieces.module, pieces.by_role[ALPHA])
    else:
        said = alpha(rank) if rank else None
        found = float(rank) if said is None else said
    return StoredChange(pieces=pieces, kinds=kinds, alpha=found, decomposed=decomposed)


LOW_RANK, LOKR = "low rank", "LoKr"


def low_rank(pieces: Pieces) -> Kind | None:
    """Two matrices down [rank, in] and up [out, rank], of a convolution with a kernel behind; perhaps with a core `mid`
    between them, which is multiplied into the first."""
    if not {DOWN, UP, MID} & pieces.by_role.keys():
        return None
    pieces.needs(DOWN, UP)
    core = MID in pieces.by_role
    pieces.matrices(DOWN, UP, *([MID] if core else []))
    down, up = pieces.of(DOWN), pieces.of(UP)
    if core:
        mid = pieces.of(MID)
        rank = pieces.ranks(down[0], mid[1])
        pieces.ranks(mid[0], up[1])
        into = prod(down[1:]) * prod(mid[2:])
    else:
        rank, into = pieces.ranks(down[0], up[1]), prod(down[1:])
    if prod(up[2:]) != 1:
        pieces.flat(UP)
    pieces.fits(up[0], into)

    def build(read: Read, scale: float) -> WeightChange:
        matrix = read(DOWN).flatten(1)
        if core:
            matrix = torch.einsum("oi...,ic->oc...", read(MID).float(), matrix.float()).flatten(1)
        return Adapter(matrix, read(UP).flatten(1), alpha=scale * len(matrix)).requires_grad_(False)

    return Kind(name=LOW_RANK, roles=(DOWN, UP, MID), rank=rank, build=build)


def hadamard(pieces: Pieces) -> Kind | None:
    """LoHa: four matrices, and two cores for the kernel of a convolution."""
    if not {*HADAMARD} & pieces.by_role.keys():
        return None
    one_a, one_b, two_a, two_b, *cores = HADAMARD
    cored = bool({*cores} & pieces.by_role.keys())
    used = (one_a, one_b, two_a, two_b, *(cores if cored else ()))
    pieces.needs(*used)
    pieces.matrices(*used)
    pieces.flat(one_a, two_a, *((one_b, two_b) if cored else ()))
    rank = pieces.ranks(pieces.of(one_b)[0], pieces.of(two_b)[0])
    for a, b, core in zip((one_a, two_a), (one_b, two_b), cores, strict=True):
        if cored:  # here the first matrix stands the other way
            kernel = pieces.of(core)
            rank = pieces.ranks(pieces.of(b)[0], kernel[1])
            pieces.ranks(pieces.of(a)[0], kernel[0])
            pieces.fits(pieces.of(a)[1], pieces.of(b)[1] * prod(kernel[2:]))
        else:
            rank = pieces.ranks(pieces.of(b)[0], pieces.of(a)[1])
            pieces.fits(pieces.of(a)[0], prod(pieces.of(b)[1:]))

    def build(read: Read, scale: float) -> WeightChange:
        first, second = ([read(a), read(b)] for a, b in ((one_a, one_b), (two_a, two_b)))
        return Hadamard(first, second, scale, [read(core) for core in cores] if cored else [])

    return Kind(name="LoHa", roles=HADAMARD, rank=rank, build=build)


def kronecker(pieces: Pieces) -> Kind | None:
    """LoKr: two matrices, each whole or as two factors; the second may have a core. Of whole ones the scale is 1."""
    if not {*KRONECKER} & pieces.by_role.keys():
        return None
    whole_one, one_a, one_b, whole_two, two_a, two_b, core = KRONECKER
    first = (whole_one,) if whole_one in pieces.by_role else (one_a, one_b)
    second = (whole_two,) if whole_two in pieces.by_role else (two_a, two_b)
    if core in pieces.by_role:
        second = (core, two_b, two_a)
    pieces.needs(*first, *second)
    if twice := pieces.by_role.keys() & {*KRONECKER} - {*first, *second}:
        pieces.damaged(f"has {' and '.join(sorted(twice))} beside {' and '.join((*first, *second))}")
    pieces.matrices(*first, *second)
    pieces.flat(*(role for role in (one_a, two_a) if role in (*first, *second)))
    rank = 0
    if len(first) == 2:
        rank = pieces.ranks(pieces.of(one_b)[0], pieces.of(one_a)[1])
    if len(second) == 2:
        rank = pieces.ranks(pieces.of(two_b)[0], pieces.of(two_a)[1])
    if len(second) == 3:
        rank = pieces.ranks(pieces.of(two_b)[0], pieces.of(core)[1])
        pieces.ranks(pieces.of(two_a)[0], pieces.of(core)[0])
    (one_out, one_in), (two_out, two_in) = _joined(pieces, first), _joined(pieces, second)
    pieces.fits(one_out * two_out, one_in * two_in)

    def build(read: Read, scale: float) -> WeightChange:
        ordered = (core, two_a, two_b) if len(second) == 3 else second
        return Kronecker([read(role) for role in first], [read(role) for role in ordered], scale)

    return Kind(name=LOKR, roles=KRONECKER, rank=rank, build=build)


def difference(pieces: Pieces) -> Kind | None:
    """One whole difference of a weight, a bias, a norm or a modulation."""
    return _whole(pieces, (DIFFERENCE, BIAS, MODULATION), "whole difference", WholeDifference)


def replacement(pieces: Pieces) -> Kind | None:
    """One whole parameter in the place of the model's."""
    return _whole(pieces, (WHOLE_WEIGHT, WHOLE_BIAS), "whole parameter", Replacement)


KINDS = (low_rank, hadamard, kronecker, difference, replacement)


def _whole(pieces: Pieces, roles: Sequence[str], name: str, build: Callable[[Tensor], WeightChange]) -> Kind | None:
    held = [role for role in roles if role in pieces.by_role]
    if not held:
        return None
    if len(held) > 1:
        raise WeightsError(
            f"{pieces.path} changes {pieces.module} twice, by {' and by '.join(held)}; keep one of them in the file",
            code="lora_ambiguous",
        )
    (role,) = held
    shape = pieces.of(role)
    if prod(shape) != prod(pieces.shape) or (len(shape) > 1 and [n for n in shape if n > 1] != [
        n for n in pieces.shape if n > 1
    ]):  # fmt: skip
        raise WeightsError(
            f"{pieces.path} changes {pieces.module} by {role} of {list(shape)}, the model's is of "
            f"{list(pieces.shape)}; it is for a model of another size",
            code="lora_wrong_model",
        )
    if not pieces.by_role[role].dtype.is_floating_point:
        pieces.damaged(f"has {role} of {pieces.by_role[role].dtype}")
    return Kind(name=name, roles=(role,), rank=0, build=lambda read, scale: build(read(role)))


def _joined(pieces: Pieces, roles: Sequence[str]) -> tuple[int, int]:
    """Numbers that a matrix gives and takes, with its kernel: whole, of two factors, or of core, b and a."""
    if len(roles) == 1:
        return pieces.of(roles[0])[0], prod(pieces.of(roles[0])[1:])
    if len(roles) == 2:
        return pieces.of(roles[0])[0], prod(pieces.of(roles[1])[1:])
    core, b, a = map(pieces.of, roles)
    return a[1], b[1] * prod(core[2:])


def _of_rows(magnitude: Shape, weight: Shape) -> bool:
    """Return whether lengths are those of rows: always, but for one row of as many numbers as the layer takes."""
    columns = len(magnitude) > 1 and magnitude[0] == 1 and len(weight) == 2 and magnitude[1] == weight[1]
    return not columns and prod(magnitude) == weight[0]


def _check_magnitude(pieces: Pieces) -> None:
    magnitude = pieces.of(MAGNITUDE)
    across = pieces.shape[1] if len(pieces.shape) > 1 else 0
    if not _of_rows(magnitude, pieces.shape) and prod(magnitude) != across:
        raise WeightsError(
            f"{pieces.path}: the lengths of {pieces.module} (DoRA) have shape {list(magnitude)}, the model's layer "
            f"{list(pieces.shape)}; it is for a model of another size",
            code="lora_wrong_model",
        )
    if SHAPE in pieces.by_role:
        pieces.damaged("has another shape and DoRA")
    if len(pieces.shape) < 2:
        pieces.damaged("has lengths of DoRA, which only matrices have")


def _alpha(module: str, stored: Stored) -> float:
    if stored.shape not in ((), (1,)):
        raise WeightsError(
            f"{stored.file}: alpha of {module} has shape {list(stored.shape)}, no single number", code="lora_damaged"
        )
    return checked_alpha(stored.file, f"alpha of {module}", stored.read().double().item())
