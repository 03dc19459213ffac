"""Files and folders appear whole or not at all: written under a temporary name, then renamed into place."""

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from kinoform.errors import KinoformError, UsageError, WeightsError
from kinoform.owners import TAG, ended, new_tag

NAME_BYTES = 240
"""File systems allow 255; the rest is for what is put before and behind a name."""

STEM_BYTES, SUFFIX_BYTES = 160, 32
"""Bytes of a name that stand in that of its temporary file."""

ASIDE = "-old"
"""The end of the name of a folder that is about to be replaced."""

TEMPORARY = re.compile(rf"\.(?P<name>.+)\.kinoform-(?P<tag>{TAG})(?P<end>{ASIDE}|\.[^.]*)?", re.DOTALL)

IDLE_SECONDS = 7 * 24 * 3600.0
"""Seconds after which nobody writes any more, on whatever machine that was."""

FORBIDDEN = re.compile('[<>:"|?*\\\\\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]')
"""Characters that Windows refuses, control characters, and those that make a name read backwards."""

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows gives to devices, whatever their extension."""

LINK = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):(?P<rest>/.*|(?<=^data:)\w+/.*)", re.IGNORECASE | re.DOTALL)
"""An address with a scheme, which is longer than the letter of a drive; files may have colons without a slash."""

LONGEST_LINK = 200
"""Characters of a link that are shown; some hold a whole image."""

HUB_PAGE = re.compile(r"/+(www\.)?(huggingface\.co|hf\.co)/(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)", re.IGNORECASE)

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


def check_no_link(path: str | os.PathLike[str]) -> None:
    """Raise UsageError for a link in place of a path, before anything says that it does not exist.

    A file that is there may have any name. Paths have one slash where links had two.
    """
    name = os.fspath(path)
    found = LINK.match(name)
    if found is None or os.path.exists(name):
        return
    if found["scheme"].lower() == "file":
        place = re.sub("^/*(localhost)?/+", "" if os.name == "nt" else "/", unquote(found["rest"]))
        raise UsageError(f"{name} is a link; give the path alone: {place}", code="link_not_fetched")
    hub = HUB_PAGE.match(found["rest"])
    how = f": kinoform download {hub['id']}" if hub else " and give the path of the file"
    shown = name if len(name) <= LONGEST_LINK else f"{name[:LONGEST_LINK]}..."
    raise UsageError(f"{shown} is a link, and links are not fetched; download it first{how}", code="link_not_fetched")


def missing(
    path: str | os.PathLike[str], advice: str = "check the name", *, weights: bool = False
) -> UsageError | WeightsError:
    """Return the error that tells of a path where nothing is. Raises UsageError for a link, where nothing can be."""
    check_no_link(path)
    sentence = f"{os.fspath(path)} does not exist; {advice}"
    return WeightsError(sentence, code="weights_missing") if weights else UsageError(sentence, code="file_missing")


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
    """Yield a temporary path beside `path`, and rename it when the block succeeds.

    It has the suffix of `path`, unless that is very long. When the block fails or is interrupted the temporary file
    is removed and what stood at `path` before is untouched; what a killed run left is removed by the next one in the
    same folder. Raises UsageError as `check_writable` does, also when `path` appears during the block, and
    KinoformError when the disk is full.
    """
    check_writable(path, force=force)
    _sweep(path.parent)
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= SUFFIX_BYTES else ""
    temporary = path.with_name(_temporary_name(path.stem) + suffix)
    try:
        try:
            mode = _made_file(temporary)
            yield temporary
            _sync(temporary)
            _give(temporary, mode)
            _place_file(temporary, path, force=force)
        except OSError as error:
            raise _explained(error, path) from error
        finally:
            _remove(temporary)
    finally:  # a signal may have come just before the other one
        _remove(temporary)


@contextmanager
def whole_folder(path: Path, *, holds: str, force: bool = False, deep: bool = False) -> Iterator[Path]:
    """Yield as `whole` does, for a folder of files whose names match the pattern `holds`; `deep`: and of such folders.

    Raises UsageError as `check_folder_writable` does, and KinoformError when the disk is full.
    """
    check_folder_writable(path, holds=holds, force=force, deep=deep)
    path = path.resolve()
    _sweep(path.parent)
    temporary = path.with_name(_temporary_name(path.name))
    aside = temporary.with_name(temporary.name + ASIDE)
    try:
        try:
            mode = _made_folder(temporary)
            yield temporary
            for written in temporary.rglob("*"):
                _give(written, mode if written.is_dir() else mode & 0o666)
            if path.exists():
                os.rename(path, aside)
            os.rename(temporary, path)
        except OSError as error:
            raise _explained(error, path) from error
        finally:
            _clear(temporary, aside, path)
    finally:  # as in `whole`
        _clear(temporary, aside, path)


def _check_place(path: Path) -> None:
    folder = path.parent
    if path.name in ("", ".."):
        raise UsageError(f"{str(path)!r} has no name to write to; give one", code="output_name_missing")
    if len(os.fsencode(path.name)) > NAME_BYTES:
        raise UsageError(
            f"the name {path.name[:40]!r}... is too long for a file; give a shorter one", code="name_too_long"
        )
    if FORBIDDEN.search(path.name) or RESERVED.fullmatch(path.name) or path.name[-1] in " .":
        raise UsageError(
            f"the name {path.name!r} is not legal on every system; use letters, digits, - and _",
            code="name_not_portable",
        )
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist; create it or choose another", code="folder_missing")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"the folder {folder} cannot be written; choose another", code="folder_not_writable")


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
    except (OSError, AttributeError):  # file systems, or systems, without hard links
        check_writable(path, force=False)
        os.replace(temporary, path)


def _explained(error: OSError, path: Path) -> Exception:
    if error.errno not in NO_ROOM:
        return error
    return KinoformError(
        f"no room to write {path} ({error.strerror or error}); free some space or choose another disk",
        code="disk_full",
    )


def _temporary_name(stem: str) -> str:
    return f".{os.fsencode(stem)[:STEM_BYTES].decode(errors='ignore')}.kinoform-{new_tag()}"


def _made_file(path: Path) -> int:
    """Make an empty file, which must not be there, and return the mode that the user's mask gives to files."""
    path.open("xb").close()
    return stat.S_IMODE(path.stat().st_mode)


def _made_folder(path: Path) -> int:
    path.mkdir()
    return stat.S_IMODE(path.stat().st_mode)


def _give(path: Path, mode: int) -> None:
    """Let those read it whom the user lets: whatever wrote it may have kept them out."""
    if stat.S_IMODE(path.stat().st_mode) & 0o777 != mode & 0o777:
        os.chmod(path, mode)


def _sync(path: Path) -> None:
    _give(path, 0o600)
    with path.open("r+b") as written:  # not "rb", since Windows syncs only what may be written
        os.fsync(written.fileno())


def _clear(temporary: Path, aside: Path, path: Path) -> None:
    _remove(temporary)
    if aside.exists():  # what stood at `path`
        _remove(aside) if path.exists() else os.rename(aside, path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what runs left half made that were killed: such as are known to have ended, or have not stirred for days.

    What one of them put aside stays unless what should replace it is there.
    """
    with suppress(OSError):
        for entry in sorted(os.listdir(folder)):
            match = TEMPORARY.fullmatch(entry)
            if match is None or not (ended(match["tag"]) or _idle(folder / entry)):
                continue
            if match["end"] != ASIDE or (folder / match["name"]).exists():
                _remove(folder / entry)


def _idle(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > IDLE_SECONDS
