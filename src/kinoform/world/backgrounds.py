"""Backgrounds and the camera: a colour, a pattern of period 1/4 frame side, a drift of the whole world."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from kinoform.world.palette import Colour

FREQUENCY = 4
"""Pattern periods per frame side."""

EDGE_SLOPE = 1.5

Pattern: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """A named `pattern(x, y)`: the share of the second shade, 0 to 1, at world places in frame sides."""

    name: str
    pattern: Pattern = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A movement of the camera; `drift` is +1 when the world moves to the right in the frame, -1 to the left."""

    name: str
    drift: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """The ground behind the objects."""

    colour: Colour
    texture: Texture


def _wave(along: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """Return a square wave with soft edges, -1 to 1: the sine, steepened and cut."""
    return np.clip(EDGE_SLOPE * np.sin(2 * math.pi * FREQUENCY * along), -1, 1)


def _plain(x: Float[np.ndarray, "f 1 w"], y: Float[np.ndarray, "1 h 1"]) -> Float[np.ndarray, "1 1 1"]:
    return np.zeros((1, 1, 1), dtype=x.dtype)


def _stripes(x: Float[np.ndarray, "f 1 w"], y: Float[np.ndarray, "1 h 1"]) -> Float[np.ndarray, "f 1 w"]:
    return 0.5 + 0.5 * _wave(x)


def _checker(x: Float[np.ndarray, "f 1 w"], y: Float[np.ndarray, "1 h 1"]) -> Float[np.ndarray, "f h w"]:
    return 0.5 + 0.5 * _wave(x) * _wave(y)


PLAIN = Texture(name="plain", pattern=_plain)
STRIPES = Texture(name="stripes", pattern=_stripes)
CHECKER = Texture(name="checker", pattern=_checker)
TEXTURES = (PLAIN, STRIPES, CHECKER)

FIXED = Camera(name="none", drift=0)
PANS_LEFT = Camera(name="left", drift=1)
PANS_RIGHT = Camera(name="right", drift=-1)
CAMERAS = (FIXED, PANS_LEFT, PANS_RIGHT)
