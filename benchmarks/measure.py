"""Two sides of one comparison, measured in turn in one process, and the fastest that the machine goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from kinoform.ops.cpu import linear

Work = Callable[[], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Medians of one side; `cpu` seconds of the process count both threads and no waiting. Bytes of memory."""

    cpu: float | None = None
    wall: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`gap` is the RMS of the difference over the RMS of their result; `share` that of the machine's peak."""

    case: str
    ours: Cost
    theirs: Cost | None = None
    gap: float | None = None
    share: tuple[float, float] | None = None

    @property
    def ratio(self) -> float | None:
        """Return ours / theirs, of what was measured: memory, else CPU seconds. Below 1 kinoform is ahead."""
        if self.theirs is None:
            return None
        mine, other = (side.memory or side.cpu or 0.0 for side in (self.ours, self.theirs))
        return mine / other

    def record(self) -> dict[str, object]:
        return asdict(self) | {"ratio": self.ratio}


def compare(case: str, ours: Work, theirs: Work, *, rounds: int, flops: float, peak: float, alike: bool = True) -> Row:
    """Run both once to warm up, then `rounds` times ours, theirs, ours, theirs. `flops` are those of either side.

    `alike` says that both compute the same function, so that the results are compared too.
    """
    with torch.inference_mode():
        mine, other = ours().double(), theirs().double()
        costs = in_turn((ours, theirs), rounds)
    first, second = (flops / (cost.cpu or 1) / peak for cost in costs)
    gap = ((mine - other).square().mean() / other.square().mean()).sqrt().item() if alike else None
    return Row(case=case, ours=costs[0], theirs=costs[1], gap=gap, share=(first, second))


def in_turn(works: Sequence[Work], rounds: int) -> list[Cost]:
    """Return the medians of each, run one after the other, `rounds` times."""
    times = [[_time(work) for work in works] for _ in range(rounds)]
    return [
        Cost(cpu=median(t.cpu or 0 for t in side), wall=median(t.wall or 0 for t in side))
        for side in zip(*times, strict=True)
    ]


def _time(work: Work) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Cost(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)


def product_peak(dtype: torch.dtype, side: int) -> float:
    """FLOP per CPU second of the fastest product of two square matrices that PyTorch offers here."""
    x, weight = torch.randn(2, side, side).to(dtype)
    return 2.0 * side**3 / min(_best(lambda: F.linear(x, weight)), _best(lambda: linear(x, weight, None)))


def convolution_peak(dtype: torch.dtype, side: int) -> float:
    """FLOP per CPU second of a 3x3x3 convolution of 96 channels, in the faster of two memory layouts."""
    x, weight = torch.randn(1, 96, 4, side, side).to(dtype), torch.randn(96, 96, 3, 3, 3).to(dtype)
    last = [t.contiguous(memory_format=torch.channels_last_3d) for t in (x, weight)]
    fastest = min(_best(lambda: F.conv3d(x, weight, padding=1)), _best(lambda: F.conv3d(*last, padding=1)))
    return 2.0 * 96 * 96 * 27 * 4 * side * side / fastest


@torch.inference_mode()
def _best(work: Work, rounds: int = 5) -> float:
    work()
    return max(min(_time(work).cpu or 0.0 for _ in range(rounds)), 1e-9)
