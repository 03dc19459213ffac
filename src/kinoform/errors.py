"""What can go wrong, by what the reader has to change; each kind has its own exit code."""

from collections.abc import Iterable
from difflib import get_close_matches


class KinoformError(Exception):
    """A sentence that names the value at fault and what to change; the command line prints it alone."""

    exit_code = 1


class UsageError(KinoformError, ValueError):
    """A request that cannot be carried out as written."""

    exit_code = 2


class WeightsError(KinoformError, ValueError):
    """A weight file or folder that is missing, damaged, or of another model."""

    exit_code = 3


class FitError(KinoformError):
    """The request does not fit this machine."""

    exit_code = 4


class NonFiniteError(KinoformError, ArithmeticError):
    """A tensor that must be finite holds NaN or infinity."""


class Interrupted(KinoformError):
    """The user, or a callback, ended the work early."""

    exit_code = 130


def nearest(value: str, known: Iterable[str]) -> str:
    """The end of an error sentence: the closest known name first, then all of them."""
    names = sorted(known)
    close = get_close_matches(value, names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"
