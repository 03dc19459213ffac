"""Headers of safetensors files: names, shapes and places of tensors, read without PyTorch and without the data.

Nothing that the file says is trusted before it is held against the file's size.
https://github.com/huggingface/safetensors
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, cast

from kinoform.checkpoints.storage import LAYER_FORMAT, WIDTHS
from kinoform.errors import WeightsError
from kinoform.files import missing

MAX_TENSORS = 100_000
HEADER_BYTES = 32_000_000
"""More than any header or pickle of MAX_TENSORS real names; checked before it is read."""

MARKS = {b"{": 1, b"[": 2, b":": 4, b",": 9}
"""Signs and how often each stands in the entry of a tensor; behind each stands a value, which takes memory."""

MAX_NAME = 1024
MAX_DIMS = 32
MAX_NUMBER = 1 << 63

FORMAT_BYTES = 4096
"""The most that a tensor of text on a layer may have."""

FETCH = "fetch it again"
SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".pth", ".pt", ".bin", ".ckpt")
WEIGHT_SUFFIXES = (*SAFETENSORS, ".gguf", *PICKLES)

UNREAD = {"F4", "F6_E2M3", "F6_E3M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"}
"""Further kinds of safetensors."""


Stamp = tuple[int, int, int]
"""Inode, size in bytes and time of the last change in ns of a file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: its numbers are the bytes [begin, end) after the header."""

    shape: tuple[int, ...]
    dtype: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Header of one file: `entries` in the order of the file, whose places count from byte `data_start`.

    `stamp` tells whether the file is still the one whose header this is (see `stamp_of`).
    """

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data_start: int
    stamp: Stamp


def check_file(path: Path) -> None:
    """Check that a file is there. Raises WeightsError when it is missing, empty, a web page, or a git-LFS pointer."""
    if not path.is_file():
        raise missing(path, f"check the name, or {FETCH}", weights=True)
    try:
        with path.open("rb") as file:
            start = file.read(256).lstrip().lower()
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror}); check its permissions", code="weights_unreadable"
        ) from error
    if not start:
        raise WeightsError(f"{path} is empty; {FETCH}", code="weights_damaged")
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise WeightsError(
            f"{path} is a web page, not weights: log in where it comes from and {FETCH}", code="weights_not_downloaded"
        )
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path} is a git-LFS pointer, not the file itself; run: git lfs pull", code="weights_not_downloaded"
        )


def check_size(path: Path, expected: int) -> None:
    """Hold the size of a file against the bytes that it is to have. Raises WeightsError naming both."""
    size = path.stat().st_size
    if size != expected:
        wrong = "cut short" if size < expected else "too long"
        raise WeightsError(f"{path} is {wrong}: {size} bytes instead of {expected}; {FETCH}", code="weights_damaged")


def stamp_of(path: Path) -> Stamp:
    """Read what tells one state of a file from another. Raises WeightsError when the file cannot be reached."""
    try:
        told = os.stat(path)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read any more ({error.strerror}); {FETCH}", code="weights_unreadable"
        ) from error
    return told.st_ino, told.st_size, told.st_mtime_ns


def read_header(path: Path) -> Header:
    """Parse the header of a safetensors file.

    Raises WeightsError when it is damaged or does not describe the whole file.
    """
    check_file(path)
    stamp = stamp_of(path)
    length, found = _read(path)
    metadata = _metadata(path, found.pop("__metadata__", None))
    if len(found) > MAX_TENSORS:
        raise WeightsError(
            f"{path} holds more than {MAX_TENSORS} tensors; it is not a model of this family", code="weights_too_many"
        )
    entries = {name: _entry(path, name, value) for name, value in found.items()}
    _check_cover(path, 8 + length, sorted((entry.begin, entry.end) for entry in entries.values()))
    return Header(path=path, entries=entries, metadata=metadata, data_start=8 + length, stamp=stamp)


def layer_formats(header: Header) -> dict[str, str]:
    """Read ComfyUI's texts on how each layer is stored, each in a short tensor beside it; by the tensor's name.

    Raises WeightsError when the file cannot be read any more.
    """
    short = {
        name: entry
        for name, entry in header.entries.items()
        if name.endswith(LAYER_FORMAT) and entry.dtype == "U8" and entry.end - entry.begin <= FORMAT_BYTES
    }
    if not short:
        return {}
    found = {}
    try:
        with header.path.open("rb") as file:
            for name, entry in short.items():
                file.seek(header.data_start + entry.begin)
                found[name] = file.read(entry.end - entry.begin).decode(errors="replace")
    except OSError as error:
        raise WeightsError(
            f"{header.path} cannot be read any more ({error.strerror}); {FETCH}", code="weights_unreadable"
        ) from error
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file. Raises WeightsError when the file is missing, damaged or not an object."""
    check_file(path)
    if path.stat().st_size > HEADER_BYTES:
        raise WeightsError(f"{path} is longer than {HEADER_BYTES} bytes; {FETCH}", code="config_damaged")
    return json_object(path, path.read_bytes(), "config_damaged")


def json_object(source: object, text: str | bytes, code: str) -> dict[str, Any]:
    """Parse a JSON object. Raises WeightsError with this code, naming the `source`, for anything else."""
    try:
        result = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{source} is not valid JSON; {FETCH}", code=code) from error
    if not isinstance(result, dict):
        raise WeightsError(f"{source} holds a {type(result).__name__} where an object is expected; {FETCH}", code=code)
    return cast("dict[str, Any]", result)


def _read(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start.ljust(8, b"\0"))[0]
        if not 2 <= length <= min(path.stat().st_size - 8, HEADER_BYTES):
            raise WeightsError(f"{path} is not a safetensors file, or is cut short; {FETCH}", code="weights_damaged")
        text = file.read(length)
    if any(text.count(mark) > times * (MAX_TENSORS + 2) for mark, times in MARKS.items()):
        raise WeightsError(
            f"{path} holds more than {MAX_TENSORS} tensors; it is not a model of this family", code="weights_too_many"
        )
    try:
        header = json.loads(text, object_pairs_hook=partial(_without_repeats, path))
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} has a damaged header; {FETCH}", code="weights_damaged") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path} has a damaged header; {FETCH}", code="weights_damaged")
    return length, header


def _without_repeats(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise WeightsError(f"{path} names a tensor twice in its header; {FETCH}", code="weights_damaged")
    return found


def _metadata(path: Path, found: object) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise WeightsError(
            f"{path} has a damaged header: its metadata are not all text; {FETCH}", code="weights_damaged"
        )
    return found


def _entry(path: Path, name: str, value: object) -> Entry:
    if len(name) > MAX_NAME:
        raise WeightsError(
            f"{path} has a damaged header: a name in it is longer than {MAX_NAME} letters; {FETCH}",
            code="weights_damaged",
        )
    fields = value if isinstance(value, dict) else {}
    for key in ("dtype", "shape", "data_offsets"):
        if key not in fields:
            raise WeightsError(f"{path}: the header entry of {name!r} has no {key!r}; {FETCH}", code="weights_damaged")
    dtype, shape, places = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or not _numbers(shape) or not _numbers(places) or len(places) != 2:
        raise WeightsError(f"{path}: the header entry of {name!r} is damaged; {FETCH}", code="weights_damaged")
    if dtype in UNREAD:
        raise WeightsError(
            f"{path}: tensor {name!r} is stored as {dtype}, which kinoform does not read; get the same model in bf16, "
            "fp16, fp8 (a cast, or with plain scales) or GGUF",
            code="weights_unsupported_storage",
        )
    if dtype not in WIDTHS:
        raise WeightsError(
            f"{path}: tensor {name!r} is of no known dtype, {dtype[:20]!r}; {FETCH}", code="weights_damaged"
        )
    begin, end = places
    # A zero among the lengths hides the others from the first product; PyTorch multiplies them all the same.
    if end - begin != prod(shape) * WIDTHS[dtype] or prod(length or 1 for length in shape) >= MAX_NUMBER:
        raise WeightsError(
            f"{path}: tensor {name!r} of shape {list(shape)} is not as long; {FETCH}", code="weights_damaged"
        )
    return Entry(shape=tuple(shape), dtype=dtype, begin=begin, end=end)


def _numbers(values: object) -> bool:
    """Tell whether this is a short list of whole numbers that a file could hold."""
    if not isinstance(values, list) or len(values) > MAX_DIMS:
        return False
    return all(type(value) is int and 0 <= value < MAX_NUMBER for value in values)


def _check_cover(path: Path, start: int, places: list[tuple[int, int]]) -> None:
    """Check that the tensors follow each other without gap or overlap, up to the end of the file."""
    position = 0
    for begin, end in places:
        if begin != position:
            raise WeightsError(
                f"{path} has a damaged header: its tensors overlap or leave gaps; {FETCH}", code="weights_damaged"
            )
        position = end
    check_size(path, start + position)
