"""Do long videos hold together? Videos in windows and of one window by mini, with the same prompts and seeds.

    python benchmarks/long_videos.py [--videos 24] [--short 40] [--seconds 20] [--overlap 8] [--no-anchor] [--json]

Prompts are of level L1: one object over a plain background. Printed are the share of stretches of 17 frames that show
the same number of objects in all frames (count constancy), and the share of frames that show as many as asked; of the
colour of the border the largest difference of a channel, of 255: between two frames where a window begins, between two
others, and between any two of a video (drift). Intervals are 95 %, by a bootstrap over whole videos.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import process_time

import numpy as np

import kinoform
from kinoform.pipelines.generate import silent
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.windows import Windows
from kinoform.world.caption import caption
from kinoform.world.constancy import counts
from kinoform.world.reader_ground import border_mask
from kinoform.world.sampling import L1, sample_scene

STRETCH = 17
"""Frames over which the number of objects is compared: those of one window of mini."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """Figures of one video: by stretch whether the count is constant, the share of right frames; steps of colour."""

    constant: list[bool]
    right: list[float]
    at_borders: list[float]
    elsewhere: list[float]
    drift: float
    seconds: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--videos", type=int, default=24)
    options.add_argument("--short", type=int, default=40)
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--overlap", type=int, default=None)
    options.add_argument("--no-anchor", action="store_true")
    options.add_argument("--json", action="store_true", help="the figures of every video")
    chosen = options.parse_args()
    pipe = kinoform.load("mini", device="cpu")
    windows = Windows(frames=pipe.recipe.num_frames, overlap=chosen.overlap, anchor=not chosen.no_anchor)
    short = [_held(pipe, number, 0.0, windows) for number in range(chosen.short)]
    long = [_held(pipe, number, chosen.seconds, windows) for number in range(chosen.videos)]
    if chosen.json:
        print(json.dumps({"one window": [asdict(item) for item in short], "long": [asdict(item) for item in long]}))
        return
    print(f"{'':34}{'one window':>26}{f'{chosen.seconds:g} s':>26}")
    for name, figures in {
        "videos": [str(len(short)), str(len(long))],
        "count constancy": [_share(short, "constant"), _share(long, "constant")],
        "of it, first half": ["", _share(long, "constant", slice(0, 9))],
        "of it, second half": ["", _share(long, "constant", slice(9, None))],
        "frames of the right count": [_share(short, "right"), _share(long, "right")],
        "largest step at borders": ["", f"{max(max(item.at_borders, default=0) for item in long):.1f}"],
        "largest step elsewhere": [f"{max(max(item.elsewhere) for item in group):.1f}" for group in (short, long)],
        "mean step at borders": ["", f"{np.mean([np.mean(item.at_borders) for item in long]):.2f}"],
        "mean step elsewhere": [
            f"{np.mean([np.mean(item.elsewhere) for item in group]):.2f}" for group in (short, long)
        ],
        "drift, mean": [f"{np.mean([item.drift for item in group]):.1f}" for group in (short, long)],
        "drift, largest": [f"{max(item.drift for item in group):.1f}" for group in (short, long)],
        "CPU seconds a video": [f"{np.mean([item.seconds for item in group]):.1f}" for group in (short, long)],
    }.items():
        print(f"{name:34}" + "".join(f"{figure:>26}" for figure in figures))


def _held(pipe: Pipeline, number: int, seconds: float, windows: Windows) -> Held:
    generator = np.random.default_rng([20, number])
    prompt, begun = caption(sample_scene(L1, generator).story, generator), process_time()
    asked = pipe.request(
        prompt,
        seed=number,
        num_frames=1 + 4 * round(seconds * pipe.recipe.fps / 4) if seconds else None,
        windows=windows,
    )
    frames = pipe.frames(next(pipe.latents([asked], silent)), silent)
    spent = process_time() - begun
    colours = np.median(frames[:, border_mask(*frames.shape[1:3])], axis=1).astype(float)
    steps = np.abs(np.diff(colours, axis=0)).max(axis=1)
    borders = {4 * (window.start - 1) for window in asked.in_windows(pipe.parts.codec_spec) if window.start}
    seen = [counts(frames[first : first + STRETCH]) for first in range(0, len(frames) - STRETCH + 1, STRETCH)]
    return Held(
        constant=[len(set(item)) == 1 for item in seen],
        right=[item.count(1) / len(item) for item in seen],
        at_borders=[float(step) for index, step in enumerate(steps) if index in borders],
        elsewhere=[float(step) for index, step in enumerate(steps) if index not in borders],
        drift=float(np.ptp(colours, axis=0).max()),
        seconds=spent,
    )


def _share(videos: Sequence[Held], name: str, part: slice = slice(None)) -> str:
    """Return the mean over videos with its interval, by a bootstrap over whole videos."""
    values = np.array([np.mean(getattr(video, name)[part]) for video in videos])
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
