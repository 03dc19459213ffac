"""Skill: does a film show what its prompt says? Counted, with intervals, beside the codec's ceiling and chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np
import torch

from kinoform.errors import UsageError
from kinoform.models.codec import to_uint8
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.caption import caption
from kinoform.world.reader import read
from kinoform.world.render import render
from kinoform.world.sampling import L1, Level, sample_scene
from kinoform.world.scene import Scene
from kinoform.world.score import Score, chance, compare, wilson

ATTRIBUTES = ("background", "count", "colour", "shape", "motion", "all_right")
EVALUATION_SEED = 1_000_003
"""Scenes and noise of the evaluation come from here; trainings use other seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of `trials` films were right, and the 95 % Wilson interval of the share."""

    right: int
    trials: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.right / self.trials


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSkill:
    """One split's table. `ceiling` reads the codec's own reconstructions of rendered films of the prompts.

    `binding_error`: the background has the colour asked of the object.
    """

    split: str
    skill: dict[str, Share]
    ceiling: dict[str, Share]
    binding_error: Share
    seconds_per_film: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Both splits: prompts of seen combinations, and of combinations held out of training."""

    model: str
    fingerprint: str
    settings: dict[str, object]
    chance: dict[str, float]
    splits: tuple[SplitSkill, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def evaluate(
    pipeline: Pipeline,
    *,
    count: int = 200,
    level: Level = L1,
    tell: Callable[[str, int, int], None] = lambda split, done, total: None,
    **changes: object,
) -> Evaluation:
    """Make `count` films per split with fixed seeds and read them; `changes` go into every request.

    Raises UsageError when `count` is below 1 or the request cannot be made.
    """
    if count < 1:
        raise UsageError(f"count must be at least 1, not {count}")
    names = ("background", "count", "colour", "shape", "motion")
    guess = chance(level)
    return Evaluation(
        model=pipeline.recipe.name,
        fingerprint=pipeline.parts.fingerprint(),
        settings={name: value for name, value in pipeline.params(pipeline.request("x", seed=0, **changes)).items()
                  if name in ("width", "height", "num_frames", "steps", "guidance", "shift", "solver", "dtype")},
        chance={name: getattr(guess, name) for name in names} | {"all_right": guess.all_right},
        splits=tuple(
            _split(pipeline, split, held_out, count, level, tell, changes)
            for split, held_out in (("seen", False), ("held-out", True))
        ),
    )  # fmt: skip


def prompts(split_seed: int, count: int, level: Level, *, held_out: bool) -> Iterator[tuple[Scene, str, int]]:
    """(scene, caption, film seed) of a split: the same on every machine."""
    for number in range(count):
        generator = np.random.default_rng([EVALUATION_SEED, split_seed, number])
        scene = sample_scene(level, generator, held_out=held_out)
        yield scene, caption(scene.story, generator), int(generator.integers(2**31))


def _split(
    pipeline: Pipeline, split: str, held_out: bool, count: int, level: Level,
    tell: Callable[[str, int, int], None], changes: dict[str, object],
) -> SplitSkill:  # fmt: skip
    scores, ceiling, seconds = [], [], 0.0
    for number, (scene, prompt, seed) in enumerate(prompts(int(held_out), count, level, held_out=held_out)):
        begun = perf_counter()
        film = _film(pipeline, prompt, seed, changes)
        seconds += perf_counter() - begun
        scores.append(compare(scene.story, read(film)))
        ceiling.append(compare(scene.story, read(_redrawn(pipeline, scene, film.shape))))
        tell(split, number + 1, count)
    return SplitSkill(
        split=split,
        skill=_shares(scores),
        ceiling=_shares(ceiling),
        binding_error=_share([score.binding_error for score in scores]),
        seconds_per_film=seconds / count,
    )


def _film(pipeline: Pipeline, prompt: str, seed: int, changes: dict[str, object]) -> np.ndarray:
    asked = pipeline.request(prompt, seed=seed, **changes)
    latents = next(pipeline.latents([asked], lambda progress: None))
    return pipeline.film(asked, latents, lambda progress: None).frames


@torch.inference_mode()
def _redrawn(pipeline: Pipeline, scene: Scene, shape: tuple[int, ...]) -> np.ndarray:
    """The rendered film of a scene, encoded and decoded: what the codec alone can show."""
    num_frames, height, width, _ = shape
    frames = render(scene, num_frames=num_frames, height=height, width=width)
    codec = pipeline.parts.codec(pipeline.machine.device)
    pixels = torch.from_numpy(frames).movedim(-1, 0)[None].float().to(pipeline.machine.device) / 127.5 - 1
    latents, _ = codec.encode(pixels)
    return to_uint8(codec.decode(latents)[0][0])


def _shares(scores: list[Score]) -> dict[str, Share]:
    return {name: _share([getattr(score, name) for score in scores]) for name in ATTRIBUTES}


def _share(right: list[bool]) -> Share:
    low, high = wilson(sum(right), len(right))
    return Share(right=sum(right), trials=len(right), low=low, high=high)
