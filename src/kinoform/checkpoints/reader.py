"""Headers of weight files, each parsed once, before any data is read.

Works without PyTorch, but for pickles, whose headers only PyTorch can read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kinoform.checkpoints.gguf_header import read_gguf_header
from kinoform.checkpoints.headers import (
    FETCH,
    MAX_TENSORS,
    PICKLES,
    WEIGHT_SUFFIXES,
    Entry,
    Header,
    layer_formats,
    read_header,
    stamp_of,
)
from kinoform.errors import WeightsError
from kinoform.files import check_no_link


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFiles:
    """Headers of the files that hold one set of tensors; no file stays open.

    `path` is the place as it was named; `tensors` stand in the order of the files.
    """

    path: Path
    headers: tuple[Header, ...]
    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(header.path for header in self.headers)

    @property
    def shown(self) -> Path:
        """The path to name in errors: that of the only file, else the place as it was named."""
        return self.files[0] if len(self.files) == 1 else self.path


class HeaderReader:
    """Reader that parses the header of each file once, however often it is asked for.

    Made anew for each load and each inspection, and handed on: between two of them files may change.
    """

    def __init__(self) -> None:
        self._headers: dict[Path, Header] = {}

    def read(self, file: Path) -> Header:
        """Parse the header of one file. Raises WeightsError for a file that is missing, damaged or no weight file."""
        if file not in self._headers:
            self._headers[file] = _parsed(file)
        return self._headers[file]

    def open(self, path: Path, files: Iterable[Path]) -> OpenedFiles:
        """Open a set of files as one checkpoint. Raises WeightsError as `read`, and for a tensor held twice."""
        headers = tuple(map(self.read, files))
        tensors: dict[str, Entry] = {}
        metadata: dict[str, str] = {}
        homes: dict[str, Path] = {}
        for header in headers:
            metadata |= header.metadata
            if repeated := tensors.keys() & header.entries.keys():
                name = min(repeated)
                raise WeightsError(
                    f"tensor {name!r} is in {homes[name]} and again in {header.path}; remove one",
                    code="weights_ambiguous",
                )
            tensors |= header.entries
            homes |= dict.fromkeys(header.entries, header.path)
        if len(tensors) > MAX_TENSORS:
            raise WeightsError(
                f"{path} holds more than {MAX_TENSORS} tensors; it is not a model of this family",
                code="weights_too_many",
            )
        if not tensors:
            raise WeightsError(f"{path} holds no tensors; {FETCH}", code="weights_missing")
        return OpenedFiles(path=path, headers=headers, tensors=tensors, metadata=metadata)


def check_unchanged(header: Header) -> None:
    """Hold the header against the file, which is parsed again only where it was touched.

    Raises WeightsError when the file was removed, or describes other tensors than it did.
    """
    stamp = stamp_of(header.path)
    if stamp != header.stamp and _parsed(header.path) != replace(header, stamp=stamp):
        raise WeightsError(
            f"{header.path} changed after its header was read; load the model again", code="weights_changed_meanwhile"
        )


def _parsed(file: Path) -> Header:
    suffix = file.suffix.lower()
    if suffix not in WEIGHT_SUFFIXES:
        check_no_link(file)
        raise WeightsError(
            f"{file} is not a weight file; give one that ends in {', '.join(WEIGHT_SUFFIXES)}",
            code="weights_unsupported_storage",
        )
    if suffix == ".gguf":
        return read_gguf_header(file)
    if suffix in PICKLES:
        from kinoform.checkpoints.formats import read_pickle_header  # which imports PyTorch

        return read_pickle_header(file)
    header = read_header(file)
    return replace(header, metadata={**header.metadata, **layer_formats(header)})
