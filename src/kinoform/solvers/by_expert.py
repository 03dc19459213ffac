"""Numbers of a model that may differ between its experts, which are told by name: the guidance, a LoRA's strength."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from kinoform.errors import UsageError
from kinoform.numbers import real

PerExpert: TypeAlias = float | Mapping[str, float]
"""A number for all experts, or one for each under its name, as `expert_names` has it; checked ones are `ByExpert`."""


def expert_names(count: int) -> tuple[str, ...]:
    """Return the names of so many experts, that of the highest noise first: high and low, or 1, 2, 3 and so on."""
    return ("high", "low") if count == 2 else tuple(str(number) for number in range(1, count + 1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ByExpert(Mapping[str, float]):
    """Numbers of experts by their names, that of the highest noise first. Equals a dict of the same numbers."""

    numbers: tuple[tuple[str, float], ...]

    def __getitem__(self, name: str) -> float:
        return dict(self.numbers)[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __hash__(self) -> int:
        return hash(frozenset(self.numbers))


def check_per_expert(
    name: str, value: object, experts: int, lowest: float, highest: float, *, whole: bool = True
) -> float | ByExpert:
    """Return a plain number, or one for each of so many `experts` by name; unless `whole` some may be left out.

    Raises UsageError, with `name`, for values out of range, for numbers without names, and for names other than those
    of the experts.
    """
    if not isinstance(value, Mapping | list | tuple):
        return real(name, value, lowest, highest)
    names = expert_names(experts)
    if experts == 1:
        raise UsageError(
            f"{name} has a number for each of several transformers, and this model has one; give one number",
            code="one_transformer",
        )
    numbers = numbers_by_name((item, max(1, 4 - index)) for index, item in enumerate(names))
    form = f"{written(numbers)}, in Python {as_json(numbers)}"
    if not isinstance(value, Mapping):
        raise UsageError(
            f"{name} is {value!r}, which does not say which transformer each number is for; write for example {form}",
            code="expert_not_said",
        )
    given = cast("Mapping[object, object]", value)
    if unknown := [item for item in given if item not in names]:
        raise UsageError(
            f"{name} names {str(unknown[0])[:60]!r}, and the transformers of this model are {', '.join(names)}; "
            f"write for example {form}",
            code="unknown_expert",
        )
    missing = [item for item in names if item not in given]
    if missing and (whole or not given):
        raise UsageError(
            f"{name} has no number for {', '.join(missing)}; write for example {form}, or one number for all",
            code="expert_missing",
        )
    held = [item for item in names if item in given]
    return numbers_by_name((item, real(f"{name} of {item}", given[item], lowest, highest)) for item in held)


def numbers_by_name(numbers: Iterable[tuple[str, float]]) -> ByExpert:
    """Return numbers by the names of their experts, which stand in the order of these."""
    return ByExpert(numbers=tuple((name, float(number)) for name, number in numbers))


def of_expert(value: PerExpert, index: int) -> float:
    """Return the number of one expert, of as many as have one."""
    return value[expert_names(len(value))[index]] if isinstance(value, Mapping) else value


def numbers_of(value: PerExpert) -> tuple[float, ...]:
    """Return the number of all, or those of each."""
    return tuple(value.values()) if isinstance(value, Mapping) else (value,)


def as_json(value: PerExpert) -> float | dict[str, float]:
    """Return the number, or the numbers by name as JSON has them."""
    return dict(value) if isinstance(value, Mapping) else value


def written(value: PerExpert) -> str:
    """Return the number, or the numbers as high=4,low=3: as the command line takes them."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={written(number)}" for name, number in value.items())
    return str(value).removesuffix(".0")


def read_written(name: str, text: str) -> PerExpert:
    """Return the number of "4", or those of "high=4,low=3", whose names are not checked.

    Raises UsageError, with `name`, for other text, numbers without names, and a name that is said twice.
    """
    words, equals, numbers = zip(*(piece.partition("=") for piece in text.split(",")), strict=True)
    names = [word.strip() for word in words]
    try:
        if not any(equals):
            return _only(name, [float(word) for word in words])
        if not all(names):
            raise ValueError
        made = numbers_by_name(zip(names, map(float, numbers), strict=True))
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(
            f"{name} must be a number, or one for each transformer of a model, not {text[:60]!r}; "
            "write for example 4, or high=4,low=3",
            code="bad_value",
        ) from error
    if twice := next((item for item in names if names.count(item) > 1), None):
        raise UsageError(f"{name} {text[:60]} says {twice} twice; say it once", code="said_twice")
    return made


def _only(name: str, numbers: list[float]) -> float:
    if len(numbers) == 1:
        return numbers[0]
    named = numbers_by_name(zip(expert_names(len(numbers)), numbers, strict=True))
    raise UsageError(
        f"{name} {','.join(map(written, numbers))} does not say which transformer each number is for; "
        f"write for example {written(named)}",
        code="expert_not_said",
    )
