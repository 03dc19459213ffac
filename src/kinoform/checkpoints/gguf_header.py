"""Headers of GGUF files, read without the tensors and without trusting them.

Layout: magic, version, counts, metadata pairs, tensor descriptions, then aligned data; all little-endian.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from kinoform.checkpoints.headers import FETCH, HEADER_BYTES, Entry, Header, check_file, stamp_of
from kinoform.errors import WeightsError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_TENSORS, MAX_PAIRS = 10_000, 10_000
MAX_STRINGS = 600_000
"""Members of all arrays of strings together: twice the vocabulary of umT5."""

MAX_NAME = 1024
MAX_VALUE = 1024
"""Longer strings (chat templates) are passed over."""

MAX_DIMS = 8
BUFFER = 1 << 18
ALIGNMENT = 32

STORAGE = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 28: ("F64", 1, 8),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136),
}  # fmt: skip
"""Kinds by their number in the file: name, values of a block, bytes of a block. Further kinds are refused."""

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
INTEGERS = {0, 1, 2, 3, 4, 5, 10, 11}
LENGTH = struct.Struct("<Q")

ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
"""Metadata before a tensor's name: its true shape, where GGUF's four dimensions are too few."""


def read_gguf_header(path: Path) -> Header:
    """Parse the header: shapes in PyTorch's order, the storage as `dtype`, the single values (no arrays) as `metadata`.

    Raises WeightsError when the file is no GGUF file, is cut short, when a count, length or place in it
    cannot be true, or when a tensor is stored in a way that kinoform cannot read.
    """
    # The gguf package's reader makes an array object of every word of a vocabulary: 10 s and 700 MB for a
    # sound text encoder, and without limit for a file that lies about a count.
    check_file(path)
    try:
        with path.open("rb", buffering=BUFFER) as file:
            return _Walk(path, file).header()
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror}); check its permissions", code="weights_unreadable"
        ) from error
    except UnicodeDecodeError as error:
        raise WeightsError(
            f"{path} has a damaged header: a name in it is not text; {FETCH}", code="weights_damaged"
        ) from error


class _Walk:
    """A pass over the header; every length is held against the file before it is used."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.stamp = stamp_of(path)
        self.size = os.fstat(file.fileno()).st_size
        self.position = self.strings = 0

    def header(self) -> Header:
        if self.size < len(MAGIC) or self.exactly(len(MAGIC)) != MAGIC:
            raise WeightsError(f"{self.path} is not a GGUF file; {FETCH}", code="weights_damaged")
        version, tensors, pairs = self.numbers("IQQ")
        if version not in VERSIONS:
            raise WeightsError(
                f"{self.path} is GGUF of version {version}, not 2 or 3; convert it with a later tool",
                code="weights_unsupported_storage",
            )
        if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
            raise self.damaged(f"{tensors} tensors and {pairs} values are announced")
        metadata, shapes = self.pairs(pairs)
        alignment = metadata.get("general.alignment", str(ALIGNMENT))
        if not alignment.isdecimal() or not 1 <= int(alignment) <= 1 << 20:
            raise self.damaged(f"its alignment is {alignment[:20]!r}")
        entries = self.tensors(tensors)
        start = -(-self.position // int(alignment)) * int(alignment)
        self.check_places(entries, start)
        entries = self.reshaped(entries, shapes)
        return Header(path=self.path, entries=entries, metadata=metadata, data_start=start, stamp=self.stamp)

    def pairs(self, count: int) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
        """Read the single values as text, and the original shapes by the tensor's name."""
        metadata: dict[str, str] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for _ in range(count):
            key = self.name()
            if key in metadata:
                raise self.damaged(f"it gives {key!r} twice")
            (kind,) = self.numbers("I")
            if kind == ARRAY:
                shape = self.array(key.startswith(ORIGINAL_SHAPE))
                if shape is not None:
                    shapes[key.removeprefix(ORIGINAL_SHAPE)] = shape
            elif (value := self.value(kind)) is not None:
                metadata[key] = value
        return metadata, shapes

    def value(self, kind: int) -> str | None:
        if kind == STRING:
            return self.text(MAX_VALUE)
        if kind not in SCALARS:
            raise self.damaged(f"a value is of the unknown kind {kind}")
        return str(self.numbers(SCALARS[kind])[0])

    def array(self, wanted: bool) -> tuple[int, ...] | None:
        """Read the numbers of an array that is wanted; any other is passed over."""
        kind, count = self.numbers("IQ")
        if kind == STRING:
            self.strings += count
            if self.strings > MAX_STRINGS:
                raise self.damaged(f"it announces {self.strings} strings")
            self.skip_strings(count)
            return None
        if kind not in SCALARS:
            raise self.damaged(f"an array is of the unknown kind {kind}")
        if wanted and kind in INTEGERS and count <= MAX_DIMS:
            return self.numbers(f"{count}{SCALARS[kind]}")
        self.skip(count * struct.calcsize(f"<{SCALARS[kind]}"))
        return None

    def tensors(self, count: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for _ in range(count):
            name = self.name()
            if name in entries:
                raise self.damaged(f"it describes {name!r} twice")
            (dims,) = self.numbers("I")
            if dims > MAX_DIMS:
                raise self.damaged(f"tensor {name!r} has {dims} dimensions")
            *shape, kind, begin = self.numbers(f"{dims}QIQ")
            if kind not in STORAGE:
                raise WeightsError(
                    f"{self.path}: {name!r} is stored as GGUF type {kind}, which kinoform cannot read; "
                    "get a file of Q8_0 or of a K-quant such as Q4_K_M",
                    code="weights_unsupported_storage",
                )
            dtype, block, width = STORAGE[kind]
            if prod(shape) == 0:
                raise self.damaged(f"{name!r} of shape {shape[::-1]} holds nothing")
            if prod(shape[:1]) % block:
                raise self.damaged(f"{name!r} has rows of {shape[:1]}, which is no multiple of {block}")
            length = prod(shape) // block * width
            entries[name] = Entry(shape=tuple(reversed(shape)), dtype=dtype, begin=begin, end=begin + length)
        return entries

    def check_places(self, entries: Mapping[str, Entry], start: int) -> None:
        """Check that the tensors lie behind each other in the file, with or without gaps."""
        position = 0
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
            if entry.begin < position:
                raise self.damaged(f"tensor {name!r} overlaps the one before it")
            if start + entry.end > self.size:
                raise WeightsError(
                    f"{self.path} is cut short: {self.size} bytes, but {name!r} ends at {start + entry.end}; {FETCH}",
                    code="weights_damaged",
                )
            position = entry.end

    def reshaped(self, entries: Mapping[str, Entry], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Entry]:
        found = dict(entries)
        for name, shape in shapes.items():
            if name not in found:
                raise self.damaged(f"it gives a shape to {name!r}, which it does not hold")
            if any(length < 0 for length in shape) or prod(shape) != prod(found[name].shape):
                raise self.damaged(f"{name!r} of shape {list(found[name].shape)} cannot have been {list(shape)}")
            found[name] = replace(found[name], shape=shape)
        return found

    def name(self) -> str:
        text = self.text(MAX_NAME)
        if text is None:
            raise self.damaged(f"a name in it is longer than {MAX_NAME} bytes")
        return text

    def text(self, limit: int) -> str | None:
        """Read a string of up to `limit` bytes; a longer one is passed over."""
        (length,) = self.numbers("Q")
        if length <= limit:
            return self.exactly(length).decode()
        self.skip(length)
        return None

    def numbers(self, code: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{code}", self.exactly(struct.calcsize(f"<{code}")))

    def exactly(self, length: int) -> bytes:
        self.advance(length)
        return self.file.read(length)

    def skip(self, length: int) -> None:
        self.advance(length)
        self.file.seek(self.position)

    def skip_strings(self, count: int) -> None:
        # No method is called for a word of a vocabulary: there are 256,000 of them.
        position, last = self.position, min(self.size, HEADER_BYTES)
        for _ in range(count):
            start = self.file.read(LENGTH.size)
            length = LENGTH.unpack(start)[0] if len(start) == LENGTH.size else self.size
            position += LENGTH.size + length
            if position > last:
                break
            self.file.seek(position)
        self.advance(position - self.position)

    def advance(self, length: int) -> None:
        self.position += length
        if self.position > self.size:
            raise WeightsError(f"{self.path} is cut short in its header; {FETCH}", code="weights_damaged")
        if self.position > HEADER_BYTES:
            raise self.damaged(f"it is longer than {HEADER_BYTES} bytes")

    def damaged(self, what: str) -> WeightsError:
        return WeightsError(f"{self.path} has a damaged header: {what}; {FETCH}", code="weights_damaged")
