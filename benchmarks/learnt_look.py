"""Count what a LoRA from eight clips has taught the embedded model: brown, a colour and a word it has never seen.

    kinoform train lora examples/clips
    python benchmarks/learnt_look.py runs/mini-lora/lora.safetensors

Of held-out prompts each is asked with brown in place of its colour, and as it is. Counted are videos whose one object
is brown where that was asked for, by the base and with the LoRA; and on the prompts as they are, what the LoRA has
cost, in pairs. First the reader is asked whether it knows brown objects.
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
from kinoform.world.palette import BACKGROUND_COLOURS
from kinoform.world.reader_ground import find_ground
from kinoform.world.reader_objects import FOREGROUND, find_objects
from kinoform.world.render import render
from kinoform.world.sampling import L1, sample_scene
from kinoform.world.scene import Scene

SEED = 20261204
BROWN = (115, 65, 30)
MARKS = ("count", "colour", "shape", "motion", "background", "all_right")


def main() -> None:
    parser = argparse.ArgumentParser(description="Count what a LoRA from examples/clips has taught.")
    parser.add_argument("lora")
    parser.add_argument("--count", type=int, default=200, help="prompts in gray")
    parser.add_argument("--pairs", type=int, default=400, help="prompts as they were")
    asked = parser.parse_args()
    base, tuned = kinoform.load("mini", device="cpu"), kinoform.load("mini", loras=[(asked.lora, 1.0)], device="cpu")
    brown = [(*in_brown(scene, words), seed) for scene, words, seed in drawn(asked.count)]
    told = {
        "videos": len(brown),
        "reader": sum(is_brown(render(scene)) for scene, _, _ in brown),
        "base": sum(is_brown(base(words, seed=seed).frames) for _, words, seed in brown),
        "lora": sum(is_brown(tuned(words, seed=seed).frames) for _, words, seed in brown),
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


def in_brown(scene: Scene, words: str) -> tuple[Scene, str]:
    """Return the scene with its object painted brown, and the caption that says so."""
    (thing,) = scene.things
    colour = thing.subject.colour
    over = tuple(brown - own for brown, own in zip(BROWN, colour.rgb, strict=True))
    return replace(scene, things=(replace(thing, jitter=over),)), re.sub(rf"(an )?\b{colour.name}\b", _brown, words)


def _brown(match: re.Match[str]) -> str:
    return "a brown" if match[1] else "brown"


def is_brown(frames: np.ndarray) -> bool:
    """Tell whether a video shows one object, whose median colour is nearer to brown than to any of the world."""
    planes = np.ascontiguousarray(np.moveaxis(frames, -1, 0), dtype=np.float32)
    ground = find_ground(planes)
    _, distance = ground.place(planes)
    count, objects = find_objects(planes, distance, distance > FOREGROUND, ground.base.mean(axis=0))
    known = np.array([BROWN, *(colour.rgb for colour in BACKGROUND_COLOURS)])
    return count == 1 and int(np.argmin(((known - objects[0].rgb) ** 2).sum(axis=1))) == 0


if __name__ == "__main__":
    main()
