"""The nouns that every layer shares: frozen values without behaviour beyond arithmetic.

Alphabet of shapes: `b` batch, `c` channel, `f h w` frame, height, width, `l` tokens, `n` context rows,
`d` model width. Pixel sizes are `height, width`; latent sizes are `h, w`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

Latents: TypeAlias = Float[Tensor, "b c f h w"]
"""Videos as the transformer denoises them: normalised latents of the codec; pixels in [-1, 1] in a model of pixels."""

Velocity: TypeAlias = Float[Tensor, "b c f h w"]
"""Derivatives dx/dsigma of noisy latents, noise - data where the network is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Noise level of a video: `sigma` in [0, 1] is read by solvers, `timestep` in [0, 1000] by networks.

    The two are kept apart because the official timestep is the *truncated* product of 1000 and a
    float64 sigma, while solvers use that sigma rounded to float32.
    """

    sigma: float
    timestep: float


CLEAN = Level(sigma=0.0, timestep=0.0)
"""The level without noise, at which every run ends."""

Field: TypeAlias = Callable[[Latents, Level], Velocity]
"""The velocity dx/dsigma = noise - data at a point and a level; all that a solver knows of a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Numbers of tokens of a video along time, height and width."""

    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        return self.frames * self.height * self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class InContextSegment:
    """Clean latents [b or 1, c, f, h, w] of an image or a video, of a size of its own, in the sequence of a video.

    `group` says what it is, for guidance to leave it out: "video" or "images".
    """

    latents: Latents
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Inputs of a transformer besides the noisy latents, by its extension points.

    `context`: rows for cross-attention by stream name (`text` is always there), each [b, n, width];
    `channels`: latents concatenated on the channel axis after the noisy ones;
    `clean`: tokens (in video order) whose noise level is 0 while the others are denoised;
    `branches`: the payload of each branch, by the branch's name;
    `segments`: material behind the video's tokens, in the order of its numbers.
    """

    context: Mapping[str, Float[Tensor, "_ _ _"]]
    channels: Latents | None = None
    clean: Bool[Tensor, " l"] | None = None
    branches: Mapping[str, Any] = field(default_factory=dict)
    segments: tuple[InContextSegment, ...] = ()
