"""Read a caption back into the story it tells: the grammar of `caption`, backwards."""

import re
from collections.abc import Hashable, Iterable, Mapping
from functools import cache
from typing import TypeVar

from kinoform.errors import UsageError
from kinoform.world import caption as grammar
from kinoform.world.backgrounds import FIXED, Background
from kinoform.world.caption import vocabulary, words
from kinoform.world.motions import STILL
from kinoform.world.palette import BACKGROUND_COLOURS
from kinoform.world.scene import Story, Subject

Value = TypeVar("Value", bound=Hashable)

EXAMPLE = "a red ball moves left on a blue background"


def parse(sentence: str) -> Story:
    """Return the story that a sentence of the grammar tells; "a" and "an" are taken for each other.

    Raises UsageError when the sentence is not of the grammar, naming the words it does not know, or when
    the world has no such video.
    """
    text = " ".join(words(sentence)).replace(" ,", ",")
    for pattern in _sentences():
        match = pattern.fullmatch(text)
        if match:
            return _story({name: phrase or "" for name, phrase in match.groupdict().items()})
    raise UsageError(
        f"{sentence!r} is not a caption of this world{_unknown(text)}; write for example {EXAMPLE!r}",
        code="not_a_caption",
    )


def _story(groups: Mapping[str, str]) -> Story:
    count = 2 if "colour1" in groups else 1
    colours = {colour.name: colour for colour in BACKGROUND_COLOURS}
    motions = _values(grammar.MOTION_PHRASES)
    first = motions.get(groups.get("motion0", ""), STILL)
    subjects = tuple(
        Subject(
            colour=colours[groups[f"colour{index}"]],
            shape=_values(grammar.SHAPE_PHRASES)[groups[f"shape{index}"]],
            motion=motions.get(groups.get(f"motion{index}", ""), first),
            size=_values(grammar.SIZE_PHRASES)[groups[f"size{index}"]],
        )
        for index in range(count)
    )
    background = Background(
        colour=colours[groups["ground"]], texture=_values(grammar.TEXTURE_PHRASES)[groups["texture"]]
    )
    camera = _values(grammar.CAMERA_PHRASES).get(groups.get("camera", ""), FIXED)
    return Story(subjects=subjects, background=background, camera=camera)


@cache
def _sentences() -> tuple[re.Pattern[str], ...]:
    """Return every form of sentence as a pattern with one named group per attribute."""
    colours = "|".join(colour.name for colour in BACKGROUND_COLOURS)
    ground = rf"(?:(?P<texture>{_any(grammar.TEXTURE_PHRASES)}) )?(?P<ground>{colours}) background"
    somewhere = rf"(?:{'|'.join(grammar.PREPOSITIONS)}) an? {ground}"
    nouns = [
        rf"an? (?:(?P<size{index}>{_any(grammar.SIZE_PHRASES)}) )?"
        rf"(?P<colour{index}>{colours}) (?P<shape{index}>{_any(grammar.SHAPE_PHRASES)})"
        for index in range(2)
    ]
    motions = [rf"(?P<motion{index}>{_any(grammar.MOTION_PHRASES)})" for index in range(2)]
    moving = (
        f"{nouns[0]} {motions[0]}",
        f"{nouns[0]} {motions[0]} and {nouns[1]} {motions[1]}",
        f"{nouns[0]} and {nouns[1]}, each {motions[0]}",
    )
    endings = [(clause, "") for clause in moving] + [(nouns[0], rf", (?P<camera>{_any(grammar.CAMERA_PHRASES)})")]
    return tuple(
        re.compile(form.format(somewhere=somewhere, ground=ground, clause=clause) + end)
        for clause, end in endings
        for form in grammar.SENTENCES
    )


def _any(table: Mapping[Value, Iterable[str]]) -> str:
    return "|".join(re.escape(phrase) for phrase in _values(table) if phrase)


def _values(table: Mapping[Value, Iterable[str]]) -> dict[str, Value]:
    return {phrase: value for value, phrases in table.items() for phrase in phrases}


def _unknown(text: str) -> str:
    strange = [word for word in words(text) if word not in vocabulary()]
    return f": it does not know {', '.join(map(repr, strange))}" if strange else ""
