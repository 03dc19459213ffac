"""Say a story in one English sentence: true in all it says, silent on what the scene chose freely.

    {on, over, in front of} a BACKGROUND, NOUN MOTION
    NOUN MOTION, BACKGROUND
    NOUN MOTION {on, over, in front of} a BACKGROUND

Two objects stand in the place of NOUN MOTION as "NOUN MOTION and NOUN MOTION", or as "NOUN and NOUN, each
MOTION" when both move alike. While the camera pans the motion is left out and ", the camera pans left" (or
right) ends the sentence.
"""

import re
from collections.abc import Collection
from typing import TypeVar

import numpy as np

from kinoform.world import grammar
from kinoform.world.backgrounds import FIXED, Background
from kinoform.world.palette import BACKGROUND_COLOURS
from kinoform.world.scene import Story, Subject

Choice = TypeVar("Choice")

VOWELS = "aeiou"


def caption(story: Story, generator: np.random.Generator) -> str:
    """One of the sentences that tell this story, each choice of words equally likely."""
    return _sentence(story, _clause(story, generator), generator)


def unnamed_caption(story: Story, generator: np.random.Generator, *, named: Collection[int] = ()) -> str:
    """A sentence without nouns, for a video whose objects images show: "moves left on a blue background".

    The objects whose places are in `named` keep their nouns. Under a camera that pans, which leaves no motion to
    tell either, an unnamed object is not mentioned at all.
    """
    return _sentence(story, _unnamed_clause(story, named, generator), generator)


def words(sentence: str) -> list[str]:
    """The sentence as the grammar's words: lower case, a comma is a word, an end mark is dropped."""
    return re.findall(r"[^\s,]+|,", sentence.lower().strip().rstrip(".!"))


def vocabulary() -> tuple[str, ...]:
    """List every word that a caption can contain, the comma among them, in alphabetical order."""
    tables = (
        grammar.SHAPE_PHRASES,
        grammar.SIZE_PHRASES,
        grammar.TEXTURE_PHRASES,
        grammar.CAMERA_PHRASES,
        grammar.MOTION_PHRASES,
    )
    phrases = [phrase for table in tables for choices in table.values() for phrase in choices]
    phrases += [colour.name for colour in BACKGROUND_COLOURS]
    phrases += [*grammar.PREPOSITIONS, "a", "an", "and", "each", "background", ","]
    return tuple(sorted({word for phrase in phrases for word in words(phrase)}))


def _sentence(story: Story, clause: str, generator: np.random.Generator) -> str:
    ground = _background(story.background, generator)
    somewhere = f"{_pick(generator, grammar.PREPOSITIONS)} {_article(ground)} {ground}"
    form = _pick(generator, grammar.SENTENCES)
    sentence = form.format(somewhere=somewhere, ground=ground, clause=clause) if clause else somewhere
    if story.camera == FIXED:
        return sentence
    return f"{sentence}, {_pick(generator, grammar.CAMERA_PHRASES[story.camera])}"


def _clause(story: Story, generator: np.random.Generator) -> str:
    nouns = [_noun(subject, generator) for subject in story.subjects]
    if story.camera != FIXED:
        return " and ".join(nouns)
    motions = [_pick(generator, grammar.MOTION_PHRASES[subject.motion]) for subject in story.subjects]
    alike = len({subject.motion for subject in story.subjects}) == 1
    if len(nouns) == 2 and alike and generator.random() < 0.5:
        return f"{' and '.join(nouns)}, each {motions[0]}"
    return " and ".join(f"{noun} {motion}" for noun, motion in zip(nouns, motions, strict=True))


def _unnamed_clause(story: Story, named: Collection[int], generator: np.random.Generator) -> str:
    told = []
    for place, subject in enumerate(story.subjects):
        noun = _noun(subject, generator) if place in named else ""
        motion = _pick(generator, grammar.MOTION_PHRASES[subject.motion]) if story.camera == FIXED else ""
        told.append(f"{noun} {motion}".strip())
    return " and ".join(told)


def _noun(subject: Subject, generator: np.random.Generator) -> str:
    size = _pick(generator, grammar.SIZE_PHRASES[subject.size])
    shape = _pick(generator, grammar.SHAPE_PHRASES[subject.shape])
    described = f"{size} {subject.colour.name} {shape}".strip()
    return f"{_article(described)} {described}"


def _background(background: Background, generator: np.random.Generator) -> str:
    texture = _pick(generator, grammar.TEXTURE_PHRASES[background.texture])
    return f"{texture} {background.colour.name} background".strip()


def _article(phrase: str) -> str:
    return "an" if phrase[0] in VOWELS else "a"


def _pick(generator: np.random.Generator, choices: tuple[Choice, ...]) -> Choice:
    return choices[int(generator.integers(len(choices)))]
