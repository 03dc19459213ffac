"""Videos from their first frame, or first and last: do these come back, and does the rest follow the words?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES
from kinoform.evaluation.case import Case, Task, rendered, seed_from
from kinoform.media.types import InputImage
from kinoform.world.caption import caption
from kinoform.world.motions import MOTIONS, SPIN, Motion
from kinoform.world.sampling import L1, RADIUS_JITTER, VIDEO_TIMES, is_held_out, sample_scene
from kinoform.world.scene import LARGE, SMALL, Scene

NEEDS = frozenset({FRAMES})
SMALLEST, LARGEST = SMALL.radius * (1 - RADIUS_JITTER), LARGE.radius * (1 + RADIUS_JITTER)


def known_frames(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """The same prompt and noise with the first frame, with both ends, and with words alone."""
    scene = sample_scene(L1, generator, held_out=True)
    alone = Case(prompt=caption(scene.story, generator), seed=seed_from(generator), target=scene)
    return {
        "first frame": _knowing(alone, size, 0),
        "first and last": _knowing(alone, size, 0, size.num_frames - 1),
        "text alone": alone,
    }


def other_caption(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """A first frame from which its object could move in two ways, and the caption of one of them."""
    while True:
        scene = sample_scene(L1, generator, held_out=True)
        others = [other for other in starting_alike(scene) if is_held_out(other.story)]
        if others:
            break
    target = others[int(generator.integers(len(others)))]
    case = Case(prompt=caption(target.story, generator), seed=seed_from(generator), target=target, former=scene.story)
    return {"other caption": _knowing(case, size, 0)}


def starting_alike(scene: Scene) -> Iterator[Scene]:
    """Scenes whose one object begins as it does here, moves otherwise, stays in the frame, and is of a usual size."""
    for motion in MOTIONS:
        found = _moved(scene, motion)
        if found is not None and motion != scene.story.subjects[0].motion and _is_usual(found):
            yield found


FRAME_TASKS = (
    Task(name="known frames", needs=NEEDS, stream=100, draw=known_frames),
    Task(name="other caption", needs=NEEDS, stream=101, draw=other_caption),
)


def _knowing(case: Case, size: VideoSize, *places: int) -> Case:
    video = rendered(case.target, size)
    frames = {place: InputImage(pixels=video[place]) for place in places}
    return replace(case, inputs=Inputs({FRAMES: frames, EXACT_SIZE: True}), kept=_at(places, video.shape[:3]))


def _at(places: tuple[int, ...], shape: tuple[int, ...]) -> Bool[np.ndarray, "f h w"]:
    kept = np.zeros(shape, dtype=bool)
    kept[list(places)] = True
    return kept


def _moved(scene: Scene, motion: Motion) -> Scene | None:
    """The object with another motion, placed so that its first frame stays; None where the world has no such video."""
    (thing,) = scene.things
    if motion == SPIN and not thing.subject.shape.fold:
        return None
    begin = np.zeros(1)
    before, after = (each.track(begin, thing.freedom) for each in (thing.subject.motion, motion))
    thing = replace(
        thing,
        subject=replace(thing.subject, motion=motion),
        x=thing.x + float(before.dx[0] - after.dx[0]),
        y=thing.y + float(before.dy[0] - after.dy[0]),
        radius=thing.radius * float(before.scale[0] / after.scale[0]),
    )
    return replace(scene, story=replace(scene.story, subjects=(thing.subject,)), things=(thing,))


def _is_usual(scene: Scene) -> bool:
    (thing,) = scene.things
    track = thing.subject.motion.track(np.linspace(0, 1, VIDEO_TIMES), thing.freedom)
    reach = thing.subject.shape.reach * thing.radius * track.scale
    inside = all(
        np.all(home + way >= reach) and np.all(home + way <= 1 - reach)
        for home, way in ((thing.x, track.dx), (thing.y, track.dy))
    )
    return inside and SMALLEST <= thing.radius <= LARGEST
