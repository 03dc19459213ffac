"""Weights fetched by hub id: listed first, only what is needed, resumed where they broke off, compared by hash.

All talking is done by the optional package huggingface_hub, which honours HF_ENDPOINT and its own login.
"""

import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from kinoform.checkpoints.hashes import CHUNK, file_hash
from kinoform.errors import KinoformError, UsageError, WeightsError

ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
REVISION = re.compile(r"[\w./-]{1,100}")
COMMIT = re.compile(r"[0-9a-f]{40}")
INSTALL = "fetching weights needs the package huggingface_hub: pip install 'kinoform[hub]'"

HASH_DIGITS = 16

DATA = (".safetensors", ".sft", ".json", ".model", ".gguf", ".pth", ".pt", ".bin", ".ckpt")
"""Files that may be fetched at all: data, which is never run."""

SETTINGS = ".json"

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are here and all of them."""

Choose = Callable[[str, Iterable[str]], set[str]]
"""The files that are needed of a repository, from its id and the names of all its files; raises for unfit ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file on the hub; `sha256` is known of large files, `blob` (the SHA-1 of git) of all others."""

    name: str
    bytes: int
    sha256: str | None
    blob: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of one commit that are needed; `whole` if they are to make a model together."""

    id: str
    commit: str
    files: tuple[RemoteFile, ...]
    whole: bool

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def is_hub_id(name: str) -> bool:
    """Return whether a name may be ORG/NAME, and is no path to something that exists."""
    return ID.fullmatch(name) is not None and ".." not in name and not os.path.exists(name)


def folder_name(id: str) -> str:
    """Name the folder of a hub id where many lie side by side."""
    return id.replace("/", "--")


def listing(id: str, *, choose: Choose, revision: str | None = None, only: Iterable[str] = ()) -> Listing:
    """List what must be fetched of a model, and fetch nothing.

    `only` names files, for repositories that are no model's folder, such as those of ComfyUI's files; without it
    `choose` finds those that make a model. Raises UsageError for ids, revisions and files that are not there,
    KinoformError where the hub cannot be asked.
    """
    if not is_hub_id(id):
        raise UsageError(f"{id!r} is no hub id; write ORG/NAME", code="unknown_model")
    if revision is not None and (not REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"{revision[:60]!r} is no revision; give a branch, a tag or a commit", code="bad_value")
    hub = _package()
    found = _asked(
        hub, id, lambda: hub.HfApi(endpoint=_endpoint()).model_info(id, revision=revision, files_metadata=True)
    )
    if not COMMIT.fullmatch(str(found.sha)):
        raise KinoformError(f"the hub names no commit of {id}; try again later", code="network_unreachable")
    known = {file.name: file for file in map(_remote, found.siblings or ())}
    wanted = _named(id, only, known) if (only := tuple(only)) else choose(id, known)
    files = tuple(known[name] for name in sorted(wanted))
    return Listing(id=id, commit=found.sha, files=files, whole=not only)


def fetch(listed: Listing, folder: Path, on_progress: OnBytes, *, check: Callable[[Path], None]) -> list[Path]:
    """Bring the files into the folder; those that are there whole are not fetched again.

    Settings come first, and `check` looks at the folder of a whole model that has nothing but them before the first
    weight is fetched. Raises KinoformError when the disk is too small or the hub breaks off (the next call goes on
    from there), WeightsError when a file is not the one that was listed, which is then removed.
    """
    hub = _package()
    places = [folder / file.name for file in listed.files]
    whole = [place.is_file() and _is(place, file) for place, file in zip(places, listed.files, strict=True)]
    missing = sum(file.bytes for file, there in zip(listed.files, whole, strict=True) if not there)
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < missing:
        raise KinoformError(
            f"{listed.id} needs {missing / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free",
            code="disk_full",
        )
    here = listed.bytes - missing
    on_progress(here, listed.bytes)
    for file, place, there in sorted(zip(listed.files, places, whole, strict=True), key=_settings_first):
        if listed.whole and not file.name.endswith(SETTINGS):
            check(folder)
        if not there:
            _fetch(hub, listed, file, place, lambda done, here=here: on_progress(here + done, listed.bytes))
            here += file.bytes
    return places


def _settings_first(row: tuple[RemoteFile, Path, bool]) -> bool:
    return not row[0].name.endswith(SETTINGS)


def _fetch(hub: ModuleType, listed: Listing, file: RemoteFile, place: Path, on_length: Callable[[int], None]) -> None:
    """Fetch one file, under a name made of its hash until it is whole, so that only its own rest is added to it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{(file.sha256 or file.blob or '')[:HASH_DIGITS]}.part")
    had = part.stat().st_size if part.is_file() else 0
    if had > file.bytes:
        part.unlink()
        had = 0
    url = hub.hf_hub_url(listed.id, file.name, revision=listed.commit, endpoint=_endpoint())
    headers = hub.utils.build_hf_headers()
    with _CountingFile(part, on_length) as opened, _without_bars(hub):
        # Not hf_hub_download, which begins anew after a break.
        get = hub.file_download.http_get
        _asked(hub, listed.id, lambda: get(url, opened, resume_size=had, headers=headers, expected_size=file.bytes))
    if not _is(part, file):
        part.unlink()
        raise WeightsError(
            f"{place} is not the file that was listed: size or hash differ; fetch it again", code="download_damaged"
        )
    part.replace(place)


class _CountingFile(io.FileIO):
    """A file that is added to, and says how long it is."""

    def __init__(self, path: Path, on_length: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self.on_length = on_length

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        self.on_length(self.tell())
        return written


@contextmanager
def _without_bars(hub: ModuleType) -> Iterator[None]:
    """Keep the package from drawing bars of its own."""
    group = "huggingface_hub.http_get"
    drawn = not hub.utils.are_progress_bars_disabled(group)
    if drawn:
        hub.utils.disable_progress_bars(group)
    try:
        yield
    finally:
        if drawn:
            hub.utils.enable_progress_bars(group)


def _named(id: str, only: Iterable[str], known: Iterable[str]) -> set[str]:
    names = set(known)
    for name in only:
        if name not in names:
            raise UsageError(f"{id} has no file {name[:120]!r}; check the name on its page", code="unknown_name")
        if not name.lower().endswith(DATA):
            raise UsageError(
                f"{name[:120]!r} is no file of weights ({', '.join(DATA)}); leave it out", code="bad_value"
            )
    return set(only)


def _remote(found: Any) -> RemoteFile:
    """Check a listed file. Raises WeightsError for a name that leads out of the folder, and without size or hash."""
    name, size = found.rfilename, found.size
    place = PurePosixPath(name)
    inside = name and not place.is_absolute() and str(place) == name and not {"..", ".cache"} & set(place.parts)
    if not inside or "\\" in name or ":" in name or not name.isprintable():
        raise WeightsError(
            f"the hub lists a file {name[:80]!r}, which no folder can hold; nothing was fetched",
            code="download_damaged",
        )
    sha256 = None if found.lfs is None else found.lfs.sha256
    if type(size) is not int or size < 0 or not (sha256 or found.blob_id):
        raise WeightsError(
            f"the hub tells no size or hash of {name[:80]!r}; nothing was fetched", code="download_damaged"
        )
    return RemoteFile(name=name, bytes=size, sha256=sha256, blob=found.blob_id)


def _is(place: Path, file: RemoteFile) -> bool:
    if place.stat().st_size != file.bytes:
        return False
    return file_hash(place) == file.sha256 if file.sha256 else _blob(place) == file.blob


def _blob(place: Path) -> str:
    """Compute the name that git gives to a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % place.stat().st_size, usedforsecurity=False)
    with place.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _asked(hub: ModuleType, id: str, ask: Callable[[], Any]) -> Any:
    """Ask the hub; raises one sentence about why there is no answer."""
    errors = hub.errors
    try:
        return ask()
    except errors.GatedRepoError as error:
        raise KinoformError(
            f"{id} is given only to those who agreed to its terms: do so on its page, then: hf auth login",
            code="download_forbidden",
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise _unreachable(id, error) from error
        raise UsageError(
            f"the hub has no {id}, or not to you: check the name, or log in with: hf auth login",
            code="unknown_model",
        ) from error
    except Exception as error:  # whatever the network and the libraries below raise
        raise _unreachable(id, error) from error


def _unreachable(id: str, error: Exception) -> KinoformError:
    reason = " ".join(str(error.__cause__ or error).split())[:160]
    return KinoformError(
        f"{id} cannot be fetched ({type(error).__name__}: {reason}); check the connection and HF_HUB_OFFLINE, and "
        "try again: it goes on where it broke off",
        code="network_unreachable",
    )


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _package() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.file_download
        import huggingface_hub.utils
    except ImportError as error:
        raise UsageError(INSTALL, code="package_missing") from error
    return huggingface_hub
