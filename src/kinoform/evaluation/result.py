"""Judge one video: what it shows, which attributes are as asked, and what changes that must not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from kinoform.world.backgrounds import FIXED, PLAIN
from kinoform.world.constancy import background_drift, sightings, steady
from kinoform.world.reader import Observed, VideoReading, read
from kinoform.world.sampling import Difficulty
from kinoform.world.scene import MEDIUM, Story
from kinoform.world.score import compare

ALL_AND_STEADY = "all_right_and_steady"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoResult:
    """Result of one video.

    `read` says it in words. `marks` has an entry for each attribute of the level (`size` where a word says it),
    for `binding_error` (the background has the colour asked of an object) and for `count_constancy` (every frame
    shows as many objects as the first). `background_drift` is in 0 to 255, None where the background asked for is
    not plain.
    """

    read: str
    marks: dict[str, bool]
    background_drift: float | None


def attributes(level: Difficulty) -> tuple[str, ...]:
    """Return what is judged at a level: texture, camera and size only where it varies them.

    The count is judged at every level, since no object, or two for one, is a failure wherever one is asked for.
    `all_right` goes by most frames; `all_right_and_steady` asks every frame for the objects, each near to where it was.
    `size` stays outside both.
    """
    texture = ("texture",) * (level.textured > 0)
    camera = ("camera",) * (level.textured > 0 and level.panned > 0)
    size = ("size",) * (level.sized > 0)
    return ("background", *texture, *camera, "count", "colour", "shape", "motion", "all_right", ALL_AND_STEADY, *size)


def judge(story: Story, level: Difficulty, frames: UInt8[np.ndarray, "f h w 3"]) -> VideoResult:
    """Hold the frames of a video against what was asked."""
    reading, seen = read(frames), sightings(frames)
    score = compare(story, reading)
    silent = set() if says_size(story) else {"size"}
    whole = score.all_right and steady(seen, len(story.subjects))
    marks = {
        name: bool(whole if name == ALL_AND_STEADY else getattr(score, name))
        for name in attributes(level)
        if name not in silent
    }
    constant = all(item.count == seen[0].count for item in seen)
    return VideoResult(
        read=in_words(reading),
        marks=marks | {"binding_error": bool(score.binding_error), "count_constancy": constant},
        background_drift=background_drift(frames) if story.background.texture == PLAIN else None,
    )


def says_size(story: Story) -> bool:
    return any(subject.size != MEDIUM for subject in story.subjects)


def in_words(reading: VideoReading) -> str:
    """Write a reading as "small red ball: left; on checker blue, camera left"; medium and plain are not said."""
    more = reading.count - len(reading.things)
    things = [_thing(thing) for thing in reading.things] + ([f"and {more} more"] if more > 0 else [])
    texture = "" if reading.background.texture == PLAIN else f"{reading.background.texture.name} "
    camera = "" if reading.camera == FIXED else f", camera {reading.camera.name}"
    return f"{'; '.join(things) or 'no object'}; on {texture}{reading.background.colour.name}{camera}"


def _thing(thing: Observed) -> str:
    size = "" if thing.size == MEDIUM else f"{thing.size.name} "
    return f"{size}{thing.colour.name} {thing.shape.name}: {thing.motion.name}"
