"""Verification of weight files: every tensor is read, every recorded hash compared.

Headers are checked whenever a file is opened; here is what takes minutes on 28 GB and finds the rest.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

from torch import Tensor

from kinoform.checkpoints.file_sets import INDEX, files_of, listed, shards_of
from kinoform.checkpoints.files import checkpoint_of
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.hashes import file_hash
from kinoform.checkpoints.headers import WEIGHT_SUFFIXES
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles
from kinoform.errors import KinoformError, WeightsError
from kinoform.families.folders import MANIFEST
from kinoform.families.identify import detect, fragment_of
from kinoform.families.names import listed as shown_names
from kinoform.loading.own import Manifest, check_recorded, read_manifest

HASH_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
HASH_BYTES = 4_000_000
AT_ONCE = 1 << 22

Tell = Callable[[int, int], None]
"""Called with the bytes that are done and those to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFault:
    """`tensor` is None where the whole file is meant; `text` ends the sentence that they begin.

    `code` is that with which loading refuses the file. Not `certain` is a matrix of zeros, which some models have and
    broken downloads too.
    """

    file: Path
    tensor: str | None
    text: str
    code: str
    certain: bool = True

    def __str__(self) -> str:
        return f"{self.file}: {self.text}" if self.tensor is None else f"{self.file}: {self.tensor} {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """`files` were read, `hashed` of them compared; `doubts` are the findings that are not certain."""

    files: int
    tensors: int
    bytes: int
    hashed: int
    faults: tuple[FileFault, ...]
    doubts: tuple[FileFault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A file, its tensors (None where they cannot be opened) and the hash that is on record for it."""

    file: Path
    tensors: Mapping[str, Stored]
    hash: str | None

    @property
    def bytes(self) -> int:
        read = sum(prod(stored.shape) * stored.dtype.itemsize for stored in self.tensors.values())
        return read + (self.file.stat().st_size if self.hash else 0)


def verify_path(path: Path, *, hashes: Path | None = None, tell: Tell = lambda done, total: None) -> Verified:
    """Read all weights of a file or a folder with its subfolders; at most one tensor is in memory.

    Hashes come from `hashes` (lines of sha256sum, names relative to the folder) and from the manifests of
    kinoform's folders. A fault ends the look at its file alone. Raises WeightsError when there is nothing
    to look at, or when the record of hashes is unusable.
    """
    files = _weight_files(path)
    manifests = path.rglob(MANIFEST) if path.is_dir() else ()
    folders = {manifest.parent: read_manifest(manifest.parent) for manifest in manifests}
    recorded = _recorded(path, hashes, folders)
    reader = HeaderReader()
    faults, doubts = list(_unlike(folders)), []
    lost = {fault.file for fault in faults}
    faults += _incomplete(path, files - lost, lost, reader)
    works: list[_Work] = []
    for file in sorted({*files, *recorded} - lost):
        try:
            tensors = checkpoint_of(reader.open(file, (file,))).tensors if file in files else {}
        except WeightsError as error:
            faults.append(_refused(file, error))
            continue
        if file.is_file():
            works.append(_Work(file=file, tensors=tensors, hash=recorded.get(file)))
        else:
            text = "is missing, though its hash is on record"
            faults.append(FileFault(file=file, tensor=None, text=text, code="weights_incomplete"))
    total, done = sum(work.bytes for work in works), 0
    for work in works:
        for advance, finding in _look(work):
            done += advance
            tell(done, total)
            if finding is not None:
                (faults if finding.certain else doubts).append(finding)
    return Verified(
        files=len(files),
        tensors=sum(len(work.tensors) for work in works),
        bytes=sum(file.stat().st_size for file in files),
        hashed=sum(work.hash is not None for work in works),
        faults=tuple(faults),
        doubts=tuple(doubts),
    )


def _weight_files(path: Path) -> set[Path]:
    if path.is_file():
        return {path}
    found = {file for file in path.rglob("*") if file.suffix.lower() in WEIGHT_SUFFIXES and file.is_file()}
    if not found:
        raise WeightsError(
            f"{path} holds no weights; give a file or folder of {', '.join(WEIGHT_SUFFIXES)}", code="weights_missing"
        )
    return found


def _recorded(path: Path, hashes: Path | None, folders: Mapping[Path, Manifest]) -> dict[Path, str]:
    """The hash on record, by file; `hashes` stands over the manifests."""
    found = {
        _inside(folder, name, folder / MANIFEST): str(part.sha256)
        for folder, manifest in folders.items()
        for name, part in manifest.parts.items()
    }
    if hashes is None:
        return found
    if not hashes.is_file() or hashes.stat().st_size > HASH_BYTES:
        raise WeightsError(
            f"{hashes} is no list of hashes; give a file as sha256sum writes it", code="hashes_unreadable"
        )
    for line in hashes.read_text(encoding="utf-8", errors="replace").split("\n"):
        match = HASH_LINE.fullmatch(line)
        if line and match is None:
            raise WeightsError(f"{hashes}: {line[:80]!r} is no line of sha256sum; remove it", code="hashes_unreadable")
        if match is None or (path.is_file() and Path(match[2]).name != path.name):
            continue
        found[path if path.is_file() else _inside(path, match[2], hashes)] = match[1].lower()
    return found


def _inside(folder: Path, name: str, source: Path) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise WeightsError(
            f"{source} names {name[:80]!r}, which lies outside of {folder}; remove it", code="hashes_unreadable"
        )
    return folder / name


def _unlike(folders: Mapping[Path, Manifest]) -> Iterator[FileFault]:
    """Files of kinoform's own folders that are missing, or not as long as their manifests say."""
    for folder, manifest in folders.items():
        for name, record in manifest.parts.items():
            try:
                check_recorded(folder, name, record)
            except WeightsError as error:
                yield _refused(folder / name, error)


def _incomplete(path: Path, files: Set[Path], lost: Set[Path], reader: HeaderReader) -> Iterator[FileFault]:
    """Files of a set that an index or the numbers of others promise, and tensors that the part of a set needs.

    Files that are `lost` are told of already, and nothing more is told of their sets.
    """
    indices = sorted(path.rglob(f"*{INDEX}")) if path.is_dir() else []
    sets: list[tuple[Path, ...]] = []
    indexed: set[Path] = set()
    for index in indices:
        try:
            indexed |= set(listed(index).files)
            sets.append(files_of(index.with_name(index.name.removesuffix(INDEX)), reader))
        except WeightsError as error:
            yield _refused(index, error)
    for group in (*sets, *sorted({shards_of(file) for file in files - indexed})):
        missing = [file for file in group if not file.is_file() and file not in lost]
        for file in missing:
            text = "is missing, though other files of its set are there"
            yield FileFault(file=file, tensor=None, text=text, code="weights_incomplete")
        if not missing and lost.isdisjoint(group):
            with suppress(KinoformError):  # of files that cannot be opened, or are no part of a Wan model
                yield from _lacking(reader.open(group[0], group))


def _lacking(opened: OpenedFiles) -> Iterator[FileFault]:
    """Tensors that a known part needs and its files lack. Only its recipe tells that of a part by own names."""
    path = opened.files[0]
    if (family := fragment_of(opened.tensors)) is not None:
        text = f"holds {len(opened.tensors)} of the tensors of a {family.part.replace('_', ' ')}, and lacks the others"
        yield FileFault(file=path, tensor=None, text=text, code="weights_incomplete")
        return
    for part in detect(opened.tensors, path=path, metadata=opened.metadata):
        missing = part.identity.missing
        if missing and part.dialect is not None and not part.dialect.own:
            assert part.family is not None, "what no family describes has nothing to lack"
            text = f"lacks {len(missing)} tensors of {part.family.description} ({shown_names(missing)})"
            yield FileFault(file=path, tensor=None, text=text, code="weights_incomplete")


def _look(work: _Work) -> Iterator[tuple[int, FileFault | None]]:
    """(bytes done, what was found) for the hash, which tells more, and for each tensor."""
    if work.hash is not None:
        text = "has another SHA-256 than the one on record"
        fault = FileFault(file=work.file, tensor=None, text=text, code="weights_damaged")
        yield work.file.stat().st_size, None if file_hash(work.file) == work.hash else fault
    alive = not work.tensors
    for name, stored in work.tensors.items():
        size = prod(stored.shape) * stored.dtype.itemsize
        try:
            values = stored.read()
        except WeightsError as error:
            yield size, _refused(work.file, error, tensor=name)
            return
        finite, some = _is_finite(values), bool(values.any())
        matrix = values.dim() > 1  # vectors, such as biases, may well be zero
        del values
        alive |= some
        if not finite:
            yield size, FileFault(file=work.file, tensor=name, text="holds NaN or infinity", code="weights_not_finite")
        elif matrix and not some:
            yield (
                size,
                FileFault(file=work.file, tensor=name, text="is all zeros", code="weights_damaged", certain=False),
            )
        else:
            yield size, None
    if not alive:
        text = "holds nothing but zeros: its download broke off"
        yield 0, FileFault(file=work.file, tensor=None, text=text, code="weights_damaged")


def _is_finite(values: Tensor) -> bool:
    parts = values.flatten().split(AT_ONCE) if values.is_floating_point() else ()
    return all(bool(part.float().isfinite().all()) for part in parts)


def _refused(file: Path, error: WeightsError, *, tensor: str | None = None) -> FileFault:
    text = str(error).removeprefix(f"{file}: ").removeprefix(f"{file} ")
    return FileFault(file=file, tensor=tensor, text=text, code=error.code)
