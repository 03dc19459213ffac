"""Files and folders appear whole or not at all: written under a temporary name, then renamed into place."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kinoform.errors import KinoformError, UsageError

NAME_BYTES = 240
"""File systems allow 255; the rest is for the random part of temporary names."""

FORBIDDEN = re.compile('[<>:"|?*\\\\\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]')
"""Characters that Windows refuses, control characters, and those that make a name read backwards."""

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows gives to devices, whatever their extension."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_writable(path: Path, *, force: bool) -> None:
    """Refuse early what `whole` would refuse late.

    Raises UsageError when `path` exists and `force` is False, when it is a folder, when its folder is missing
    or cannot be written, or when its name is not legal on every system.
    """
    _check_place(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file", code="not_a_file")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; choose another name or pass --force to replace it", code="file_exists")


def check_folder_writable(path: Path, *, holds: str, force: bool, deep: bool = False) -> None:
    """Refuse early what `whole_folder` would refuse late.

    An empty folder may always be filled. With `force` a full one may be replaced, but only if it holds
    nothing but files that match the pattern `holds` (`deep`: in folders of its own too): the user's other
    files would be lost. Raises UsageError.
    """
    _check_place(path)
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{path} is a file; choose another name for the folder", code="not_a_folder")
    entries = (entry for entry in path.rglob("*") if not entry.is_dir()) if deep else path.iterdir()
    foreign = [entry for entry in entries if not (entry.match(holds) and entry.is_file())]
    if foreign:
        raise UsageError(
            f"{path} holds other things, such as {foreign[0].name!r}; choose another folder", code="folder_holds_others"
        )
    if any(path.iterdir()) and not force:
        raise UsageError(f"{path} exists; choose another name or pass --force to replace it", code="file_exists")


@contextmanager
def whole(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same suffix; rename it when the block succeeds.

    When the block fails or is interrupted the temporary file is removed and what stood at `path` before
    is untouched. Raises UsageError as `check_writable` does, also when `path` appears during the block, and
    KinoformError when the disk is full.
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
        _place_file(temporary, path, force=force)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, holds: str, force: bool = False, deep: bool = False) -> Iterator[Path]:
    """Like `whole`, for a folder of files whose names match the pattern `holds`; `deep`: and of such folders.

    Raises UsageError as `check_folder_writable` does, and KinoformError when the disk is full.
    """
    check_folder_writable(path, holds=holds, force=force, deep=deep)
    path = path.resolve()
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:80]}-", dir=path.parent))
    try:
        yield temporary
        for written in temporary.rglob("*"):  # whatever wrote them may have kept others out
            os.chmod(written, (0o777 if written.is_dir() else 0o666) & ~_umask())
        os.chmod(temporary, 0o777 & ~_umask())
        _place_folder(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_place(path: Path) -> None:
    folder = path.parent
    if path.name in ("", ".."):
        raise UsageError(f"{str(path)!r} has no name to write to; give one with -o", code="output_name_missing")
    if len(os.fsencode(path.name)) > NAME_BYTES:
        raise UsageError(
            f"the name {path.name[:40]!r}... is too long for a file; give a shorter one with -o", code="name_too_long"
        )
    if FORBIDDEN.search(path.name) or RESERVED.fullmatch(path.name) or path.name[-1] in " .":
        raise UsageError(
            f"the name {path.name!r} is not legal on every system; use letters, digits, - and _",
            code="name_not_portable",
        )
    if not folder.is_dir():
        raise UsageError(
            f"the folder {folder} does not exist; create it or choose another with -o", code="folder_missing"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"the folder {folder} cannot be written; choose another with -o", code="folder_not_writable")


def _place_file(temporary: Path, path: Path, *, force: bool) -> None:
    if force:
        os.replace(temporary, path)
        return
    try:
        # A hard link fails if another writer was first; a rename would silently replace that file.
        os.link(temporary, path)
    except FileExistsError:
        raise UsageError(
            f"{path} was written by another process meanwhile; choose another name", code="written_meanwhile"
        ) from None
    except OSError:  # file systems without hard links
        check_writable(path, force=False)
        os.replace(temporary, path)


def _place_folder(temporary: Path, path: Path) -> None:
    aside = temporary.with_name(temporary.name + "-old")
    if path.exists():
        os.rename(path, aside)
    try:
        os.rename(temporary, path)
    except BaseException:
        if aside.exists():
            os.rename(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _explained(error: OSError, path: Path) -> Exception:
    if error.errno not in NO_ROOM:
        return error
    return KinoformError(
        f"no room to write {path} ({error.strerror or error}); free some space or choose another disk with -o",
        code="disk_full",
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
