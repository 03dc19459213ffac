"""Scales of guidance by expert and by condition, each of which may change during a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from kinoform.errors import UsageError
from kinoform.solvers.schedule import Varying, along, check_along, check_varying, fixed
from kinoform.solvers.varying_text import (
    expert_names,
    number_as_json,
    number_from_json,
    read_entries,
    written_entries,
)

if TYPE_CHECKING:
    from kinoform.types import Level

CONDITIONS = ("text", "images", "video")
"""Conditions that guidance may weigh: the prompt, in-context images, an in-context video. A bare number is `text`."""

TEXT = CONDITIONS[0]
MAX_GUIDANCE = 100.0

ScalesLike: TypeAlias = "Varying | Mapping[str, Varying | Mapping[str, Varying]] | GuidanceScales"
"""Scales as they may be given: one, or one for each name, which is an expert, a condition or both (`low.text`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceScales:
    """Checked scales, made by `guidance_scales`: equal ones are one value, whatever the order they were said in.

    `numbers` hold (expert, condition, scale); the expert is "" where the scale is that of all.
    """

    experts: int
    numbers: tuple[tuple[str, str, Varying], ...]

    def of_expert(self, index: int) -> dict[str, Varying]:
        """Return the scales of one expert by condition; `text` is always among them."""
        own = expert_names(self.experts)[index] if self.experts > 1 else ""
        said = {(expert, condition): value for expert, condition, value in self.numbers}
        both = {item: said.get((own, item), said.get(("", item))) for item in CONDITIONS}
        return {condition: value for condition, value in both.items() if value is not None}

    def along(self, index: int, levels: tuple[Level, ...]) -> dict[str, Callable[[Level], float]]:
        """Return the scales of one expert as functions of the level, in a run through `levels`."""
        return {condition: along(value, levels) for condition, value in self.of_expert(index).items()}

    def check_along(self, levels: tuple[Level, ...]) -> None:
        """Raise UsageError where a function of the level gives a scale out of range in a run through `levels`."""
        for name, value in self.named():
            check_along(f"guidance_scale{' of ' + name if name else ''}", value, levels, 0.0, MAX_GUIDANCE)

    def fixed(self, levels: tuple[Level, ...]) -> GuidanceScales:
        """Return the same scales with functions as the schedules that they were in a run through `levels`."""
        numbers = ((expert, condition, fixed(value, levels)) for expert, condition, value in self.numbers)
        return GuidanceScales(experts=self.experts, numbers=tuple(numbers))

    def over(self, default: GuidanceScales) -> GuidanceScales:
        """Return these scales, and those of `default` for conditions that these do not name.

        A scale of 1 alone is no guidance, of no condition.
        """
        own = {condition for _, condition, _ in self.numbers}
        if self.plain() == 1 or default.experts != self.experts:
            return self
        both = (*self.numbers, *(item for item in default.numbers if item[1] not in own))
        order = [(expert, condition) for expert in ("", *expert_names(self.experts)) for condition in CONDITIONS]
        return replace(self, numbers=tuple(sorted(both, key=lambda item: order.index(item[:2]))))

    def as_json(self) -> Any:
        """Return the scale, or the scales by names as JSON has them: {"high": 4, "low": {"text": 3, "images": 4.5}}."""
        if self.numbers[0][:2] == ("", TEXT) and len(self.numbers) == 1:
            return number_as_json(self.numbers[0][2])
        result: dict[str, Any] = {
            condition: number_as_json(value) for expert, condition, value in self.numbers if not expert
        }
        for name in dict.fromkeys(expert for expert, _, _ in self.numbers if expert):
            own = {condition: number_as_json(value) for expert, condition, value in self.numbers if expert == name}
            result[name] = own[TEXT] if [*own] == [TEXT] else own
        return result

    def plain(self) -> float | GuidanceScales:
        """Return the number that is the scale of all, at all levels; these scales where there is none."""
        (expert, condition, value), *others = self.numbers
        return value if (expert, condition) == ("", TEXT) and isinstance(value, float) and not others else self

    def written(self) -> str:
        """Return the scales as the command line takes them."""
        return written_entries(self.named())

    def written_of(self, index: int) -> str:
        """Return the scales of one expert as text."""
        own = self.of_expert(index)
        return written_entries(("" if [*own] == [TEXT] else condition, value) for condition, value in own.items())

    def named(self) -> Iterator[tuple[str, Varying]]:
        """Yield each scale under its name as it is said: "high", "low.images", "video", and "" for one alone."""
        for expert, condition, value in self.numbers:
            if expert:
                yield expert if condition == TEXT else f"{expert}.{condition}", value
            else:
                yield "" if len(self.numbers) == 1 and condition == TEXT else condition, value


def guidance_scales(value: object, experts: int, name: str = "guidance_scale") -> GuidanceScales:
    """Return the scales of a model of so many `experts`, from all forms of `ScalesLike`.

    Raises UsageError, with `name`, for numbers out of range, numbers without names, names that are neither an expert's
    nor a condition's, a scale that is said twice, and an expert without a scale.
    """
    if isinstance(value, GuidanceScales) and value.experts == experts:
        return value
    said: dict[tuple[str, str], Varying] = {}
    for words, number in _given(name, value, experts):
        key = _key(name, words, experts)
        told = ".".join(words)
        if key in said:
            raise UsageError(f"{name} says {told} twice; say it once", code="said_twice")
        said[key] = check_varying(f"{name} of {told}" if told else name, number, 0.0, MAX_GUIDANCE)
    _check_complete(name, said, experts)
    order = [(expert, condition) for expert in ("", *expert_names(experts)) for condition in CONDITIONS]
    return GuidanceScales(experts=experts, numbers=tuple((*key, said[key]) for key in order if key in said))


def read_scales(option: str, text: str) -> ScalesLike:
    """Return the scales of a text such as 4, high=4,low=3, or text=4@0-0.5,text=1@0.5-1,low.images=4.5.

    Its names are not checked. Raises UsageError, with `option`, as `read_entries` does.
    """
    entries = read_entries(option, text)
    return entries.get("", entries)


def scales_from_json(name: str, value: object) -> ScalesLike:
    """Return the scales that `GuidanceScales.as_json` wrote; names are not checked. Raises UsageError for others."""
    if not isinstance(value, Mapping):
        return number_from_json(name, value)
    return {
        key: {
            inner: number_from_json(f"{name} of {key}.{inner}", item) for inner, item in _items(cast("object", number))
        }
        if isinstance(number, Mapping)
        else number_from_json(f"{name} of {key}", number)
        for key, number in _items(cast("object", value))
    }


def _given(name: str, value: object, experts: int) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield each number with the words of its name, none for a number alone."""
    if isinstance(value, GuidanceScales):
        yield from (((*own.split("."),) if own else (), number) for own, number in value.named())
    elif isinstance(value, Mapping):
        for key, number in _items(cast("object", value)):
            words = tuple(key.split("."))
            if isinstance(number, Mapping):
                yield from (((*words, condition), item) for condition, item in _items(cast("object", number)))
            else:
                yield words, number
    elif isinstance(value, list | tuple):
        if experts == 1:
            raise _one_transformer(name)
        raise UsageError(
            f"{name} is {str(cast('object', value))[:60]}, which does not say which transformer each number is for; "
            f"{_form(experts)}",
            code="expert_not_said",
        )
    else:
        yield (), value


def _items(numbers: object) -> Iterator[tuple[str, object]]:
    return ((str(key), number) for key, number in cast("Mapping[object, object]", numbers).items())


def _key(name: str, words: tuple[str, ...], experts: int) -> tuple[str, str]:
    """Return (expert, condition) of a name. Raises UsageError for the name of neither."""
    known = expert_names(experts) if experts > 1 else ()
    match words:
        case ():
            return "", TEXT
        case (condition,) if condition in CONDITIONS:
            return "", condition
        case (expert,) if expert in known:
            return expert, TEXT
        case (expert, condition) if expert in known and condition in CONDITIONS:
            return expert, condition
        case (expert, *_) if experts == 1 and expert in (*expert_names(2), *map(str, range(10))):
            raise _one_transformer(name)
        case _:
            experts_named = f"the transformers of this model are {', '.join(known)}, and " if known else ""
            raise UsageError(
                f"{name} names {'.'.join(words)[:60]!r}; {experts_named}the conditions {', '.join(CONDITIONS)}; "
                f"{_form(experts)}",
                code="unknown_expert" if known else "unknown_name",
            )


def _one_transformer(name: str) -> UsageError:
    return UsageError(
        f"{name} has a number for each of several transformers, and this model has one; give one number",
        code="one_transformer",
    )


def _check_complete(name: str, said: Mapping[tuple[str, str], Varying], experts: int) -> None:
    """Raise UsageError unless every expert has a scale of the text, and of each condition that another has."""
    for condition in (TEXT, *(item for item in CONDITIONS[1:] if any(key[1] == item for key in said))):
        if ("", condition) in said:
            continue
        known = expert_names(experts) if experts > 1 else ("",)
        if missing := [expert for expert in known if (expert, condition) not in said]:
            names = ", ".join(".".join(filter(None, (expert, condition))) for expert in missing)
            raise UsageError(
                f"{name} has no number for {names.replace('.text', '')}; {_form(experts)}, or one number for all",
                code="expert_missing",
            )


def _form(experts: int) -> str:
    """Return an example of scales for a model of so many experts."""
    if experts == 1:
        return "write for example text=4,images=4.5,video=1.25, in Python {'text': 4, 'images': 4.5, 'video': 1.25}"
    numbers = {expert: max(1.0, 4.0 - index) for index, expert in enumerate(expert_names(experts))}
    return f"write for example {written_entries(numbers.items())}, in Python {numbers}"
