"""Options for images, videos, masks and other inputs: made from the fields that declare these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any

from kinoform.cli import console
from kinoform.cli.options import option
from kinoform.conditions.coerce import to_inputs, unknown_input
from kinoform.conditions.input_kinds import ImageKind, ReadOptions
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.standard_inputs import STANDARD_INPUTS
from kinoform.errors import UsageError

INPUTS = "Inputs"
"""Heading of these options in the help."""

PART = ImageKind()
"""The kind of a part of an input that has a name of its own."""


def option_names(*items: InputField[Any]) -> tuple[str, ...]:
    """Return the names of the options of these fields."""
    return tuple(name for item in items for name in (*item.kind.shorthands, item.key))


def _declared() -> Iterator[tuple[str, Any, Any]]:
    """Yield name, type and default of each option."""
    for item in STANDARD_INPUTS:
        for name, (_, help) in item.kind.shorthands.items():
            yield name, Annotated[PART.option | None, _option(name, help)], None
        value = list[item.kind.option] if item.kind.repeatable else item.kind.option
        if value is bool:
            yield item.key, Annotated[bool, _option(item.key, item.help)], False
        else:
            yield item.key, Annotated[value | None, _option(item.key, item.help)], None


def _option(name: str, help: str) -> Any:
    return option(INPUTS, help, f"--{name.replace('_', '-')}")


_Declared: Any = make_dataclass("_Declared", _declared(), frozen=True, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class InputOptions(_Declared):
    """Options of every input of the package, as they were said, and of inputs by name; nothing of them is read yet."""

    fit_mask: Annotated[bool, option(INPUTS, "Stretch a mask of another size.", "--fit-mask")] = False
    input: Annotated[
        list[str] | None, option(INPUTS, "NAME=VALUE: any input that the model takes; repeatable.", "--input")
    ] = None

    def read(self, known: tuple[InputField[Any], ...], options: ReadOptions) -> Inputs:
        """Read the inputs that are given. Raises UsageError for one that is not `known`, and as `to_inputs`."""
        return to_inputs(known, self.values(known), options)

    def values(self, known: Iterable[InputField[Any]] = STANDARD_INPUTS) -> dict[str, object]:
        """Return what is given, by the keywords of Python.

        Raises UsageError for an input that is not among the `known`, or is given twice.
        """
        given = {keyword: value for keyword, value in self._own() if value is not None and value is not False}
        for keyword, value in self._named(tuple(known)):
            if keyword in given:
                raise UsageError(
                    f"the input {keyword} is given by --input and by its own option; give it once",
                    code="options_conflict",
                )
            given[keyword] = value
        return given

    def private(self) -> Iterator[str]:
        """Yield texts that stay out of logs."""
        yield from filter(None, (getattr(self, item.key) for item in STANDARD_INPUTS if item.kind.private))

    def _own(self) -> Iterator[tuple[str, object]]:
        """Yield the values of options, by keyword."""
        for item in STANDARD_INPUTS:
            value = getattr(self, item.key)
            yield item.name, item.kind.parse(value, item.key) if item.kind.repeatable and value else value
            yield from ((name, getattr(self, name)) for name in item.kind.shorthands)

    def _named(self, known: tuple[InputField[Any], ...]) -> Iterator[tuple[str, object]]:
        """Yield the values of `--input`, by keyword."""
        keywords = {item.key: item.name for item in known}
        kinds = {item.name: item.kind for item in known} | {
            name: PART for item in known for name in item.kind.shorthands
        }
        texts: dict[str, list[str]] = {}
        for text in self.input or ():
            name, separator, value = text.partition("=")
            if not separator:
                raise UsageError(
                    f"--input {text!r} is not NAME=VALUE; write for example --input strength=0.5", code="bad_value"
                )
            keyword = keywords.get(name, name)
            if keyword not in kinds:
                raise unknown_input(name, known)
            if kinds[keyword].private:
                console.keep_private(value)
            texts.setdefault(keyword, []).append(value)
        for keyword, several in texts.items():
            yield keyword, kinds[keyword].parse(several, keyword)
