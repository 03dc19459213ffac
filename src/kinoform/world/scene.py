"""A story is all that a caption can say of a video; a scene adds what the caption leaves free."""

from dataclasses import dataclass

from kinoform.errors import UsageError
from kinoform.world.backgrounds import FIXED, PLAIN, Background, Camera
from kinoform.world.motions import PAIR_MOTIONS, SPIN, STILL, Freedom, Motion
from kinoform.world.palette import OBJECT_COLOURS, Colour
from kinoform.world.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A named base radius in frame sides."""

    name: str
    radius: float


SMALL = Size(name="small", radius=0.155)
MEDIUM = Size(name="medium", radius=0.20)
LARGE = Size(name="large", radius=0.25)
SIZES = (SMALL, MEDIUM, LARGE)
"""Captions have no word for medium."""

PAIR_SHRINK = 0.9
"""The factor on both radii of a two-object scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The words of a caption about one object.

    Raises UsageError for a gray object, and for a round one that spins, which no one could see.
    """

    colour: Colour
    shape: Shape
    motion: Motion
    size: Size = MEDIUM

    def __post_init__(self) -> None:
        if self.colour not in OBJECT_COLOURS:
            names = ", ".join(colour.name for colour in OBJECT_COLOURS)
            raise UsageError(f"an object cannot be {self.colour.name}; choose from: {names}", code="unknown_name")
        if self.motion == SPIN and not self.shape.fold:
            raise UsageError(
                f"a {self.shape.name} looks alike at every angle; spin another shape", code="scene_impossible"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The words of a caption about a video; two subjects are named from left to right.

    Raises UsageError where the world has no such video: an object in the background's colour, two objects
    alike in colour or leaving their halves, a pan without texture or with anything but one still object.
    """

    subjects: tuple[Subject, ...]
    background: Background
    camera: Camera = FIXED

    def __post_init__(self) -> None:
        if len(self.subjects) not in (1, 2):
            raise UsageError(f"a story has one or two objects, not {len(self.subjects)}", code="value_out_of_range")
        seen = [self.background.colour, *(subject.colour for subject in self.subjects)]
        for index, colour in enumerate(seen):
            if colour in seen[:index]:
                raise UsageError(
                    f"{colour.name} is used twice; give every object and the background its own",
                    code="scene_impossible",
                )
        if len(self.subjects) == 2:
            _check_pair(self.subjects)
        if self.camera != FIXED:
            _check_pan(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Object of a scene: a subject, where it is and how it is drawn.

    Home `x`, `y` (y down) and `radius` in frame sides; `jitter` is added to the palette colour, -6 to 6 per
    channel.
    """

    subject: Subject
    x: float
    y: float
    radius: float
    freedom: Freedom
    jitter: tuple[int, int, int]

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as painted, 0 to 255."""
        channels = zip(self.subject.colour.rgb, self.jitter, strict=True)
        red, green, blue = (min(max(value + step, 0), 255) for value, step in channels)
        return red, green, blue


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Scene that a video is made from; a later thing hides an earlier one where they touch.

    `drift` is how far the world moves to the right in the frame during the video, in frame sides: 0 unless
    the camera pans, negative when it pans right.
    """

    story: Story
    things: tuple[Thing, ...]
    drift: float = 0.0


def _check_pair(subjects: tuple[Subject, ...]) -> None:
    for subject in subjects:
        if subject.motion not in PAIR_MOTIONS:
            names = ", ".join(motion.name for motion in PAIR_MOTIONS)
            raise UsageError(
                f"one of two objects cannot move {subject.motion.name}; choose from: {names}", code="scene_impossible"
            )


def _check_pan(story: Story) -> None:
    if story.background.texture == PLAIN:
        raise UsageError(
            "a camera that pans over a plain background shows nothing; choose stripes or checker",
            code="scene_impossible",
        )
    if len(story.subjects) != 1 or story.subjects[0].motion != STILL:
        raise UsageError("while the camera pans there is one object, and it stays still", code="scene_impossible")
