"""Tasks of the evaluation: prompts alone, known frames, images of the object, and edits.

Prompts are of three levels of difficulty, each split by what training has shown. Known frames must come back, and the
rest must follow the words; an object must come from its image when the prompt names none; an edit changes one object.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.errors import UsageError, nearest
from kinoform.evaluation.case import Case, Task, rendered, seed_from
from kinoform.media.types import InputImage, InputVideo, Mask
from kinoform.world.caption import caption, unnamed_caption
from kinoform.world.components import boxed
from kinoform.world.motions import MOTIONS, SPIN, Motion
from kinoform.world.pairs import Pair, covered, draw_pair
from kinoform.world.palette import OBJECT_COLOURS
from kinoform.world.portrait import portrait
from kinoform.world.sampling import L1, L2, L3, RADIUS_JITTER, VIDEO_TIMES, Difficulty, is_held_out, pick, sample_scene
from kinoform.world.scene import LARGE, SMALL, Scene, Thing
from kinoform.world.shapes import SHAPES

LEVELS: Mapping[str, Difficulty] = {"L1": L1, "L2": L2, "L3": L3}
SPLITS = ("seen", "held-out")
SMALLEST, LARGEST = SMALL.radius * (1 - RADIUS_JITTER), LARGE.radius * (1 + RADIUS_JITTER)
OBJECT = ("count", "colour", "shape")
EDIT_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "recolour": ("count", "colour"),
    "reshape": ("count", "shape"),
    "remove": OBJECT,
    "insert": OBJECT,
}
"""Attributes that make an edit right, by its kind. A removal is judged by what remains, since noise has a count too."""


def prompt_tasks(levels: Sequence[str] = tuple(LEVELS)) -> tuple[Task, ...]:
    """Return the tasks of some levels, two each. Raises UsageError for a level that there is not."""
    for level in levels:
        if level not in LEVELS:
            raise UsageError(f"no level {level[:60]!r}; {nearest(level[:60], LEVELS)}", code="unknown_name")
    return tuple(_prompt_task(level, split) for level in levels for split in SPLITS)


def known_frames(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """Draw one prompt and noise with the first frame, with both ends, and with words alone."""
    scene = sample_scene(L1, generator, held_out=True)
    alone = Case(prompt=caption(scene.story, generator), seed=seed_from(generator), target=scene)
    return {
        "first frame": _with_frames(alone, size, 0),
        "first and last": _with_frames(alone, size, 0, size.num_frames - 1),
        "text alone": alone,
    }


def other_caption(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """Draw a first frame from which its object could move in two ways, and the caption of one of them."""
    while True:
        scene = sample_scene(L1, generator, held_out=True)
        others = [other for other in starting_alike(scene) if is_held_out(other.story)]
        if others:
            break
    target = pick(generator, others)
    case = Case(prompt=caption(target.story, generator), seed=seed_from(generator), target=target, former=scene.story)
    return {"other caption": _with_frames(case, size, 0)}


def starting_alike(scene: Scene) -> Iterator[Scene]:
    """Yield scenes whose object begins as it does here, moves otherwise, stays in the frame, and is of a usual size."""
    (thing,) = scene.things
    for motion in MOTIONS:
        if motion == thing.subject.motion or (motion == SPIN and not thing.subject.shape.fold):
            continue
        moved = _moved(thing, motion)
        if _is_usual(moved):
            yield _of_one(scene, moved)


def identity(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """Draw one prompt and noise with an image of the object, with none, and with one of another object."""
    scene = sample_scene(L1, generator, held_out=True)
    joint = {"identity": ("colour", "shape")}
    case = Case(prompt=unnamed_caption(scene.story, generator), seed=seed_from(generator), target=scene, joint=joint)
    other = with_another_object(scene, generator)
    return {
        "reference": _with_reference(case, scene.things[0], generator, size),
        "no reference": case,
        "other reference": _with_reference(replace(case, target=other), other.things[0], generator, size),
    }


def identity_beside_words(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """Draw an image of the object; a model that takes no images is told in words what it shows."""
    scene = sample_scene(L1, generator, held_out=True)
    case = Case(
        prompt=unnamed_caption(scene.story, generator),
        seed=seed_from(generator),
        target=scene,
        joint={"identity": ("colour", "shape")},
        words=caption(scene.story, generator),
    )
    return {"reference or words": _with_reference(case, scene.things[0], generator, size)}


def with_another_object(scene: Scene, generator: np.random.Generator) -> Scene:
    """Return the scene with its one object in another colour and another shape."""
    (thing,) = scene.things
    taken = thing.subject.colour, scene.story.background.colour
    colours = [colour for colour in OBJECT_COLOURS if colour not in taken]
    shapes = [
        shape for shape in SHAPES if shape != thing.subject.shape and (shape.fold or thing.subject.motion != SPIN)
    ]
    colour, shape = pick(generator, colours), pick(generator, shapes)
    return _of_one(scene, replace(thing, subject=replace(thing.subject, colour=colour, shape=shape)))


def edited(kind: str, generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """Draw a video, a box around the object before and after, and the caption of the edited video."""
    pair = draw_pair(kind, L1, generator, held_out=True)
    prompt = caption(pair.target.story, generator)
    return {kind: _edit_case(pair, prompt, EDIT_ATTRIBUTES[kind], generator, size)}


def inserted_reference(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """Draw an insertion whose caption has no noun for the new object, and give an image of it."""
    pair = draw_pair("insert", L1, generator, held_out=True)
    named = set(range(len(pair.target.things))) - {pair.index}
    return {"insert reference": _reference_edit(pair, named, generator, size)}


def replaced_reference(generator: np.random.Generator, size: VideoSize) -> Mapping[str, Case]:
    """Draw a video whose one object becomes the one in an image; the caption has no noun."""
    pair = draw_pair("replace", L1, generator, held_out=True)
    return {"replace reference": _reference_edit(pair, (), generator, size)}


_NEEDS_FRAMES = frozenset({FRAMES})
_NEEDS_EDIT = frozenset({VIDEO, MASK})
_NEEDS_BOTH = _NEEDS_EDIT | {REFERENCE_IMAGES}
_PAIRED = replace(L1, paired=1.0)

IDENTITY_TASKS = (Task(name="identity", needs=frozenset({REFERENCE_IMAGES}), stream=120, draw=identity),)
INPUT_TASKS = (
    Task(name="known frames", needs=_NEEDS_FRAMES, stream=100, draw=known_frames),
    Task(name="other caption", needs=_NEEDS_FRAMES, stream=101, draw=other_caption),
    Task(name="recolour", needs=_NEEDS_EDIT, stream=110, draw=partial(edited, "recolour"), pool="all edits"),
    Task(name="reshape", needs=_NEEDS_EDIT, stream=111, draw=partial(edited, "reshape"), pool="all edits"),
    Task(name="remove", needs=_NEEDS_EDIT, stream=112, draw=partial(edited, "remove"), level=_PAIRED, pool="all edits"),
    Task(name="insert", needs=_NEEDS_EDIT, stream=113, draw=partial(edited, "insert"), level=_PAIRED, pool="all edits"),
    Task(name="insert reference", needs=_NEEDS_BOTH, stream=114, draw=inserted_reference, level=_PAIRED),
    Task(name="replace reference", needs=_NEEDS_BOTH, stream=115, draw=replaced_reference),
    *IDENTITY_TASKS,
    Task(name="identity beside words", needs=frozenset({REFERENCE_IMAGES}), stream=121, draw=identity_beside_words),
)


def _prompt_task(level: str, split: str) -> Task:
    name = f"{level} {split}"
    return Task(
        name=name,
        stream=len(SPLITS) * list(LEVELS).index(level) + SPLITS.index(split),
        draw=partial(_prompted, name, LEVELS[level], split == "held-out"),
        level=LEVELS[level],
        table=level,
    )


def _prompted(
    name: str, level: Difficulty, held_out: bool, generator: np.random.Generator, size: VideoSize
) -> Mapping[str, Case]:
    scene = sample_scene(level, generator, held_out=held_out)
    prompt = caption(scene.story, generator)
    return {name: Case(prompt=prompt, seed=seed_from(generator), target=scene)}


def _with_frames(case: Case, size: VideoSize, *indices: int) -> Case:
    video = rendered(case.target, size)
    frames = {index: InputImage(pixels=video[index]) for index in indices}
    kept = np.zeros(video.shape[:3], dtype=bool)
    kept[list(indices)] = True
    return replace(case, inputs=Inputs({FRAMES: frames, EXACT_SIZE: True}), kept=kept)


def _with_reference(case: Case, thing: Thing, generator: np.random.Generator, size: VideoSize) -> Case:
    image = InputImage(pixels=portrait(thing, generator, height=size.height, width=size.width))
    return replace(case, inputs=case.inputs | {REFERENCE_IMAGES: (image,)})


def _reference_edit(pair: Pair, named: Collection[int], generator: np.random.Generator, size: VideoSize) -> Case:
    prompt = unnamed_caption(pair.target.story, generator, named=named)
    case = _edit_case(pair, prompt, OBJECT, generator, size)
    return _with_reference(case, pair.target.things[pair.index], generator, size)


def _edit_case(
    pair: Pair, prompt: str, attributes: tuple[str, ...], generator: np.random.Generator, size: VideoSize
) -> Case:
    # A box, for the outline of the new object would give away its shape.
    changed = boxed(covered(pair, **asdict(size)))
    inputs = {VIDEO: InputVideo(frames=rendered(pair.source, size)), MASK: Mask(values=changed.astype(np.uint8) * 255)}
    return Case(
        prompt=prompt,
        seed=seed_from(generator),
        target=pair.target,
        inputs=Inputs(inputs),
        joint={"edit_right": attributes},
    )


def _of_one(scene: Scene, thing: Thing) -> Scene:
    """Return the scene with this object as its only one."""
    return replace(scene, story=replace(scene.story, subjects=(thing.subject,)), things=(thing,))


def _moved(thing: Thing, motion: Motion) -> Thing:
    """Return the object with another motion, placed so that its first frame stays."""
    begin = np.zeros(1)
    before, after = (item.track(begin, thing.freedom) for item in (thing.subject.motion, motion))
    return replace(
        thing,
        subject=replace(thing.subject, motion=motion),
        x=thing.x + float(before.dx[0] - after.dx[0]),
        y=thing.y + float(before.dy[0] - after.dy[0]),
        radius=thing.radius * float(before.scale[0] / after.scale[0]),
    )


def _is_usual(thing: Thing) -> bool:
    """Tell whether the object stays in the frame and has a radius that the world draws."""
    track = thing.subject.motion.track(np.linspace(0, 1, VIDEO_TIMES), thing.freedom)
    reach = thing.subject.shape.reach * thing.radius * track.scale
    inside = all(
        np.all(home + way >= reach) and np.all(home + way <= 1 - reach)
        for home, way in ((thing.x, track.dx), (thing.y, track.dy))
    )
    return inside and SMALLEST <= thing.radius <= LARGEST
