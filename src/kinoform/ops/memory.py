"""Memory that is free goes back to the system, so that the next part of a model does not come on top of it."""

import ctypes
from collections.abc import Callable
from functools import cache


def release_memory() -> None:
    """Ask the C library to give back what was freed; one that cannot is left alone.

    glibc keeps what is below 32 MiB a piece and lies under anything still in use: up to a whole text encoder.
    https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc alone has it."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows, which names no program by None
        return None
