"""The nouns that every layer shares: frozen values without behaviour beyond arithmetic.

Alphabet of shapes: `b` batch, `c` channel, `f h w` frame, height, width, `l` tokens, `n` context rows,
`d` model width. Pixel sizes are `height, width`; latent sizes are `h, w`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from typing import TypeAlias

Latents: TypeAlias = Float[Tensor, "b c f h w"]
Velocity: TypeAlias = Float[Tensor, "b c f h w"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How noisy a film is. `sigma` in [0, 1] is read by solvers, `timestep` in [0, 1000] by networks.

    The two are kept apart because the official timestep is the *truncated* product of 1000 and a
    float64 sigma, while solvers use that sigma rounded to float32.
    """

    sigma: float
    timestep: float


CLEAN = Level(sigma=0.0, timestep=0.0)

Field: TypeAlias = Callable[[Latents, Level], Velocity]
"""The velocity dx/dsigma = noise - data at a point and a level; all that a solver knows of a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How many tokens a film has along time, height and width."""

    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        return self.frames * self.height * self.width
