"""Muon for the hidden matrices, AdamW for everything else, and the learning rate at each step."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from math import cos, pi
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError, nearest
from kinoform.training.distributed import ProcessGroup, SingleProcess

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of an odd quintic whose fifth iterate maps [0.003, 1] into about [0.68, 1.2] (Jordan et al. 2024)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Factor of the learning rate: linear warm-up, constant until `hold * total`, then linear down to `final`.

    `warmup` and `total` count steps; `total` is the length of the training.
    """

    warmup: int
    total: int
    hold: float = 0.6
    final: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.hold <= 1:
            raise UsageError(
                f"hold is a share of the training, between 0 and 1; got {self.hold}", code="value_out_of_range"
            )
        if self.total < 1 or not 0 <= self.warmup <= self.total:
            raise UsageError(
                f"a training of {self.total} steps cannot begin with {self.warmup} steps of warm-up; "
                "give at least one step and a warm-up no longer than the whole",
                code="value_out_of_range",
            )

    def factor(self, step: int, *, restart: int = 0) -> float:
        """Return the factor of step index `step` (from 0): 1 / warmup at the first, `final` at and after the last.

        An optimizer that is new at step `restart` is warmed up from there.
        """
        rising = min(1.0, (step + 1 - restart) / self.warmup) if self.warmup else 1.0
        held, last = self.hold * self.total, self.total - 1
        fallen = min(1.0, max(0.0, (step - held) / (last - held))) if last > held else float(step > last)
        return rising * (1 - (1 - self.final) * fallen)


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineSchedule:
    """Factor of the learning rate: linear warm-up, then half a cosine down to `final` at the last step."""

    warmup: int
    total: int
    final: float = 0.0

    def __post_init__(self) -> None:
        Schedule(warmup=self.warmup, total=self.total)

    def factor(self, step: int, *, restart: int = 0) -> float:
        """See `Schedule.factor`."""
        rising = min(1.0, (step + 1 - restart) / self.warmup) if self.warmup else 1.0
        span = max(1, self.total - 1 - self.warmup)
        done = min(1.0, max(0.0, (step - self.warmup) / span))
        return rising * (self.final + (1 - self.final) * (1 + cos(pi * done)) / 2)


def schedule_of(name: str, *, warmup: int, total: int) -> Schedule | CosineSchedule:
    """Return the schedule of a name: constant, linear (down to 0), cosine, or hold (constant, then linear).

    Raises UsageError for another name, and for a warm-up longer than the training.
    """
    known: dict[str, Schedule | CosineSchedule] = {
        "hold": Schedule(warmup=warmup, total=total),
        "constant": Schedule(warmup=warmup, total=total, hold=1.0),
        "linear": Schedule(warmup=warmup, total=total, hold=warmup / total, final=0.0),
        "cosine": CosineSchedule(warmup=warmup, total=total),
    }
    if name not in known:
        raise UsageError(f"no schedule {name[:80]!r}; {nearest(name[:80], known)}", code="unknown_name")
    return known[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class MuonSpec:
    """Momentum whose singular values are all made about 1 (Jordan et al. 2024).

    `precision` is that of the Newton-Schulz iteration: float32 is the faster one on processors without
    bfloat16 instructions, bfloat16 on accelerators. Weight decay is decoupled, per unit of learning rate.
    """

    learning_rate: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.0
    iterations: int = 5
    precision: torch.dtype = torch.float32

    def build(self, parameters: list[nn.Parameter], group: ProcessGroup | None = None) -> "Muon":
        return Muon(parameters, self, group)


@dataclass(frozen=True, kw_only=True)
class AdamSpec:
    """AdamW (Loshchilov & Hutter 2019); `weight_decay` is decoupled, per unit of learning rate.

    It acts on matrices alone: not on norms, biases, gates, modulation, nor on the patch embedding, of which perhaps
    only added channels learn (see `decays`).
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not (
            self.learning_rate > 0
            and len(self.betas) == 2
            and all(0 <= beta < 1 for beta in self.betas)
            and self.epsilon > 0
            and self.weight_decay >= 0
        ):
            raise UsageError(
                "AdamW needs learning_rate and epsilon above 0, two betas from 0 to below 1, and weight_decay from 0 "
                f"on; got {self.learning_rate}, {self.epsilon}, {self.betas} and {self.weight_decay}",
                code="value_out_of_range",
            )

    def build(self, named: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """Build it for parameters by name. Raises UsageError where this machine lacks it."""
        return torch.optim.AdamW(
            self._groups(named),
            lr=self.learning_rate,
            betas=self.betas,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def _groups(self, named: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """All in one group, unless some of them must not decay."""
        items = list(named)
        if not self.weight_decay or all(decays(name, item) for name, item in items):
            return [{"params": [item for _, item in items]}]
        decaying = [item for name, item in items if decays(name, item)]
        others = [item for name, item in items if not decays(name, item)]
        return [{"params": decaying}, {"params": others, "weight_decay": 0.0}]


@dataclass(frozen=True, kw_only=True)
class Adam8bitSpec(AdamSpec):
    """AdamW whose two moments take a byte a weight each instead of four, by torchao or bitsandbytes.

    Neither is a dependency: `pip install torchao` (any device) or `bitsandbytes` (CUDA).
    """

    def build(self, named: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """See `AdamSpec.build`. Raises UsageError when neither package is installed."""
        settings = {"lr": self.learning_rate, "betas": self.betas, "eps": self.epsilon}
        groups = self._groups(named)
        for module in ("torchao.optim", "bitsandbytes.optim"):
            with suppress(ImportError):
                kind = import_module(module).AdamW8bit
                return kind(groups, weight_decay=self.weight_decay, **settings)
        raise UsageError(
            "8-bit AdamW needs torchao or bitsandbytes; run pip install torchao, or take AdamW",
            code="package_missing",
        )


NO_DECAY = ("norm", "bias", "modulation", "gate", "positions", "patch_embedding")
"""Parts of the names of parameters that do not decay."""


def decays(name: str, parameter: Tensor) -> bool:
    """Return whether weight decay acts on a parameter."""
    return parameter.ndim >= 2 and not any(part in name for part in NO_DECAY)


def every_matrix(name: str, parameter: Tensor) -> bool:
    """Take matrices and convolution kernels; too many where embeddings or end layers are matrices too."""
    return parameter.ndim >= 2


def no_matrix(name: str, parameter: Tensor) -> bool:
    """Leave all to AdamW."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """Muon for the parameters that `hidden(name, parameter)` takes, AdamW for all others.

    Embeddings, norms, biases, modulation, and the first and last layers belong to AdamW: their rows are
    not the two sides of one linear map (Jordan et al. 2024).
    """

    muon: MuonSpec = field(default_factory=MuonSpec)
    adam: AdamSpec = field(default_factory=AdamSpec)
    hidden: Callable[[str, Tensor], bool] = every_matrix

    def build(self, named: Iterable[tuple[str, nn.Parameter]], group: ProcessGroup | None = None) -> "Optimizer":
        """Build it for one process of a `group`, whose gradients are the same in all when it steps.

        Raises UsageError when nothing can be trained, when `hidden` takes a vector, which Muon cannot, and when it
        takes nothing: who wants no Muon says so with `no_matrix`.
        """
        trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
        hidden = {name for name, parameter in trained if self.hidden(name, parameter)}
        vectors = sorted(name for name, parameter in trained if name in hidden and parameter.ndim < 2)
        if vectors:
            raise UsageError(
                f"Muon needs matrices; leave {', '.join(vectors)} out of the hidden parameters",
                code="parameters_not_matrices",
            )
        if not trained:
            raise UsageError(
                "no parameter asks for a gradient; unfreeze what should be trained", code="nothing_to_train"
            )
        if not hidden and self.hidden is not no_matrix:
            raise UsageError(
                f"no parameter is left to Muon: {self.hidden.__qualname__} takes none of {len(trained)}, "
                f"such as {trained[0][0]!r}; choose no_matrix, or mend its pattern",
                code="pattern_matches_nothing",
            )
        parts: dict[str, torch.optim.Optimizer] = {}
        if hidden:
            parts["muon"] = self.muon.build([parameter for name, parameter in trained if name in hidden], group)
        if len(hidden) < len(trained):
            parts["adam"] = self.adam.build([(name, item) for name, item in trained if name not in hidden])
        return Optimizer(parts)


class Optimizer:
    """Several optimisers that step as one, each at its own learning rate times a common factor."""

    def __init__(self, parts: dict[str, torch.optim.Optimizer]) -> None:
        self.parts = parts
        self._rates = {name: part.param_groups[0]["lr"] for name, part in parts.items()}

    def step(self, factor: float) -> None:
        """Update every parameter that has a gradient."""
        for name, part in self.parts.items():
            for settings in part.param_groups:
                settings["lr"] = factor * self._rates[name]
            part.step()

    def clear(self) -> None:
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


class Muon(torch.optim.Optimizer):
    """Steps by the nearest orthogonal matrix to the Nesterov momentum, times sqrt(max(1, rows / columns)).

    Convolution kernels count as matrices [out, everything else]. Matrices of one shape share one batched
    Newton-Schulz iteration; the processes of a group share the matrices.
    """

    def __init__(self, parameters: list[nn.Parameter], spec: MuonSpec, group: ProcessGroup | None = None) -> None:
        super().__init__(parameters, {"lr": spec.learning_rate})
        self._spec, self._group = spec, group or SingleProcess()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for settings in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for parameter in settings["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape[0], parameter[0].numel()].append(parameter)
            stacks = [
                torch.stack([self._ahead(parameter).reshape(shape) for parameter in parameters])
                for shape, parameters in by_shape.items()
            ]
            directions = self._group.map_sharded(self._directions, stacks)
            for parameters, direction in zip(by_shape.values(), directions, strict=True):
                self._move(parameters, direction, settings["lr"])

    def _directions(self, matrices: Float[Tensor, "k r c"]) -> Float[Tensor, "k r c"]:
        return orthogonalized(matrices, iterations=self._spec.iterations, precision=self._spec.precision)

    def _move(self, parameters: list[nn.Parameter], directions: Float[Tensor, "k r c"], learning_rate: float) -> None:
        rows, columns = directions.shape[1:]
        scale = learning_rate * max(1.0, rows / columns) ** 0.5
        for parameter, direction in zip(parameters, directions, strict=True):
            parameter.mul_(1 - learning_rate * self._spec.weight_decay)
            parameter.add_(direction.reshape(parameter.shape), alpha=-scale)

    def _ahead(self, parameter: nn.Parameter) -> Tensor:
        """Update the momentum and return its next value as guessed from the same gradient (Nesterov)."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - self._spec.momentum)
        return gradient.lerp(momentum, self._spec.momentum)


def orthogonalized(
    matrices: Float[Tensor, "k r c"], *, iterations: int = 5, precision: torch.dtype = torch.float32
) -> Float[Tensor, "k r c"]:
    """Approximate U V^T of each matrix U S V^T: X <- a X + (b G + c G^2) X with G = X X^T, after X / |X|_F.

    A zero matrix stays zero.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices
    x = (wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(precision)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
