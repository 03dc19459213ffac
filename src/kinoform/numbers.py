"""Numbers as programs have them: Python's, numpy's, fractions, tensors of one value; kept as plain int and float."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

from kinoform.errors import UsageError

Whole: TypeAlias = SupportsIndex
"""Values that `whole` may take, as types tell it."""

Number: TypeAlias = SupportsFloat
"""Values that `real` may take."""


def whole_of(value: object) -> int | None:
    """The value as a plain int; None unless it is a whole number by its type. A bool is none, nor is 2.0."""
    found = _scalar(value)
    return int(found) if isinstance(found, Integral) and not isinstance(found, bool) else None


def real_of(value: object) -> float | None:
    """The value as a plain float, which may be NaN; None unless it is a number. A bool is none.

    Whole numbers and fractions beyond all floats become infinite, whatever their sign.
    """
    found = _scalar(value)
    if isinstance(found, bool) or not isinstance(found, Real):
        return None
    try:
        return float(found)
    except OverflowError:
        return math.inf


def plain(value: object) -> Any:
    """A number as a plain float; any other value as it is, for others to refuse."""
    number = real_of(value)
    return value if number is None else number


def whole(name: str, value: object, least: int, most: int) -> int:
    """The value as a plain int from `least` to `most`. Raises UsageError, with `name`, for any other."""
    found = whole_of(value)
    if found is None or not least <= found <= most:
        raise UsageError(
            f"{name} must be a whole number from {least} to {most}, not {value!r}",
            code="not_a_whole_number" if found is None else "value_out_of_range",
        )
    return found


def real(name: str, value: object, least: float, most: float) -> float:
    """The value as a plain finite float from `least` to `most`. Raises UsageError, with `name`, for any other."""
    found = real_of(value)
    if found is None or not (math.isfinite(found) and least <= found <= most):
        raise UsageError(
            f"{name} must be a number from {least:g} to {most:g}, not {value!r}",
            code="wrong_type" if found is None else "value_out_of_range",
        )
    return found


def nearest_frames(frames: float, time_stride: int, time_patch: int = 1) -> int:
    """The number of frames nearest to `frames` that a video may have: whole patches of latent frames, the first of
    which stands for one frame and the others for `time_stride`.
    """
    least, step = 1 + time_stride * (time_patch - 1), time_stride * time_patch
    return least + step * max(0, round((frames - least) / step))


def settle(owner: object, **values: object) -> None:
    """Set attributes of a frozen value, in its `__post_init__` alone: numbers that were checked, as plain ones."""
    for name, value in values.items():
        object.__setattr__(owner, name, value)


def _scalar(value: object) -> object:
    """The value in an array or a tensor without axes; anything else as it is."""
    item = getattr(value, "item", None)
    return item() if getattr(value, "ndim", None) == 0 and callable(item) else value


def check_kind(name: str, value: object, kind: type, example: str) -> None:
    """Raise UsageError for a value that is not of a kind, and for the kind itself; `example` makes a right one."""
    if not isinstance(value, kind) or isinstance(value, type):
        raise UsageError(f"{name} must be a value such as {example}, not {value!r}", code="wrong_type")
