"""Numbers of a model that may differ between its experts, which are told by name: a LoRA's strength."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from kinoform.errors import UsageError
from kinoform.numbers import plain
from kinoform.solvers.schedule import Varying, check_varying, fixed
from kinoform.solvers.varying_text import Jsonable, expert_names, number_as_json, read_entries, written_entries

if TYPE_CHECKING:
    from kinoform.types import Level

PerExpert: TypeAlias = Varying | Mapping[str, Varying]
"""A number for all experts, or one for each under its name, as `expert_names` has it; checked ones are `ByExpert`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ByExpert(Mapping[str, Varying]):
    """Numbers of experts by their names, that of the highest noise first. Equals a dict of the same numbers."""

    numbers: tuple[tuple[str, Varying], ...]

    def __getitem__(self, name: str) -> Varying:
        return dict(self.numbers)[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __hash__(self) -> int:
        return hash(frozenset(self.numbers))


def check_per_expert(name: str, value: object, experts: int, lowest: float, highest: float) -> Varying | ByExpert:
    """Return a number of a run, or those of some of so many `experts` by name.

    Raises UsageError, with `name`, for values out of range, for numbers without names, and for names other than those
    of the experts.
    """
    if not isinstance(value, Mapping | list | tuple):
        return check_varying(name, value, lowest, highest)
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
    if not given:
        raise UsageError(
            f"{name} has no number; write for example {form}, or one number for all", code="expert_missing"
        )
    held = [item for item in names if item in given]
    return numbers_by_name((item, check_varying(f"{name} of {item}", given[item], lowest, highest)) for item in held)


def numbers_by_name(numbers: Iterable[tuple[str, Varying]]) -> ByExpert:
    """Return numbers by the names of their experts, which stand in the order of these."""
    return ByExpert(numbers=tuple((name, plain(number)) for name, number in numbers))


def as_json(value: PerExpert) -> Jsonable | dict[str, Jsonable]:
    """Return the number, or the numbers by name as JSON has them."""
    named = by_name(value)
    if "" in named:
        return number_as_json(named[""])
    return {name: number_as_json(number) for name, number in named.items()}


def fixed_by_expert(value: PerExpert, levels: tuple[Level, ...]) -> PerExpert:
    """Return the same numbers with functions as the schedules that they were in a run through `levels`."""
    numbers = {name: fixed(number, levels) for name, number in by_name(value).items()}
    return numbers[""] if "" in numbers else numbers_by_name(numbers.items())


def by_name(value: PerExpert) -> Mapping[str, Varying]:
    """Return the numbers by name; a number for all has the name ""."""
    return cast("Mapping[str, Varying]", value) if isinstance(value, Mapping) else {"": value}


def written(value: PerExpert) -> str:
    """Return the number, or the numbers as high=4,low=3: as the command line takes them."""
    return written_entries(by_name(value).items())


def read_written(name: str, text: str) -> PerExpert:
    """Return the number of "4", or those of "high=4,low=3", whose names are not checked.

    Raises UsageError, with `name`, as `read_entries` does.
    """
    entries = read_entries(name, text)
    return entries[""] if "" in entries else numbers_by_name(entries.items())
