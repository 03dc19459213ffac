"""Files appear whole or not at all: written under a temporary name beside their place, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kinoform.errors import UsageError


def check_writable(path: Path, *, force: bool) -> None:
    """Refuse early what `whole` would refuse late.

    Raises UsageError when `path` exists and `force` is False, when its folder is missing or cannot be
    written, or when its name is longer than file systems allow.
    """
    folder = path.parent
    if len(path.name.encode()) > 240:
        raise UsageError(f"the name {path.name[:40]!r}... is too long for a file; give a shorter one with -o")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; choose another name or pass --force to replace it")
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist; create it or choose another with -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"the folder {folder} cannot be written; choose another with -o")


@contextmanager
def whole(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same suffix; rename it into place when the block succeeds.

    When the block fails or is interrupted the temporary file is removed and what stood at `path` before
    is untouched.
    """
    check_writable(path, force=force)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:80]}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
