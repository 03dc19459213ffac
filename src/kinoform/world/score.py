"""Compare what a video shows with what its prompt says, and bound a measured skill."""

import math
from dataclasses import dataclass

from kinoform.errors import UsageError
from kinoform.world.backgrounds import CAMERAS, TEXTURES
from kinoform.world.motions import MOTIONS
from kinoform.world.palette import BACKGROUND_COLOURS, OBJECT_COLOURS
from kinoform.world.reader import VideoReading
from kinoform.world.sampling import Difficulty
from kinoform.world.scene import MEDIUM, SIZES, Story
from kinoform.world.shapes import SHAPES

NORMAL_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Attributes of a video that are as its prompt says; `colour`, `shape`, `motion` of every object.

    `size` is judged where a word says it and stays outside `all_right`. `binding_error`: the background
    has the colour that the prompt gives an object.
    """

    background: bool
    texture: bool
    camera: bool
    count: bool
    colour: bool
    shape: bool
    motion: bool
    size: bool
    binding_error: bool

    @property
    def all_right(self) -> bool:
        ground = self.background and self.texture and self.camera
        return ground and self.count and self.colour and self.shape and self.motion


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """The probability that a blind guess has each attribute right."""

    background: float
    texture: float
    camera: float
    count: float
    colour: float
    shape: float
    motion: float
    size: float

    @property
    def all_right(self) -> float:
        """Product of all but size: blind guesses are independent."""
        ground = self.background * self.texture * self.camera
        return ground * self.count * self.colour * self.shape * self.motion

    @property
    def all_right_and_steady(self) -> float:
        """Chance of `all_right`, since a guess is a whole video, in which nothing flickers."""
        return self.all_right


def compare(story: Story, reading: VideoReading) -> Score:
    """Judge a reading; with the wrong number of objects their colours, shapes and motions are wrong too."""
    pairs = list(zip(story.subjects, reading.things, strict=False))
    count = reading.count == len(story.subjects)
    shown = reading.background.colour
    return Score(
        background=shown == story.background.colour,
        texture=reading.background.texture == story.background.texture,
        camera=reading.camera == story.camera,
        count=count,
        colour=count and all(wanted.colour == seen.colour for wanted, seen in pairs),
        shape=count and all(wanted.shape == seen.shape for wanted, seen in pairs),
        motion=count and all(wanted.motion == seen.motion for wanted, seen in pairs),
        size=count and all(wanted.size in (MEDIUM, seen.size) for wanted, seen in pairs),
        binding_error=any(subject.colour == shown for subject in story.subjects),
    )


def chance(level: Difficulty) -> Chance:
    """Return the chance of each attribute: one over the number of its values (1/11 for the background, 1/6 for shapes).

    A guess that is uniform over K values is right with probability 1/K however the truth is distributed; an
    attribute that the level never varies is right by itself. Colour, shape, motion and size are for one object.
    """
    return Chance(
        background=1 / len(BACKGROUND_COLOURS),
        texture=1 / len(TEXTURES) if level.textured else 1.0,
        camera=1 / len(CAMERAS) if level.textured and level.panned else 1.0,
        count=1 / 2 if level.paired else 1.0,
        colour=1 / len(OBJECT_COLOURS),
        shape=1 / len(SHAPES),
        motion=1 / len(MOTIONS),
        size=1 / len(SIZES) if level.sized else 1.0,
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion p = successes / n (Wilson 1927).

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z the normal 97.5 % point.

    No trials give (0, 1). Raises UsageError unless 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise UsageError(f"{successes} successes in {trials} trials cannot be; count again", code="value_out_of_range")
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, NORMAL_95**2 / trials
    middle = share + spread / 2
    half = math.sqrt(spread * share * (1 - share) + spread**2 / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
