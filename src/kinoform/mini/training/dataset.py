"""Datasets from the world, for models and for adapters: each batch is a pure function of a seed and the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from kinoform.conditions.inputs import NO_INPUTS, Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.conditions.vace_inputs import extend, inpaint
from kinoform.datasets.sample import Sample
from kinoform.media.types import InputImage, InputVideo, Mask
from kinoform.models.codec import to_signed
from kinoform.training.examples import Samples
from kinoform.world.caption import caption, unnamed_caption
from kinoform.world.components import boxed, dilate
from kinoform.world.pairs import KINDS, Pair, covered, draw_pair
from kinoform.world.portrait import portrait
from kinoform.world.render import coverage, render
from kinoform.world.sampling import L1, Difficulty, pick, sample_scene
from kinoform.world.scene import Scene

Frames: TypeAlias = UInt8[np.ndarray, "f h w 3"]
T = TypeVar("T")

MAX_GROWTH = 5
"""Pixels by which masks of edits may be larger than what the object touches."""

HELD_BACK = 2_000_000_000
"""First of the steps for evaluation, which no training reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeShare:
    """Size that batches have from step `start` on, as often as its `share` of those of all sizes then."""

    video: VideoSize
    share: float = 1.0
    start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Videos:
    """Videos of a `level` of the world, never a held-out combination; sizes in frames and pixels.

    Before step `early_steps` the level is `early`: a curriculum from simple videos to all of them. `sizes` are those of
    the batches of a training, each of one size (`at`); without any, all have the same.
    """

    level: Difficulty
    num_frames: int
    height: int
    width: int
    seed: int = 0
    early: Difficulty = L1
    early_steps: int = 0
    sizes: tuple[SizeShare, ...] = ()

    def at(self, step: int) -> Videos:
        """Return the videos of a step's batch, of one of `sizes`, which the seed and the step decide."""
        sizes = [item for item in self.sizes if item.start <= step]
        if not sizes:
            return self
        shares = np.array([item.share for item in sizes])
        chosen = np.random.default_rng([self.seed, step, 1]).choice(len(sizes), p=shares / shares.sum())
        return replace(self, sizes=(), **asdict(sizes[chosen].video))

    @property
    def size(self) -> VideoSize:
        return VideoSize(num_frames=self.num_frames, height=self.height, width=self.width)

    def scenes(self, step: int, count: int) -> tuple[list[Scene], np.random.Generator]:
        """Draw the scenes of a step; return them, and the generator that drew them, for captions."""
        generator = np.random.default_rng([self.seed, step])
        level = self.early if step < self.early_steps else self.level
        return [sample_scene(level, generator) for _ in range(count)], generator

    def pixels(self, scenes: list[Scene]) -> Float[Tensor, "b 3 t height width"]:
        """Render scenes as videos in [-1, 1]."""
        return to_signed(np.stack([_rendered(scene, self.size) for scene in scenes]))

    def objects(self, scenes: list[Scene]) -> Bool[Tensor, "b 1 t height width"]:
        """Mark the pixels of which an object covers more than half."""
        covers = np.stack([coverage(scene, **asdict(self.size)).max(axis=0) for scene in scenes])
        return torch.from_numpy(covers > 0.5)[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """Prompts of a `level` of the world, never of a held-out combination."""

    level: Difficulty
    seed: int

    def draw(self, step: int, count: int) -> list[str]:
        """Draw the prompts of a step."""
        generator = np.random.default_rng([self.seed, step])
        return [caption(sample_scene(self.level, generator).story, generator) for _ in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _DrawnSamples:
    """Samples whose scenes are of a `level` of the world, drawn one after the other by a step's generator."""

    level: Difficulty
    seed: int

    def draw(self, step: int, count: int, video: VideoSize) -> list[Sample]:
        """Draw the samples of a step."""
        generator = np.random.default_rng([self.seed, step])
        return [self._sample(generator, video) for _ in range(count)]

    def _sample(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class WordSamples(_DrawnSamples):
    """Videos and what they are called, without any input."""

    def _sample(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        scene = sample_scene(self.level, generator)
        return Sample(inputs=NO_INPUTS, prompt=caption(scene.story, generator), video=_rendered(scene, video))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSamples(_DrawnSamples):
    """Frames of the video itself: the first, the first and the last, the last, a few anywhere, or a beginning.

    The numbers are shares; the rest of 1 are videos from words.
    """

    first: float = 0.35
    both: float = 0.25
    last: float = 0.05
    some: float = 0.07
    beginning: float = 0.06

    def _sample(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        scene = sample_scene(self.level, generator)
        frames = _rendered(scene, video)
        known = {index: InputImage(pixels=frames[index]) for index in self._known(generator, video.num_frames)}
        prompt = caption(scene.story, generator)
        return Sample(
            inputs=Inputs({FRAMES: known}), prompt=prompt, video=frames, base_prompt=None if known else prompt
        )

    def _known(self, generator: np.random.Generator, count: int) -> list[int]:
        some = sorted(generator.choice(count, size=int(generator.integers(2, 5)), replace=False).tolist())
        ways = (
            (self.first, [0]),
            (self.both, [0, count - 1]),
            (self.last, [count - 1]),
            (self.some, some),
            (self.beginning, list(range(int(generator.integers(2, count))))),
        )
        return _one_of(ways, generator) or []


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSamples(_DrawnSamples):
    """Portraits of the video's object.

    The share `unnamed` of the prompts leave its colour and shape to the portrait; the share `absent` has neither a
    portrait nor a prompt that needs one. Every sample has a `base_prompt`, which names both.
    """

    unnamed: float = 0.65
    absent: float = 0.2

    def _sample(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        scene = sample_scene(self.level, generator)
        frames, chance, full = _rendered(scene, video), generator.random(), caption(scene.story, generator)
        if chance < self.absent:
            return Sample(inputs=NO_INPUTS, prompt=full, video=frames, base_prompt=full)
        prompt = unnamed_caption(scene.story, generator) if chance < self.absent + self.unnamed else full
        images = tuple(_portrait(scene, index, generator, video) for index in range(len(scene.things)))
        return Sample(inputs=Inputs({REFERENCE_IMAGES: images}), prompt=prompt, video=frames, base_prompt=full)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditSamples(_DrawnSamples):
    """Pairs of `world.pairs`, and videos of which a part of the frame or some of the frames are masked.

    `pairs`, `outpainted`, `extended` and `shown` (references alone) are shares; the rest of 1 are videos from words.
    The share `whole` of the pairs has no mask; under a mask the share `hidden` shows grey instead of the source. The
    share `referenced` of the pairs with a new object has its portrait, and half of these prompts leave it unnamed.
    """

    pairs: float = 0.6
    outpainted: float = 0.08
    extended: float = 0.1
    shown: float = 0.06
    whole: float = 0.12
    hidden: float = 0.4
    referenced: float = 0.4

    def _sample(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        ways = (
            (self.pairs, self._pair),
            (self.outpainted, self._outpainted),
            (self.extended, self._extended),
            (self.shown, self._shown),
        )
        return (_one_of(ways, generator) or self._from_words)(generator, video)

    def _pair(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        pair = draw_pair(pick(generator, list(KINDS)), self.level, generator)
        source, target = (InputVideo(frames=_rendered(scene, video)) for scene in (pair.source, pair.target))
        mask = _mask(pair, video, generator)
        inputs = Inputs({VIDEO: source, MASK: mask})
        if generator.random() < self.whole:
            inputs = Inputs({VIDEO: source})
        elif generator.random() < self.hidden:
            inputs = inpaint(source, mask)
        describe = caption
        if pair.kind != "remove" and generator.random() < self.referenced:
            inputs = inputs | {REFERENCE_IMAGES: (_portrait(pair.target, pair.index, generator, video),)}
            alone = len(pair.target.things) == 1
            describe = unnamed_caption if alone and generator.random() < 0.5 else caption
        return Sample(inputs=inputs, prompt=describe(pair.target.story, generator), video=target.frames)

    def _outpainted(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        scene = sample_scene(self.level, generator)
        frames, outside = _rendered(scene, video), np.full((1, video.height, video.width), 255, np.uint8)
        rows, columns = (_span(side, generator) for side in (video.height, video.width))
        outside[:, rows, columns] = 0
        inputs = inpaint(InputVideo(frames=frames), Mask(values=outside))
        return Sample(inputs=inputs, prompt=caption(scene.story, generator), video=frames)

    def _extended(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        scene = sample_scene(self.level, generator)
        frames, kept = _rendered(scene, video), int(generator.integers(1, video.num_frames))
        before = video.num_frames - kept if generator.random() < 0.3 else 0
        clip = InputVideo(frames=frames[before : before + kept])
        inputs = extend(clip, before=before, after=video.num_frames - kept - before)
        return Sample(inputs=inputs, prompt=caption(scene.story, generator), video=frames)

    def _shown(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        scene = sample_scene(replace(self.level, paired=0.0), generator)
        inputs = Inputs({REFERENCE_IMAGES: (_portrait(scene, 0, generator, video),)})
        describe = unnamed_caption if generator.random() < 0.5 else caption
        return Sample(inputs=inputs, prompt=describe(scene.story, generator), video=_rendered(scene, video))

    def _from_words(self, generator: np.random.Generator, video: VideoSize) -> Sample:
        scene = sample_scene(self.level, generator)
        prompt = caption(scene.story, generator)
        return Sample(inputs=NO_INPUTS, prompt=prompt, video=_rendered(scene, video), base_prompt=prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmaskedSamples:
    """Samples of another source without their masks, for a model that is not told where a video changes."""

    samples: Samples

    def draw(self, step: int, count: int, video: VideoSize) -> list[Sample]:
        """Draw the samples of a step."""
        drawn = self.samples.draw(step, count, video)
        return [replace(sample, inputs=sample.inputs.only(set(sample.inputs) - {MASK})) for sample in drawn]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSamples:
    """Samples of several kinds in every batch, each kind in its share of it; shares are whole numbers."""

    kinds: tuple[tuple[int, Samples], ...]

    def draw(self, step: int, count: int, video: VideoSize) -> list[Sample]:
        """Draw the samples of a step, kind by kind."""
        total, shares = sum(share for share, _ in self.kinds), accumulate(share for share, _ in self.kinds)
        ends = [round(count * share / total) for share in shares]
        drawn = zip([0, *ends], ends, self.kinds, strict=False)
        return [sample for start, end, (_, kind) in drawn for sample in kind.draw(step, end - start, video)]


def _one_of(ways: Sequence[tuple[float, T]], generator: np.random.Generator) -> T | None:
    """Choose a value by its share; None for the rest of 1."""
    chance = generator.random()
    for share, value in ways:
        if chance < share:
            return value
        chance -= share
    return None


def _rendered(scene: Scene, video: VideoSize) -> Frames:
    return render(scene, **asdict(video))


def _portrait(scene: Scene, index: int, generator: np.random.Generator, video: VideoSize) -> InputImage:
    return InputImage(pixels=portrait(scene.things[index], generator, height=video.height, width=video.width))


def _mask(pair: Pair, video: VideoSize, generator: np.random.Generator) -> Mask:
    """Draw a mask of what the object touches, grown by 1 to MAX_GROWTH pixels; half are boxes, of a frame or of all."""
    touched = covered(pair, **asdict(video))
    for _ in range(int(generator.integers(1, MAX_GROWTH + 1))):
        touched = dilate(touched)
    form = generator.random()
    if form < 0.25:
        touched = boxed(touched)
    elif form < 0.5:
        touched = boxed(np.asarray(touched.any(axis=0, keepdims=True)))
    return Mask(values=touched.astype(np.uint8) * 255)


def _span(side: int, generator: np.random.Generator) -> slice:
    """Draw from four tenths of a side to nine."""
    length = int(generator.integers(int(0.4 * side), int(0.9 * side) + 1))
    first = int(generator.integers(0, side - length + 1))
    return slice(first, first + length)
