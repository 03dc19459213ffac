"""What is planned: a model's sizes and one video, checked, with the sizes that follow from both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kinoform.conditions.inputs import NO_INPUTS, Inputs
from kinoform.conditions.protocols import Conditioner, EncodeCost, EstimatesCost, Units, VideoSize
from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, SOURCE_PROMPT, VIDEO
from kinoform.models.codec import CodecSpec, check_size, latent_size
from kinoform.models.cost import CostedRows
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.vision import VisionSpec
from kinoform.solvers.base import Solver
from kinoform.solvers.guidance import Guidance, PlainGuidance
from kinoform.solvers.sampler import Denoise, Sampler, negative_is_read
from kinoform.solvers.unipc import UniPC
from kinoform.types import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The parts of a model. `kept`: parts stay in memory once loaded, as those of small models do."""

    transformer: DiTSpec
    codec: CodecSpec
    text: TextSpec
    image: VisionSpec | None = None
    kept: bool = False

    @property
    def units(self) -> Units:
        return Units(stride=self.codec.stride, patch=self.transformer.patch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One video: sides in pixels, how it is denoised, and what it is made from.

    With `others` more videos follow, for which the transformer stays while this one is decoded.
    """

    width: int
    height: int
    num_frames: int
    steps: int
    guidance_scale: float
    shift: float = 5.0
    solver: Solver = field(default_factory=UniPC)
    sampler: Sampler = field(default_factory=Denoise)
    guidance_rule: Guidance = field(default_factory=PlainGuidance)
    inputs: Inputs = NO_INPUTS
    conditioners: tuple[Conditioner, ...] = ()
    others: bool = False

    @property
    def video(self) -> VideoSize:
        return VideoSize(num_frames=self.num_frames, height=self.height, width=self.width)

    @property
    def prompts(self) -> int:
        """Prompts that are encoded: the prompt, the negative prompt if anything reads it, and a source prompt."""
        return 1 + self.reads_negative + (self.inputs[SOURCE_PROMPT] is not None)

    @property
    def reads_negative(self) -> bool:
        return negative_is_read(self.guidance_rule, self.guidance_scale, self.sampler)

    @property
    def material(self) -> int:
        """Bytes of the images and videos that are given."""
        clip, mask = self.inputs[VIDEO], self.inputs[MASK]
        images = (*self.inputs[FRAMES].values(), *self.inputs[REFERENCE_IMAGES])
        still = sum(image.pixels.nbytes for image in images)
        return still + (0 if clip is None else clip.frames.nbytes) + (0 if mask is None else mask.values.nbytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the transformer is told besides text: rows by context stream, tokens of latents by branch.

    It is told nothing of those named in `dropped_for_cfg` beside the negative prompt.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    branches: Mapping[str, int] = field(default_factory=dict)
    dropped_for_cfg: frozenset[str] = frozenset()

    def negative(self) -> Told:
        rows, branches = (
            {name: count for name, count in each.items() if name not in self.dropped_for_cfg}
            for each in (self.rows, self.branches)
        )
        return Told(rows=rows, branches=branches)


NOTHING_TOLD = Told()


def check(sizes: Sizes, work: Work) -> None:
    """Raise UsageError, with the nearest legal values, when codec and patch cannot hold the video."""
    check_size(sizes.codec, sizes.transformer.patch, work.num_frames, work.height, work.width)


def demands(sizes: Sizes, work: Work) -> list[EncodeCost]:
    """Of the conditioners in their order; of those that tell."""
    rows = 0 if sizes.image is None else sizes.image.rows
    return [
        each.estimate(work.inputs, work.video, sizes.units, rows)
        for each in work.conditioners
        if isinstance(each, EstimatesCost)
    ]


def told(sizes: Sizes, work: Work) -> Told:
    """By all conditioners together."""
    rows: dict[str, int] = {}
    branches: dict[str, int] = {}
    dropped_for_cfg: frozenset[str] = frozenset()
    for each in demands(sizes, work):
        rows |= each.context_tokens
        branches |= each.branches
        dropped_for_cfg |= each.dropped_for_cfg
    grid, part = grid_of(sizes, work), sizes.transformer.patch[0]
    frame = grid.height * grid.width
    tokens = {name: frames // part * frame for name, frames in branches.items()}
    return Told(rows=rows, branches=tokens, dropped_for_cfg=dropped_for_cfg)


def latents_of(sizes: Sizes, work: Work) -> tuple[int, int, int]:
    """(frames, height, width) of the video's latents."""
    return latent_size(sizes.codec, work.num_frames, work.height, work.width)


def canvas_of(sizes: Sizes, work: Work) -> tuple[int, int, int]:
    """`latents_of` with the frames that are denoised before the video and cut off."""
    frames, height, width = latents_of(sizes, work)
    return sum(each.prefix_frames for each in demands(sizes, work)) + frames, height, width


def grid_of(sizes: Sizes, work: Work) -> Grid:
    """The patches of what is denoised along time, height and width."""
    frames, height, width = (n // p for n, p in zip(canvas_of(sizes, work), sizes.transformer.patch, strict=True))
    return Grid(frames=frames, height=height, width=width)


def context_rows(spec: DiTSpec, given: Told) -> dict[str, int]:
    """Rows that cross-attention reads, by stream: those that are given, otherwise the usual number."""
    return {
        stream.name: given.rows.get(stream.name, stream.usual_rows)
        for stream in spec.context
        if isinstance(stream, CostedRows)
    }
