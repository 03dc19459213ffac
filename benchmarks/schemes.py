"""Full against factorized attention: a forward of either, measured, beside what `kinoform plan` predicts.

    python benchmarks/schemes.py [--smallest] [--json] [--anyway] [--threads N]

Three models of the embedded model's width, with random weights, in the same process, in turn: full attention,
factorized blocks, and full blocks whose layers alternate between space and time. Times are CPU seconds of one
velocity; a ratio is that of factorized to full, below 1 where factorized takes less. Then attention within places as
one batched kernel against a loop over places.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import exp, log

import torch
from loaded import loaded
from measure import in_turn
from quiet import disturbing
from torch import Tensor

from kinoform.conditions.protocols import NOTHING
from kinoform.mini.recipe import mini
from kinoform.models.attention.factorized import within_places
from kinoform.models.codec import latent_size
from kinoform.models.dit import initialise
from kinoform.ops.attention import attend
from kinoform.ops.dry_run import Kernels
from kinoform.ops.patch import grid_of
from kinoform.plan.crossover import BLOCKS, cheaper_from
from kinoform.plan.evaluations import Asked
from kinoform.plan.transformer import measured_transformer
from kinoform.plan.workload import Sizes, Workload
from kinoform.types import Conditions, Grid

VIDEOS = {
    "small": {64: (17, 65, 129, 257), 128: (17, 33, 65), 256: (5, 17, 65)},
    "smallest": {32: (5, 9)},
}
"""Numbers of frames by side in pixels; each side's lengths lie on both sides of its predicted crossover."""

ROUNDS = {"small": 7, "smallest": 1}
TIMESTEP = 500.0
RECIPE = mini()
SPECS = {name: replace(RECIPE.transformer, block=block) for name, block in BLOCKS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """CPU seconds by key of BLOCKS; `predicted` is the ratio of planned operations of factorized and full."""

    frames: int
    side: int
    tokens: int
    seconds: Mapping[str, float]
    predicted: float

    @property
    def ratio(self) -> float:
        return self.seconds["factorized"] / self.seconds["full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Frames from which factorized takes less: no more than the fewest measured, None where it never did."""

    side: int
    measured: float | None
    predicted: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """CPU seconds of attention within places; `gap` is the largest difference of the two results."""

    frames: int
    side: int
    places: int
    batched: float
    loop: float
    gap: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--smallest", action="store_true", help="only to see that everything runs")
    options.add_argument("--json", action="store_true", help="one object a line")
    options.add_argument("--anyway", action="store_true", help="beside other busy processes too")
    options.add_argument("--threads", type=int, help="of PyTorch")
    given = options.parse_args()
    if not given.anyway and (others := disturbing()):
        sys.exit("the machine is not free: " + "; ".join(others) + "; wait, or add --anyway")
    if given.threads:
        torch.set_num_threads(given.threads)
    size = "smallest" if given.smallest else "small"
    heading = None
    for row in measured(VIDEOS[size], ROUNDS[size]):
        if given.json:
            print(json.dumps({"kind": type(row).__name__.lower(), **asdict(row)}), flush=True)
            continue
        above, below = lines(row)
        if above != heading:
            print(above if heading is None else f"\n{above}")
        print(below, flush=True)
        heading = above


@torch.inference_mode()
def measured(videos: Mapping[int, Sequence[int]], rounds: int) -> Iterator[Forward | Turn | Places]:
    """Yield each row as it is measured."""
    every: dict[int, list[Forward]] = {side: [] for side in videos}
    for side, counts in videos.items():
        for frames in counts:
            every[side].append(forward(frames, side, rounds))
            yield every[side][-1]
    for side, rows in every.items():
        yield Turn(side=side, measured=crossing(rows), predicted=predicted_crossing(side))
    for side, counts in videos.items():
        yield places(counts[-1], side, rounds)


def forward(frames: int, side: int, rounds: int) -> Forward:
    """Compute one velocity of each model. Keys and values of the prompt were made before, as they are once a video."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, RECIPE.codec.channels, *latent_size(RECIPE.codec, frames, side, side), generator=generator)
    rows = torch.randn(1, RECIPE.text.length, RECIPE.text.dim, generator=generator)
    time, grid, works = torch.tensor([TIMESTEP]), grid_of(x, RECIPE.transformer.patch), []
    for spec in SPECS.values():
        drawn = spec.build()
        initialise(drawn, generator)
        model = loaded(spec.build, drawn).eval()
        prepared = model.prepare(Conditions(context={"text": rows}), grid)
        works.append(lambda model=model, prepared=prepared: model(x, time, prepared))
        works[-1]()
    costs = in_turn(works, rounds)
    flops = {name: velocity_flops(name, grid) for name in SPECS}
    return Forward(
        frames=frames,
        side=side,
        tokens=grid.tokens,
        seconds={name: cost.cpu or 0.0 for name, cost in zip(SPECS, costs, strict=True)},
        predicted=flops["factorized"] / flops["full"],
    )


def velocity_flops(name: str, grid: Grid) -> int:
    """Count one velocity, without what is prepared once a video."""
    frames, height, width = (
        number * part for number, part in zip((grid.frames, grid.height, grid.width), SPECS[name].patch, strict=True)
    )
    text = torch.empty(1, RECIPE.text.length, RECIPE.text.dim, device="meta")
    run = measured_transformer(SPECS[name]).run(
        (frames, height, width), text, lambda: NOTHING, Asked(), Kernels(parts=False, ordered=False)
    )
    return run.prompt.velocity


def crossing(rows: Sequence[Forward]) -> float | None:
    """Find where the ratio falls through 1, between two lengths by the straight line of their logarithms."""
    if rows[0].ratio <= 1:
        return float(rows[0].frames)
    for before, after in pairwise(rows):
        if after.ratio <= 1:
            share = log(before.ratio) / (log(before.ratio) - log(after.ratio))
            return exp(log(before.frames) + share * (log(after.frames) - log(before.frames)))
    return None


def predicted_crossing(side: int) -> int | None:
    full, factorized = (
        Sizes(transformers=(SPECS[name],), codec=RECIPE.codec, text=RECIPE.text) for name in ("full", "factorized")
    )
    work = Workload(width=side, height=side, num_frames=1, steps=1, guidance_scale=1.0)
    return cheaper_from(full, factorized, work, RECIPE.fps)


def places(frames: int, side: int, rounds: int) -> Places:
    """Draw q, k and v of one block as random numbers, of the embedded model's heads."""
    spec = RECIPE.transformer
    size = (n // part for n, part in zip(latent_size(RECIPE.codec, frames, side, side), spec.patch, strict=True))
    grid = Grid(**dict(zip(("frames", "height", "width"), size, strict=True)))
    generator = torch.Generator().manual_seed(2)
    q, k, v = torch.randn(3, 1, grid.tokens, spec.heads, spec.dim // spec.heads, generator=generator)
    works = (lambda: within_places(q, k, v, grid), lambda: one_by_one(q, k, v, grid))
    first, second = (work() for work in works)
    batched, loop = (cost.cpu or 0.0 for cost in in_turn(works, rounds))
    gap = (first - second).abs().max().item()
    return Places(frames=frames, side=side, places=grid.height * grid.width, batched=batched, loop=loop, gap=gap)


def one_by_one(q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
    """Attention within places, as a loop over them."""
    found, count = torch.empty_like(q), grid.height * grid.width
    for place in range(count):
        found[:, place::count] = attend(*(x[:, place::count] for x in (q, k, v)))
    return found


def lines(row: Forward | Turn | Places) -> tuple[str, str]:
    """Return the heading of its table, and the row."""
    if isinstance(row, Forward):
        video, seconds = (
            f"{row.frames}x{row.side}x{row.side}",
            "".join(f"{1e3 * s:>13.1f}" for s in row.seconds.values()),
        )
        names = "".join(f"{name:>13}" for name in row.seconds)
        return (
            f"{'forward, ms':<14}{'tokens':>7}{names}{'ratio':>8}{'predicted':>11}",
            f"{video:<14}{row.tokens:>7}{seconds}{row.ratio:>8.2f}{row.predicted:>11.2f}",
        )
    if isinstance(row, Turn):
        told = ["never" if each is None else f"{each:.0f} frames" for each in (row.measured, row.predicted)]
        return (
            f"{'faster from':<14}{'measured':>13}{'predicted':>13}",
            f"{f'{row.side}x{row.side}':<14}{told[0]:>13}{told[1]:>13}",
        )
    video, ratio = f"{row.frames}x{row.side}x{row.side}", row.batched / row.loop
    return (
        f"{'time, ms':<14}{'places':>7}{'batched':>13}{'loop':>13}{'ratio':>8}{'gap':>11}",
        f"{video:<14}{row.places:>7}{1e3 * row.batched:>13.2f}{1e3 * row.loop:>13.2f}{ratio:>8.2f}{row.gap:>11.0e}",
    )


if __name__ == "__main__":
    main()
