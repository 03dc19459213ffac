"""A training's settings as readable text, so that two trainings can be compared."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType

import torch

from kinoform.errors import UsageError

SHOWN = 4


def fingerprint(value: object) -> dict[str, str]:
    """Flatten dataclasses, mappings and sequences: {"schedule": "Schedule", "schedule.warmup": "50", ...}.

    Functions count by name. Raises UsageError for anything else than these and plain values, because its
    text may change between two processes.
    """
    return dict(_entries("", value))


def difference(saved: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """The first SHOWN entries that differ, as "name: saved x, now y; ... and 7 more", or the empty string."""
    names = sorted(name for name in {*saved, *wanted} if saved.get(name) != wanted.get(name))
    told = [f"{n}: saved {saved.get(n, 'nothing')}, now {wanted.get(n, 'nothing')}" for n in names[:SHOWN]]
    return "; ".join(told) + (f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _entries(name: str, value: object) -> Iterator[tuple[str, str]]:
    label = name or "training"
    if is_dataclass(value) and not isinstance(value, type):
        yield label, type(value).__name__
        for each in fields(value):
            yield from _entries(_below(name, each.name), getattr(value, each.name))
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _entries(_below(name, str(key)), each)
    elif isinstance(value, tuple | list):
        yield label, f"{len(value)} entries"
        for place, each in enumerate(value):
            yield from _entries(_below(name, str(place)), each)
    elif isinstance(value, FunctionType | type):
        yield label, f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, str | int | float | bool | torch.dtype | None):
        yield label, repr(value)
    else:
        raise UsageError(
            f"{label} is {value!r}; a training is described by frozen dataclasses and plain values",
            code="plan_not_plain",
        )


def _below(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part
