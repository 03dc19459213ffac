"""What is planned: a model's sizes and one film, checked, with the sizes that follow from both."""

from __future__ import annotations

from dataclasses import dataclass

from kinoform.models.codec import check_size, latent_size
from kinoform.models.context import ImageStream
from kinoform.models.dit import DiTSpec
from kinoform.models.ports import ContextSpec
from kinoform.models.text import TextSpec
from kinoform.models.vae import VAESpec
from kinoform.types import Grid

CLIP_ROWS = 257


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The three parts of a model. `kept`: parts stay in memory once loaded, as those of small models do."""

    transformer: DiTSpec
    codec: VAESpec
    text: TextSpec
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One film: sides in pixels, and how it is denoised. Guidance of exactly 1 takes one branch a step."""

    width: int
    height: int
    num_frames: int
    steps: int
    guidance: float

    @property
    def branches(self) -> int:
        return 1 if self.guidance == 1 else 2


def check(sizes: Sizes, work: Work) -> None:
    """Raise UsageError, with the nearest legal values, when codec and patch cannot hold the film."""
    check_size(sizes.codec, sizes.transformer.patch, work.num_frames, work.height, work.width)


def latents_of(sizes: Sizes, work: Work) -> tuple[int, int, int]:
    """(frames, height, width) of the latents."""
    return latent_size(sizes.codec, work.num_frames, work.height, work.width)


def grid_of(sizes: Sizes, work: Work) -> Grid:
    """The patches of the film along time, height and width."""
    frames, height, width = (n // p for n, p in zip(latents_of(sizes, work), sizes.transformer.patch, strict=True))
    return Grid(frames=frames, height=height, width=width)


def context_rows(stream: ContextSpec) -> int:
    """Rows that cross-attention reads of a stream; of pictures those of one CLIP encoding, or as many as are placed."""
    rows = getattr(stream, "rows", None)
    if rows is None:
        rows = stream.positions or CLIP_ROWS if isinstance(stream, ImageStream) else 0
    return rows
