"""The words of the world's captions: which phrases name which value."""

from kinoform.world import motions
from kinoform.world.backgrounds import CHECKER, PANS_LEFT, PANS_RIGHT, PLAIN, STRIPES, Camera, Texture
from kinoform.world.scene import LARGE, MEDIUM, SMALL, Size
from kinoform.world.shapes import BALL, CROSS, RING, SQUARE, STAR, TRIANGLE, Shape

SENTENCES = ("{somewhere}, {clause}", "{clause}, {ground}", "{clause} {somewhere}")
"""`ground` is "blue background", `somewhere` "on a blue background"."""

PREPOSITIONS = ("on", "over", "in front of")

MOVES = ("moves", "slides", "drifts", "glides")

SHAPE_PHRASES: dict[Shape, tuple[str, ...]] = {
    BALL: ("ball", "circle", "disc"),
    SQUARE: ("square", "box"),
    TRIANGLE: ("triangle",),
    STAR: ("star",),
    RING: ("ring", "donut"),
    CROSS: ("cross", "plus sign"),
}

SIZE_PHRASES: dict[Size, tuple[str, ...]] = {SMALL: ("small", "tiny"), MEDIUM: ("",), LARGE: ("large", "big")}

TEXTURE_PHRASES: dict[Texture, tuple[str, ...]] = {PLAIN: ("",), STRIPES: ("striped",), CHECKER: ("checker",)}

CAMERA_PHRASES: dict[Camera, tuple[str, ...]] = {
    PANS_LEFT: ("the camera pans left",),
    PANS_RIGHT: ("the camera pans right",),
}


def _moves(*ways: str) -> tuple[str, ...]:
    return tuple(f"{verb} {way}" for verb in MOVES for way in ways)


MOTION_PHRASES: dict[motions.Motion, tuple[str, ...]] = {
    motions.LEFT: _moves("left", "to the left", "from right to left"),
    motions.RIGHT: _moves("right", "to the right", "from left to right"),
    motions.UP: (*_moves("up", "upwards"), "rises"),
    motions.DOWN: (*_moves("down", "downwards"), "falls"),
    motions.BOUNCE: ("bounces", "bounces up and down"),
    motions.STILL: ("stays still", "does not move", "rests"),
    motions.SPIN: ("spins", "rotates", "turns around"),
    motions.GROW: ("grows", "gets bigger", "expands"),
    motions.SHRINK: ("shrinks", "gets smaller"),
    motions.CIRCLE: ("moves in a circle", "circles around"),
}
