"""Declared inputs: what a model can be given besides a prompt, and the values that a request gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

from kinoform.conditions.input_kinds import InputKind
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.media.types import Origin

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputField(Generic[T]):
    """Input that a conditioner reads: the one place where it is declared.

    `name` is its keyword in Python and its name after `--input`; `kind` says how it is read, recorded and read again;
    `help` is a sentence for people. `default` is what `inputs[field]` holds where it is not given, None for what the
    kind holds then. `item` names one of several values, in options and metadata; `phrase` is what sentences call it.
    Raises UsageError for a name that is no keyword, and for a kind that is none.
    """

    name: str
    kind: InputKind[T]
    help: str
    default: T | None = field(default=None, hash=False)
    item: str | None = None
    phrase: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(self.name)):
            raise UsageError(
                f"an input is called {self.name!r}; write small letters, digits and _, a letter first",
                code="input_name_invalid",
            )
        if not isinstance(cast(object, self.kind), InputKind):
            raise UsageError(
                f"the input {self.name} is of the kind {self.kind!r}; give a value such as ImageKind() or NumberKind()",
                code="input_kind_unknown",
            )

    @property
    def said(self) -> str:
        """Return what sentences call it."""
        return self.phrase or self.name.replace("_", " ")

    @property
    def key(self) -> str:
        """Return the name of one value, as metadata and options have it."""
        return self.item or self.name

    @property
    def names(self) -> frozenset[str]:
        """Return every name that no other input may have."""
        return frozenset({self.name, self.key, *self.kind.shorthands})


Takers: TypeAlias = Callable[[InputField[Any]], Sequence[str]]
"""Names of the models that take an input."""


class Inputs(Mapping[InputField[Any], Any]):
    """Values that a request gives, by their fields; a field that is not given has its default.

    Values are checked and kept as plain ones; those that are None or empty count as not given. Iteration yields the
    fields that are given. Raises UsageError for a value that its kind does not have.
    """

    def __init__(self, values: Mapping[InputField[Any], Any] | None = None) -> None:
        given = {item: value for item, value in (values or {}).items() if value is not None}
        checked = {item: item.kind.check(value, item.said) for item, value in given.items()}
        self._values = {item: value for item, value in checked.items() if item.kind.says(value)}

    def __getitem__(self, field: InputField[T], /) -> T:
        if field in self._values:
            return self._values[field]
        return field.kind.empty() if field.default is None else field.default

    def __contains__(self, field: object, /) -> bool:
        return field in self._values

    def __iter__(self) -> Iterator[InputField[Any]]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        """Tell whether this is the other one: equal videos are not compared."""
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __or__(self, others: Mapping[InputField[Any], Any]) -> Inputs:
        """Return these inputs with others in their place; None takes one away."""
        return Inputs({**self._values, **others})

    def __repr__(self) -> str:
        return f"Inputs({', '.join(f'{item.name}={value!r}' for item, value in self._values.items())})"

    def only(self, fields: Iterable[InputField[Any]]) -> Inputs:
        """Return the inputs that are among these fields."""
        return Inputs({item: self._values[item] for item in self if item in frozenset(fields)})

    def files(self) -> Iterator[tuple[str, Origin | None]]:
        """Yield each file by its key in a video's metadata, and where it came from; None for what was never a file."""
        for item, value in self._values.items():
            for number, origin in item.kind.files(value):
                yield f"{item.key}:{number}" if number else item.key, origin

    def records(self) -> dict[str, object]:
        """Return what a video's metadata hold besides the files, by the names of the fields."""
        recorded = {item.name: item.kind.record(value) for item, value in self._values.items()}
        return {name: value for name, value in recorded.items() if value is not None}


NO_INPUTS = Inputs()


def by_name(fields: Iterable[InputField[Any]], reserved: Iterable[str] = ()) -> dict[str, InputField[Any]]:
    """Return fields by their names, each once.

    Raises UsageError where two that differ share a name, or one has a `reserved` name.
    """
    result: dict[str, InputField[Any]] = {}
    taken: dict[str, InputField[Any] | None] = dict.fromkeys(reserved)
    for item in fields:
        for name in sorted(item.names):
            if taken.get(name, item) != item:
                other = taken[name]
                owner = "an argument of a request" if other is None else f"another input ({other.help})"
                raise UsageError(
                    f"an input cannot be called {name}, the name of {owner}; give it another name",
                    code="input_name_taken",
                )
            taken[name] = item
        result[item.name] = item
    return result
