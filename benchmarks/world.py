"""Does the reader read what the world renders, at every level and size?

    python benchmarks/world.py [--count 200] [--json] [--only TEXT]

Videos are rendered from scenes drawn by fixed seeds, every second one with a held-out combination; the same scenes
at every size of a level. A figure is the share of videos whose attribute was read right; `size` is judged on videos
whose caption says one. Ends with 1 when a share is below 99 %.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from time import process_time

import numpy as np

from kinoform.world.reader import read
from kinoform.world.render import render
from kinoform.world.sampling import L1, L2, L3, Difficulty, sample_scene
from kinoform.world.scene import MEDIUM, Scene
from kinoform.world.score import Score, compare

ATTRIBUTES = ("background", "texture", "camera", "count", "colour", "shape", "motion", "size")
BOUND = 0.99
LEVELS = {"L1": L1, "L2": L2, "L3": L3}
SIZES = ((64, 64), (64, 112), (96, 96), (96, 176), (128, 128), (128, 224))
"""Height and width: square, and the multiple of 16 nearest to 16:9."""

LENGTHS = (17, 33)
SEED = 2_000_003


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One line of the table."""

    level: str
    num_frames: int
    height: int
    width: int

    @property
    def name(self) -> str:
        return f"{self.level} {self.num_frames}x{self.height}x{self.width}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Shares from 0 to 1 by attribute, None where no caption says it; CPU milliseconds per video."""

    setting: Setting
    shares: dict[str, float | None]
    render_ms: float
    read_ms: float

    def record(self) -> dict[str, object]:
        return {"setting": self.setting.name, **self.shares, "render_ms": self.render_ms, "read_ms": self.read_ms}

    def passes(self) -> bool:
        return all(share is None or share >= BOUND for share in self.shares.values())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=200, help="videos per setting")
    options.add_argument("--json", action="store_true", help="one object a line")
    options.add_argument("--only", default="", metavar="TEXT", help='settings whose name begins so: "L2 17x64"')
    given = options.parse_args()
    if given.count < 1:
        options.error(f"--count must be at least 1, not {given.count}")
    chosen = [setting for setting in settings() if setting.name.startswith(given.only)]
    if not chosen:
        options.error(f"no setting begins with {given.only!r}; the first is {next(settings()).name!r}")
    if not given.json:
        print(f"{'setting':<16}{''.join(f'{name:>11}' for name in (*ATTRIBUTES, 'render', 'read'))}", flush=True)
    low = 0
    for setting in chosen:
        row = measure(setting, given.count)
        low += not row.passes()
        print(json.dumps(row.record(), sort_keys=True) if given.json else line(row), flush=True)
    sys.exit(1 if low else 0)


def settings() -> Iterator[Setting]:
    for level in LEVELS:
        for num_frames in LENGTHS:
            for height, width in SIZES:
                yield Setting(level=level, num_frames=num_frames, height=height, width=width)


def measure(setting: Setting, count: int) -> Measured:
    rendering, reading = 0.0, 0.0
    judged: list[tuple[Scene, Score]] = []
    for scene in scenes(LEVELS[setting.level], count):
        begun = process_time()
        video = render(scene, num_frames=setting.num_frames, height=setting.height, width=setting.width)
        rendered = process_time()
        seen = read(video)
        rendering, reading = rendering + rendered - begun, reading + process_time() - rendered
        judged.append((scene, compare(scene.story, seen)))
    return Measured(
        setting=setting,
        shares={name: share(name, judged) for name in ATTRIBUTES},
        render_ms=1000 * rendering / count,
        read_ms=1000 * reading / count,
    )


def scenes(level: Difficulty, count: int) -> Iterator[Scene]:
    for number in range(count):
        yield sample_scene(level, np.random.default_rng([SEED, number]), held_out=bool(number % 2))


def share(name: str, judged: list[tuple[Scene, Score]]) -> float | None:
    right = [getattr(score, name) for scene, score in judged if name != "size" or says_size(scene)]
    return sum(right) / len(right) if right else None


def says_size(scene: Scene) -> bool:
    return any(subject.size != MEDIUM for subject in scene.story.subjects)


def line(row: Measured) -> str:
    shares = "".join(f"{'' if part is None else f'{part:.1%}':>11}" for part in row.shares.values())
    return f"{row.setting.name:<16}{shares}{row.render_ms:>8.1f} ms{row.read_ms:>8.1f} ms"


if __name__ == "__main__":
    main()
