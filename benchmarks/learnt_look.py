"""What a LoRA from eight clips has taught the embedded model: gray objects, which it has never seen.

    kinoform train lora examples/clips
    python benchmarks/learnt_look.py runs/mini-lora/lora.safetensors

Of held-out prompts each is asked with gray in place of its colour, and as it is. Counted are videos whose one object
is gray where that was asked for, by the base and with the LoRA; and on the prompts as they are, what the LoRA has cost,
in pairs. First the reader is asked whether it knows gray objects.
"""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

import kinoform
from kinoform.evaluation.case import seed_from
from kinoform.evaluation.report import paired_interval
from kinoform.evaluation.result import judge
from kinoform.world.caption import caption
from kinoform.world.palette import GRAY
from kinoform.world.reader import read
from kinoform.world.render import render
from kinoform.world.sampling import L1, sample_scene
from kinoform.world.scene import Scene

SEED = 20261204
MARKS = ("count", "colour", "shape", "motion", "background", "all_right")


def main() -> None:
    parser = argparse.ArgumentParser(description="Count what a LoRA from examples/clips has taught.")
    parser.add_argument("lora")
    parser.add_argument("--count", type=int, default=200, help="prompts in gray")
    parser.add_argument("--pairs", type=int, default=400, help="prompts as they were")
    asked = parser.parse_args()
    base, tuned = kinoform.load("mini", device="cpu"), kinoform.load("mini", loras=[(asked.lora, 1.0)], device="cpu")
    gray = [(*in_gray(scene, words), seed) for scene, words, seed in drawn(2 * asked.count) if not has_gray(scene)]
    gray = gray[: asked.count]
    told = {
        "videos": len(gray),
        "reader": sum(is_gray(render(scene)) for scene, _, _ in gray),
        "base": sum(is_gray(base(words, seed=seed).frames) for _, words, seed in gray),
        "lora": sum(is_gray(tuned(words, seed=seed).frames) for _, words, seed in gray),
    }
    print(json.dumps(told), flush=True)
    pairs = [
        [judge(scene.story, L1, model(words, seed=seed).frames).marks for model in (base, tuned)]
        for scene, words, seed in drawn(asked.pairs)
    ]
    for mark in MARKS:
        lost = sum(one[mark] and not other[mark] for one, other in pairs)
        won = sum(other[mark] and not one[mark] for one, other in pairs)
        low, high = paired_interval(lost, won, len(pairs))
        difference = (won - lost) / len(pairs)
        print(json.dumps({"mark": mark, "difference": difference, "low": low, "high": high}), flush=True)


def drawn(count: int) -> Iterator[tuple[Scene, str, int]]:
    """Yield held-out scenes with their captions and the seeds of their noise."""
    for number in range(count):
        generator = np.random.default_rng([SEED, number])
        scene = sample_scene(L1, generator, held_out=True)
        yield scene, caption(scene.story, generator), seed_from(generator)


def has_gray(scene: Scene) -> bool:
    """Tell whether the background is gray already."""
    return scene.story.background.colour == GRAY


def in_gray(scene: Scene, words: str) -> tuple[Scene, str]:
    """Return the scene with its object painted gray, and the caption that says so."""
    (thing,) = scene.things
    colour = thing.subject.colour
    over = tuple(gray - own for gray, own in zip(GRAY.rgb, colour.rgb, strict=True))
    return replace(scene, things=(replace(thing, jitter=over),)), re.sub(rf"(an )?\b{colour.name}\b", _gray, words)


def _gray(match: re.Match[str]) -> str:
    return "a gray" if match[1] else "gray"


def is_gray(frames: np.ndarray) -> bool:
    """Tell whether a video shows one object, and that gray."""
    seen = read(frames)
    return seen.count == 1 and seen.things[0].colour == GRAY


if __name__ == "__main__":
    main()
