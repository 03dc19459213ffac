"""Values whose types say less than a test knows: what is not there, or of another type, fails the test."""

from typing import TypeVar

T = TypeVar("T")


def some(value: T | None) -> T:
    """Return the value, which is not None."""
    assert value is not None
    return value


def of_type(kind: type[T], value: object) -> T:
    """Return the value, which is of this type."""
    assert isinstance(value, kind), type(value)
    return value
