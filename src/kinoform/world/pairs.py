"""Two scenes that differ in one object: what a video shows, and what it shall show after an edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from kinoform.errors import UsageError, nearest
from kinoform.world.palette import OBJECT_COLOURS
from kinoform.world.render import coverage
from kinoform.world.sampling import Difficulty, is_held_out, pick, sample_scene
from kinoform.world.scene import Scene, Thing
from kinoform.world.shapes import SHAPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`source` becomes `target` by an edit of the `kind`; `index` is that of the object in the scenes that have it.

    All else is alike to the last bit: the other object, the background, the motion, what the scene chose freely.
    """

    kind: str
    source: Scene
    target: Scene
    index: int

    @property
    def holding(self) -> tuple[Scene, ...]:
        """The scenes that have the object: one where it is removed or inserted, else both."""
        max_ = max(len(self.source.things), len(self.target.things))
        return tuple(scene for scene in (self.source, self.target) if len(scene.things) == max_)

    @property
    def changed(self) -> tuple[Thing, ...]:
        """The object as it is and as it shall be, or whichever of them there is."""
        return tuple(scene.things[self.index] for scene in self.holding)


def draw_pair(kind: str, level: Difficulty, generator: np.random.Generator, *, held_out: bool = False) -> Pair:
    """Return a pair whose target has a held-out combination, or neither of whose scenes has one.

    Raises UsageError for an unknown kind.
    """
    if kind not in KINDS:
        raise UsageError(f"no edit {kind!r}; {nearest(kind, KINDS)}", code="unknown_name")
    while True:
        pair = KINDS[kind](level, generator, held_out)
        if pair is not None and is_held_out(pair.target.story) == held_out:
            return pair


def covered(pair: Pair, *, num_frames: int = 17, height: int = 64, width: int = 64) -> Bool[np.ndarray, "f h w"]:
    """Return the pixels that the object touches, before or after."""
    size = {"num_frames": num_frames, "height": height, "width": width}
    return np.max([coverage(scene, **size)[pair.index] for scene in pair.holding], axis=0) > 0


def _recoloured(level: Difficulty, generator: np.random.Generator, held_out: bool) -> Pair | None:
    return _altered("recolour", level, generator, held_out, [{"colour": colour} for colour in OBJECT_COLOURS])


def _reshaped(level: Difficulty, generator: np.random.Generator, held_out: bool) -> Pair | None:
    return _altered("reshape", level, generator, held_out, [{"shape": shape} for shape in SHAPES])


def _replaced(level: Difficulty, generator: np.random.Generator, held_out: bool) -> Pair | None:
    others = [{"colour": colour, "shape": shape} for colour in OBJECT_COLOURS for shape in SHAPES]
    return _altered("replace", level, generator, held_out, others)


def _removed(level: Difficulty, generator: np.random.Generator, held_out: bool) -> Pair:
    """Draw a scene of two objects, and the scene without one of them."""
    source = sample_scene(replace(level, paired=1.0), generator, held_out=held_out)
    index = int(generator.integers(2))
    rest = tuple(thing for number, thing in enumerate(source.things) if number != index)
    story = replace(source.story, subjects=tuple(thing.subject for thing in rest))
    return Pair(kind="remove", source=source, target=replace(source, story=story, things=rest), index=index)


def _inserted(level: Difficulty, generator: np.random.Generator, held_out: bool) -> Pair:
    away = _removed(level, generator, held_out)
    return replace(away, kind="insert", source=away.target, target=away.source)


KINDS: Mapping[str, Callable[[Difficulty, np.random.Generator, bool], Pair | None]] = {
    "recolour": _recoloured,
    "reshape": _reshaped,
    "replace": _replaced,
    "remove": _removed,
    "insert": _inserted,
}


def _altered(
    kind: str, level: Difficulty, generator: np.random.Generator, held_out: bool, changes: Sequence[Mapping[str, Any]]
) -> Pair | None:
    """Return a scene, and as its source the same scene before one of the changes; None where there is no such video."""
    target = sample_scene(level, generator, held_out=held_out)
    index = int(generator.integers(len(target.things)))
    scenes = [_with(target, index, change) for change in changes]
    sources = [s for s in scenes if s and s != target and (held_out or not is_held_out(s.story))]
    if not sources:
        return None
    return Pair(kind=kind, source=pick(generator, sources), target=target, index=index)


def _with(scene: Scene, index: int, change: Mapping[str, Any]) -> Scene | None:
    """Return the scene with one object changed; None where the world has no such video."""
    things = list(scene.things)
    try:
        subject = replace(things[index].subject, **change)
        things[index] = replace(things[index], subject=subject)
        story = replace(scene.story, subjects=tuple(thing.subject for thing in things))
    except UsageError:
        return None
    return replace(scene, story=story, things=tuple(things))
