"""The config.json beside weights: a second witness of their sizes, and the only one for what has no shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, cast

from kinoform.checkpoints.headers import read_json
from kinoform.errors import WeightsError

MAX_SIZE = 1 << 18
"""Above every width and vocabulary of this family; what claims more is damaged."""

SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The object in the file at `path`."""

    path: Path
    values: Mapping[str, Any]

    def number(self, key: str) -> int:
        """Raises WeightsError unless it is a whole number of a size that this family has."""
        value = self.values.get(key)
        if type(value) is not int or not 1 <= value <= MAX_SIZE:
            raise WeightsError(
                f"{self.path}: {key} is {shown(value)}, not a number from 1 to {MAX_SIZE}; fetch the file again",
                code="config_damaged",
            )
        return value

    def small(self, key: str, default: float) -> float:
        """Raises WeightsError unless it is a number between 0 and 1."""
        value = self.values.get(key, default)
        if not isinstance(value, float) or not 0 < value < 1:
            raise WeightsError(
                f"{self.path}: {key} is {shown(value)}, which is no small positive number; fetch the file again",
                code="config_damaged",
            )
        return value

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        """Raises WeightsError unless it is a list of so many finite numbers."""
        values = self._list(key)
        if len(values) != length or not all(map(_finite, values)):
            raise WeightsError(
                f"{self.path}: {key} is no list of {length} numbers; fetch the file again", code="config_damaged"
            )
        return tuple(map(float, values))

    def rising(self, key: str, below: int) -> tuple[int, ...] | None:
        """Return a list of rising numbers from 0 and less than `below`, None where the file has none.

        Raises WeightsError for any other value.
        """
        if self.values.get(key) is None:
            return None
        values = self._list(key)
        if not all(type(item) is int and 0 <= item < below for item in values) or values != sorted(set(values)):
            raise WeightsError(
                f"{self.path}: {key} is {shown(values)}, not a list of rising numbers below {below}; fetch the file "
                "again",
                code="config_damaged",
            )
        return tuple(values)

    def _list(self, key: str) -> list[Any]:
        value = self.values.get(key)
        if not isinstance(value, list):
            raise WeightsError(
                f"{self.path}: {key} is {shown(value)}, not a list; fetch the file again", code="config_damaged"
            )
        return cast("list[Any]", value)

    def check(self, found: Mapping[str, object]) -> None:
        """Raises WeightsError naming both values where the file says otherwise; what it leaves out it may."""
        for key, value in found.items():
            said = self.values.get(key, value)
            if said != value or isinstance(said, bool) is not isinstance(value, bool):
                raise WeightsError(
                    f"{self.path}: {key} is {shown(said)}, the weights have {shown(value)}; they do not belong "
                    "together",
                    code="config_contradicts_weights",
                )


def read_config(path: Path) -> Config:
    """Raises WeightsError when the file is missing or no JSON object."""
    return Config(path=path, values=read_json(path))


def shown(value: object) -> str:
    """A value from a file, short enough for a sentence."""
    text = (
        f"a number of {value.bit_length()} bits" if isinstance(value, int) and value.bit_length() > 64 else repr(value)
    )
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
