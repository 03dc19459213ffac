"""Captions: one English sentence for a story, true, and silent on what the scene chose freely.

    {on, over, in front of} a BACKGROUND, NOUN MOTION
    NOUN MOTION, BACKGROUND
    NOUN MOTION {on, over, in front of} a BACKGROUND

Two objects stand in the place of NOUN MOTION as "NOUN MOTION and NOUN MOTION", or as "NOUN and NOUN, each
MOTION" when both move alike. While the camera pans the motion is left out and ", the camera pans left" (or
right) ends the sentence.
"""

import re
from collections.abc import Collection

import numpy as np

from kinoform.world import motions
from kinoform.world.backgrounds import (
    CHECKER,
    FIXED,
    PANS_LEFT,
    PANS_RIGHT,
    PLAIN,
    STRIPES,
    Background,
    Camera,
    Texture,
)
from kinoform.world.palette import BACKGROUND_COLOURS
from kinoform.world.sampling import pick
from kinoform.world.scene import LARGE, MEDIUM, SMALL, Size, Story, Subject
from kinoform.world.shapes import BALL, CROSS, RING, SQUARE, STAR, TRIANGLE, Shape

VOWELS = "aeiou"

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


def caption(story: Story, generator: np.random.Generator) -> str:
    """Return one of the sentences that tell this story, each choice of words equally likely."""
    return _sentence(story, _clause(story, generator), generator)


def unnamed_caption(story: Story, generator: np.random.Generator, *, named: Collection[int] = ()) -> str:
    """Return a sentence without nouns, for a video whose objects images show: "moves left on a blue background".

    Objects whose indices are in `named` keep their nouns. While the camera pans, a sentence has no motions either, and
    leaves an unnamed object out.
    """
    return _sentence(story, _unnamed_clause(story, named, generator), generator)


def words(sentence: str) -> list[str]:
    """Return the sentence as the grammar's words: lower case, a comma is a word, an end mark is dropped."""
    return re.findall(r"[^\s,]+|,", sentence.lower().strip().rstrip(".!"))


def vocabulary() -> tuple[str, ...]:
    """List every word that a caption can contain, the comma among them, in alphabetical order."""
    tables = (SHAPE_PHRASES, SIZE_PHRASES, TEXTURE_PHRASES, CAMERA_PHRASES, MOTION_PHRASES)
    phrases = [phrase for table in tables for choices in table.values() for phrase in choices]
    phrases += [colour.name for colour in BACKGROUND_COLOURS]
    phrases += [*PREPOSITIONS, "a", "an", "and", "each", "background", ","]
    return tuple(sorted({word for phrase in phrases for word in words(phrase)}))


def _sentence(story: Story, clause: str, generator: np.random.Generator) -> str:
    ground = _background(story.background, generator)
    somewhere = f"{pick(generator, PREPOSITIONS)} {_article(ground)} {ground}"
    form = pick(generator, SENTENCES)
    sentence = form.format(somewhere=somewhere, ground=ground, clause=clause) if clause else somewhere
    if story.camera == FIXED:
        return sentence
    return f"{sentence}, {pick(generator, CAMERA_PHRASES[story.camera])}"


def _clause(story: Story, generator: np.random.Generator) -> str:
    nouns = [_noun(subject, generator) for subject in story.subjects]
    if story.camera != FIXED:
        return " and ".join(nouns)
    moves = [pick(generator, MOTION_PHRASES[subject.motion]) for subject in story.subjects]
    alike = len({subject.motion for subject in story.subjects}) == 1
    if len(nouns) == 2 and alike and generator.random() < 0.5:
        return f"{' and '.join(nouns)}, each {moves[0]}"
    return " and ".join(f"{noun} {motion}" for noun, motion in zip(nouns, moves, strict=True))


def _unnamed_clause(story: Story, named: Collection[int], generator: np.random.Generator) -> str:
    clauses = []
    for index, subject in enumerate(story.subjects):
        noun = _noun(subject, generator) if index in named else ""
        motion = pick(generator, MOTION_PHRASES[subject.motion]) if story.camera == FIXED else ""
        clauses.append(f"{noun} {motion}".strip())
    return " and ".join(clauses)


def _noun(subject: Subject, generator: np.random.Generator) -> str:
    size = pick(generator, SIZE_PHRASES[subject.size])
    shape = pick(generator, SHAPE_PHRASES[subject.shape])
    described = f"{size} {subject.colour.name} {shape}".strip()
    return f"{_article(described)} {described}"


def _background(background: Background, generator: np.random.Generator) -> str:
    texture = pick(generator, TEXTURE_PHRASES[background.texture])
    return f"{texture} {background.colour.name} background".strip()


def _article(phrase: str) -> str:
    return "an" if phrase[0] in VOWELS else "a"
