"""How the words of the command line are read."""

from __future__ import annotations

import math
import os
import re
import sys

from kinoform.errors import UsageError, nearest
from kinoform.solvers.base import Solver
from kinoform.solvers.names import SOLVERS


def solver_named(name: str | None) -> Solver | None:
    """Raises UsageError for an unknown name."""
    if name is None:
        return None
    if name not in SOLVERS:
        raise UsageError(f"no solver {name!r}; {nearest(name, SOLVERS)}")
    return SOLVERS[name]


def recipe_named(address: str | None) -> str | None:
    """The address, for whose module the current folder is searched too, last of all places.

    Raises UsageError unless it is module:function.
    """
    if address is None:
        return None
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", address):
        raise UsageError(f"--recipe {address!r} is not an address; write module:function, for example my_idea:film")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return address


def size_of(text: str | None) -> tuple[int | None, int | None]:
    """(width, height) of "832x480" or, as the official command line has it, "832*480"."""
    if text is None:
        return None, None
    match = re.fullmatch(r"(\d{1,6})[x*×](\d{1,6})", text.strip().lower())
    if match is None:
        raise UsageError(f"--size {text!r} is not WIDTHxHEIGHT; write for example 832x480")
    return int(match[1]), int(match[2])


def frames_of(frames: int | None, seconds: float | None, fps: float, time_stride: int) -> int | None:
    """The number of frames: as said, or the legal number nearest to `seconds` at `fps`."""
    if frames is not None and seconds is not None:
        raise UsageError("--frames and --seconds say the same thing; give one of them")
    if seconds is None:
        return frames
    if not 0 < seconds <= 3600:
        raise UsageError(f"--seconds must be between 0 and 3600, not {seconds}")
    if not math.isfinite(fps):
        raise UsageError(f"fps must be a number from 0.1 to 240, not {fps}")
    return 1 + time_stride * max(0, round((seconds * fps - 1) / time_stride))
