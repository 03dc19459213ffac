"""Numbers of a model that may differ between its experts, which are told by name: the guidance, a LoRA's strength."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


def check_per_expert(name: str, value: object, experts: int, lowest: float, highest: float) -> PerExpert:
    """Return a plain number, or one for each of so many `experts` by name.

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
    form = example(names)
    if not isinstance(value, Mapping):
        raise UsageError(
            f"{name} is {value!r}, which does not say which transformer each number is for; write {name}={form}",
            code="expert_not_said",
        )
    given = cast("Mapping[object, object]", value)
    if unknown := [item for item in given if item not in names]:
        raise UsageError(
            f"{name} names {str(unknown[0])[:60]!r}, and the transformers of this model are {', '.join(names)}; "
            f"write {name}={form}",
            code="unknown_expert",
        )
    if missing := [item for item in names if item not in given]:
        raise UsageError(
            f"{name} has no number for {', '.join(missing)}; write {name}={form}, or one number for all",
            code="expert_missing",
        )
    numbers = ((item, real(f"{name} of {item}", given[item], lowest, highest)) for item in names)
    return ByExpert(numbers=tuple(numbers))


def example(names: Sequence[str]) -> str:
    """Return numbers by name as Python has them: {"high": 4, "low": 3}."""
    return "{" + ", ".join(f'"{name}": {max(1, 4 - index)}' for index, name in enumerate(names)) + "}"


def of_expert(value: PerExpert, index: int) -> float:
    """Return the number of one expert."""
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
        made = ByExpert(numbers=tuple(zip(names, map(float, numbers), strict=True)))
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
    named = ByExpert(numbers=tuple(zip(expert_names(len(numbers)), numbers, strict=True)))
    raise UsageError(
        f"{name} {','.join(map(written, numbers))} does not say which transformer each number is for; "
        f"write for example {written(named)}",
        code="expert_not_said",
    )
