"""Tags in the names of files that a run makes for itself, by which another run knows whether that one still lives."""

import hashlib
import os
import platform
import secrets

TAG = r"[0-9a-f]{8}-[0-9]{1,9}-[0-9a-f]{6}"
"""The machine, the process on it, and a random part that tells two files of one process apart."""


def new_tag() -> str:
    """A tag that no other file has."""
    return f"{_machine()}-{os.getpid()}-{secrets.token_hex(3)}"


def ended(tag: str) -> bool:
    """Return whether the process of a tag is known to be gone."""
    return _lives(tag) is False


def at_work(tag: str) -> bool:
    """Return whether the process of a tag is known to live, and is not this one."""
    return _lives(tag) is True and int(tag.split("-")[1]) != os.getpid()


def _lives(tag: str) -> bool | None:
    """Tell whether the process of a tag lives; None where nobody here can tell."""
    machine, process, _ = tag.split("-")
    if machine != _machine() or os.name == "nt":  # os.kill, which only asks elsewhere, ends a process of Windows
        return None
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return None
    return True


def _machine() -> str:
    """Name this machine and, in a container, its own numbering of processes."""
    try:
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbering = ""
    return hashlib.sha256(f"{platform.node()} {numbering}".encode(errors="surrogateescape")).hexdigest()[:8]
