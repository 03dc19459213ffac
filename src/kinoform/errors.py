"""Errors, by what the reader has to change: each class has an exit code, each error a stable code for programs."""

from collections.abc import Iterable
from difflib import get_close_matches


class KinoformError(Exception):
    """A sentence that names the value at fault and what to change; the command line prints it alone.

    `code` names the fault for programs, in snake_case. It stays when the sentence is written anew, and one code
    belongs to one class only. docs/errors.md lists all of the package; an error raised without one has that of
    its class.
    """

    exit_code = 1
    code = "failed"

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[type["KinoformError"], tuple[str, ...], dict[str, object]]:
        return type(self), (str(self),), {"code": self.code}


class UsageError(KinoformError, ValueError):
    """Request that cannot be carried out as written."""

    exit_code = 2
    code = "usage"


class WeightsError(KinoformError, ValueError):
    """A weight file or folder that is missing, damaged, or of another model."""

    exit_code = 3
    code = "weights"


class FitError(KinoformError):
    """Request that does not fit this machine."""

    exit_code = 4
    code = "does_not_fit"


class NonFiniteError(KinoformError, ArithmeticError):
    """Tensor that must be finite and holds NaN or infinity."""

    code = "not_finite"


class Interrupted(KinoformError):
    """End of the work before it was done, by the user or by a callback."""

    exit_code = 130
    code = "interrupted"


def nearest(value: str, known: Iterable[str]) -> str:
    """The end of an error sentence: the closest known name first, then all of them."""
    names = sorted(known)
    close = get_close_matches(value, names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"
