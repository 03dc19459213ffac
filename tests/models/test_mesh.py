"""Tokens split over two ranks, here two threads: every rank returns what one alone would."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.models.protocols import Attend, Heads, Mesh, Modulation, Stream
from kinoform.models.vace_blocks import VaceContext
from kinoform.ops.rope import Rotary
from kinoform.types import Conditions, Grid, Level
from tests.models.recorded import gap
from tests.models.toys import (
    FACTORISED,
    GRID,
    REFERENCES,
    SIDE,
    TEXT,
    TINY,
    TOLD,
    GuestSpec,
    Images,
    noise,
    random_dit,
    video,
)
from tests.support.narrowing import some


class Meeting:
    """Where the threads of two ranks hand each other what they hold."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)
        self.brought: list[Any] = [None, None]

    def exchange(self, rank: int, x: Tensor) -> list[Tensor]:
        self.brought[rank] = x
        self.barrier.wait(timeout=120)
        found = list(self.brought)
        self.barrier.wait(timeout=120)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMesh:
    """Two ranks; the first holds `share` of every axis. Attention trades tokens for heads and back (Ulysses)."""

    meeting: Meeting
    rank: int
    share: float

    def split(self, x: Tensor, axis: int) -> Tensor:
        return x.tensor_split([round(x.shape[axis] * self.share)], axis)[self.rank]

    def gather(self, x: Tensor, axis: int) -> Tensor:
        return torch.cat(self.meeting.exchange(self.rank, x), axis)

    def attend(self, kernel: Attend, q: Heads, k: Heads, v: Heads, grid: Grid) -> Heads:
        q, k, v = (self.split(self.gather(x, 1), 2) for x in (q, k, v))
        return self.split(self.gather(kernel(q, k, v, grid), 2), 1)


def on_two_ranks(share: float, step: Callable[[Mesh], Any]) -> list[Any]:
    """What each rank returns."""
    meeting = Meeting()
    ranks = [ThreadMesh(meeting=meeting, rank=rank, share=share) for rank in range(2)]

    def work(mesh: ThreadMesh) -> Any:
        try:
            with torch.no_grad():
                return step(mesh)
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, ranks))


def test_splitting_and_gathering_undo_each_other():
    """All that has one entry per token: 50 with guests, 45 in the video."""
    stream = Stream(
        tokens=noise(1, 2, 50, 3), start=noise(2, 2, 45, 3), rotary=Rotary(noise(3, 50, 4), noise(4, 50, 4)),
        grid=GRID, modulation=Modulation(embedding=noise(5, 1, 2, 3), rows=noise(6, 1, 2, 6, 3),
        index=torch.arange(100).view(2, 50) % 2), context={},
    )  # fmt: skip

    def parts(stream: Stream) -> list[Tensor | None]:
        return [stream.tokens, stream.start, *stream.rotary, stream.modulation.index]

    def step(mesh: Mesh) -> list[Tensor | None]:
        own = replace(stream, mesh=mesh).split()
        shares = [mesh.split(x, axis) for x, axis in zip(parts(stream), (1, 1, 0, 0, 1), strict=True) if x is not None]
        assert all(torch.equal(a, b) for a, b in zip(parts(own), shares, strict=True) if a is not None)
        assert shares[0].shape[1] < 50
        return parts(own.gather())

    for found in on_two_ranks(0.3, step):
        assert all(torch.equal(a, some(b)) for a, b in zip(found, parts(stream), strict=True))


EVERYTHING = replace(
    TINY, in_channels=6, context=(TEXT, REFERENCES), branches=(GuestSpec(), SIDE, GuestSpec(name="more"))
)
TOLD_EVERYTHING = Conditions(
    context={**TOLD.context, "reference": noise(6, 1, 7, 6)},
    channels=video(7, channels=2),
    clean=torch.arange(GRID.tokens) < 7,
    branches={
        "guests": Images(video(9, frames=1), -1.0, 0.0),
        "vace": VaceContext(latents=video(12, channels=5), scale=0.8),
        "more": Images(video(10, frames=2), 7.5, 250.0),
    },
)
MESHES = {
    "full": (TINY, TOLD, GRID.tokens),
    "factorised": (FACTORISED, TOLD, GRID.tokens),
    "levels by token": (TINY, replace(TOLD, clean=TOLD_EVERYTHING.clean), GRID.tokens),
    "everything": (EVERYTHING, TOLD_EVERYTHING, 2 * GRID.tokens),
}


@pytest.mark.parametrize("share", [0.5, 0.3, 0.8])
@pytest.mark.parametrize("name", MESHES)
def test_two_ranks_give_what_one_gives(name: str, share: float):
    """Tokens, places, levels, guests and a branch's stream are split together, also unevenly (45 tokens)."""
    spec, told, tokens = MESHES[name]
    model, level = random_dit(spec), Level(sigma=0.6, timestep=600.0)

    def step(mesh: Mesh | None) -> Tensor:
        prepared = model.prepare(told, GRID, mesh)
        other = model.prepare(replace(told, context={**told.context, "text": noise(14, 1, 3, 10)}), GRID, mesh)
        return torch.stack(model.velocities(video(), level, (prepared, other)))

    alone, counts = step(None), {}
    hook = model.get_submodule("blocks.0.feed_forward").register_forward_hook(
        lambda module, given, out: counts.update({threading.get_ident(): given[0].shape[1]})
    )
    found = on_two_ranks(share, step)
    hook.remove()
    for velocity in found:
        assert gap(velocity, alone) < 1e-5
    assert sum(counts.values()) == tokens, "each rank had its own part"
    assert gap(alone[1], alone[0]) > 1e-2
