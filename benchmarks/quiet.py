"""Is the machine free? Figures taken beside other work are figures of that work too."""

from __future__ import annotations

import os
import time
from pathlib import Path

TRAINING = ("kinoform", "train")
SHARE = 0.25
"""Share of one core from which on another process disturbs."""


def disturbing(seconds: float = 1.0) -> list[str]:
    """Return a sentence for each process but this one, its parents and children that is busy, or trains; Linux only."""
    before, own = _cpu_seconds(), _family(os.getpid())
    time.sleep(seconds)
    found = []
    for process, used in _cpu_seconds().items():
        words = _words(process)
        share = (used - before.get(process, used)) / seconds
        if process in own or not words:
            continue
        if set(TRAINING) <= {Path(word).name for word in words}:
            found.append(f"process {process} is a training")
        elif share > SHARE:
            found.append(f"process {process} ({Path(words[0]).name}) takes {share:.0%} of a core")
    return found


def _cpu_seconds() -> dict[int, float]:
    ticks = os.sysconf("SC_CLK_TCK")
    return {int(f[0]): (int(f[13]) + int(f[14])) / ticks for f in _stats()}


def _family(process: int) -> set[int]:
    """Return the process and those that started it."""
    parents = {int(fields[0]): int(fields[3]) for fields in _stats()}
    found = {process}
    while (process := parents.get(process, 0)) > 1:
        found.add(process)
    return found


def _stats() -> list[list[str]]:
    """Read the fields of /proc/PID/stat; the name, in brackets, may hold blanks and is left as one field."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            start, _, rest = path.read_text().rpartition(")")
        except OSError:  # it has ended
            continue
        found.append([*start.split(" (", 1), *rest.split()])
    return found


def _words(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []
