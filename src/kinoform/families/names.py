"""Tables between two spellings of the same parameters' names; every table is a bijection.

A row is a pair of templates. `#` stands for a number, `*` (only at the end) for the rest of the name;
both sides hold the same placeholders in the same order.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from kinoform.errors import WeightsError

MAX_LISTED, MAX_LENGTH = 3, 80


@dataclass(frozen=True, kw_only=True)
class Names:
    """One table: `ours(name in the file)` and `theirs(own name)` undo each other."""

    rows: tuple[tuple[str, str], ...]

    @cached_property
    def _forward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(theirs), _template(ours)) for theirs, ours in self.rows]

    @cached_property
    def _backward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(ours), _template(theirs)) for theirs, ours in self.rows]

    def ours(self, name: str) -> str | None:
        """The own name of a parameter of the file, None when the table does not know it."""
        return _translate(name, self._forward)

    def theirs(self, name: str) -> str:
        """The name in the file of one of kinoform's parameters; WeightsError when it has none."""
        found = _translate(name, self._backward)
        if found is None:
            raise WeightsError(
                f"{name} has no name in this dialect: the official model has no such part", code="weights_unknown_keys"
            )
        return found

    def spelled(self, own: str) -> str:
        """The name in the file, or the own one where the table lacks it."""
        return self.theirs(own) if self.knows(own) else own

    def knows(self, own: str) -> bool:
        """Return whether one of kinoform's parameters has a name in the file."""
        return _translate(own, self._backward) is not None

    def official(self, names: Iterable[str]) -> dict[str, str]:
        """Official name -> own name, for a model with these parameters."""
        return {self.theirs(name): name for name in names}


def listed(names: Sequence[str]) -> str:
    """The first of some names from a file, for a message."""
    shown = ", ".join(repr(name[:MAX_LENGTH]) for name in names[:MAX_LISTED])
    return shown + (", ..." if len(names) > MAX_LISTED else "")


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\#", r"(\d+)").replace(r"\*", r"(.+)"))


def _template(template: str) -> str:
    return template.replace("#", "{}").replace("*", "{}")


def _translate(name: str, table: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in table:
        if match := pattern.fullmatch(name):
            return template.format(*match.groups())
    return None
