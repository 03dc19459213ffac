"""The eleven colours of the world, in sRGB from 0 to 255."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """A named sRGB colour; `rgb` in 0 to 255."""

    name: str
    rgb: tuple[int, int, int]


RED = Colour(name="red", rgb=(225, 35, 40))
GREEN = Colour(name="green", rgb=(40, 170, 60))
BLUE = Colour(name="blue", rgb=(40, 80, 225))
YELLOW = Colour(name="yellow", rgb=(245, 225, 50))
ORANGE = Colour(name="orange", rgb=(245, 130, 20))
PURPLE = Colour(name="purple", rgb=(135, 45, 185))
CYAN = Colour(name="cyan", rgb=(50, 210, 225))
PINK = Colour(name="pink", rgb=(250, 140, 190))
WHITE = Colour(name="white", rgb=(245, 245, 245))
BLACK = Colour(name="black", rgb=(18, 18, 18))
GRAY = Colour(name="gray", rgb=(128, 128, 128))

OBJECT_COLOURS = (RED, GREEN, BLUE, YELLOW, ORANGE, PURPLE, CYAN, PINK, WHITE, BLACK)
"""Colours of objects; the order defines the held-out pairs."""

BACKGROUND_COLOURS = (*OBJECT_COLOURS, GRAY)

SHADE_MIX = 0.22


def shade(colour: Colour) -> tuple[float, float, float]:
    """Return the second shade of a textured background: 22 % of the way to gray, and for gray itself to white."""
    target = WHITE if colour == GRAY else GRAY
    red, green, blue = (a + SHADE_MIX * (b - a) for a, b in zip(colour.rgb, target.rgb, strict=True))
    return red, green, blue
