"""Files of two experts as the command line takes them: `--model high=FILE --model low=FILE`.

Inside one option stands for both, as high=FILE,low=FILE, which the environment and a settings file take too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence

from kinoform.errors import UsageError

FLAG = "--model"
NAMED = re.compile(r"[A-Za-z]\w*=.", re.DOTALL)
"""The beginning of a file with the expert that it holds."""

BETWEEN = re.compile(r",(?=(?:high|low)=)")


def folded(words: Sequence[str]) -> list[str]:
    """Make one option of those that name the files of experts, where the first of them stands.

    Raises UsageError for a whole model beside them.
    """
    places, values, plain = [], [], ""
    for index, word in enumerate(words):
        if word == "--":
            break
        value = words[index + 1] if word == FLAG and index + 1 < len(words) else word.removeprefix(f"{FLAG}=")
        if word.partition("=")[0] == FLAG and NAMED.match(value):
            places.append(range(index, index + (2 if word == FLAG else 1)))
            values.append(value)
        elif word.partition("=")[0] == FLAG:
            plain = value
    if values and plain:
        raise UsageError(
            f"{FLAG} {values[0][:60]} names an expert, and {FLAG} {plain[:60]} a whole model; give one of them",
            code="options_conflict",
        )
    if len(values) < 2:
        return list(words)
    left = {index for place in places for index in place}
    first = places[0][0]
    return [
        *words[:first],
        FLAG,
        ",".join(values),
        *(word for index, word in enumerate(words) if index > first and index not in left),
    ]


def model_of(text: str) -> str | dict[str, str]:
    """Return the model that a text names, or the files of its experts by their names.

    Raises UsageError for an expert that is named twice.
    """
    if NAMED.match(text) is None or os.path.exists(text):
        return text
    pairs = [(name, file) for name, _, file in (piece.partition("=") for piece in BETWEEN.split(text))]
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{FLAG} names the expert {twice} twice; say it once", code="said_twice")
    return dict(pairs)


def with_files(text: str, spell: Callable[[str], str]) -> str:
    """Return the text of a model with its path, or the paths of its experts, spelled otherwise."""
    model = model_of(text)
    if not isinstance(model, Mapping):
        return spell(text)
    return ",".join(f"{name}={spell(file)}" for name, file in model.items())
