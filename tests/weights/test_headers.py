"""A header is read without PyTorch, told exactly, and held against the file before anything is believed."""

import json
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kinoform.checkpoints.files import open_file
from kinoform.checkpoints.formats import DTYPES
from kinoform.checkpoints.headers import Entry, check_file, read_header, read_json
from kinoform.checkpoints.storage import WIDTHS
from tests.support.refusals import refused_briefly
from tests.weights.tiny_files import write_header

GB = 1_000_000_000
MEMORY = 80_000_000
"""Bytes within which every hostile header must be refused; the longest that is looked at has 32 MB itself."""


def raw(path: Path, text: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(shape: Any = (), dtype: Any = "U8", places: Any = (0, 1)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": places}


def test_a_header_is_told_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"b": torch.zeros(2, 3), "a": torch.zeros(4, dtype=torch.bfloat16)}, path, metadata={"format": "pt"})
    header = read_header(path)
    assert header.entries == {"b": Entry((2, 3), "F32", 0, 24), "a": Entry((4,), "BF16", 24, 32)}
    assert header.metadata == {"format": "pt"}
    assert header.data_start == path.stat().st_size - 32


def test_every_dtype_of_a_header_is_one_of_pytorch_with_the_same_width(tmp_path: Path) -> None:
    assert DTYPES.keys() == WIDTHS.keys()
    assert all(DTYPES[name].itemsize == width for name, width in WIDTHS.items())
    values = {name: torch.zeros(3, dtype=dtype) for name, dtype in DTYPES.items()}
    save_file(values, tmp_path / "w.safetensors")
    assert {name: e.dtype for name, e in read_header(tmp_path / "w.safetensors").entries.items()} == {
        n: n for n in DTYPES
    }
    assert {name: e.dtype for name, e in open_file(tmp_path / "w.safetensors").tensors.items()} == DTYPES


def test_a_file_of_28_gb_is_read_by_its_header(tmp_path: Path) -> None:
    path = write_header(tmp_path / "w.safetensors", {"a": (14, GB)}, metadata={"x": "y"})
    assert path.stat().st_size > 28 * GB
    assert read_header(path).entries["a"] == Entry((14, GB), "BF16", 0, 28 * GB)
    with path.open("r+b") as file:
        file.truncate(28 * GB)
    with refused_briefly("weights_damaged", str(path)):
        read_header(path)


SMALL = json.dumps(entry()).encode()
HOSTILE: dict[str, tuple[Any, ...]] = {
    "header of 2^63 bytes": (struct.pack("<Q", 1 << 63) + b"{}", "weights_damaged"),
    "a million tensors": (b"{%b}" % b",".join(b'"%d":%b' % (i, SMALL) for i in range(1_000_000)), "weights_damaged"),
    "hundreds of thousands of tensors": (
        b"{%b}" % b",".join(b'"%d":%b' % (i, SMALL) for i in range(450_000)),
        "weights_too_many",
        "100000",
    ),
    "tensors behind escapes": (
        b"{%b}" % b",".join(b'"%d":{"\\u0064":1}' % i for i in range(1_210_000)),
        "weights_too_many",
        "100000",
    ),
    "a million words": (b"{%b}" % b",".join(b'"%d":1' % i for i in range(1_000_000)), "weights_too_many", "100000"),
    "millions of lists": (b'{"a":[%b[]]}' % (b"[]," * 9_000_000), "weights_too_many", "100000"),
    "millions of numbers": (b'{"a":[%b1]}' % (b"1," * 9_000_000), "weights_too_many", "100000"),
    "a depth of a hundred thousand": (b'{"a":' + b"[" * 100_000, "weights_damaged"),
    "a number of a million digits": (b'{"a":' + b"9" * 1_000_000 + b"}", "weights_damaged"),
    "a name of a million letters": (b'{"%b":%b}' % (b"a" * 1_000_000, SMALL), "weights_damaged", "1024"),
    "a dtype of a million letters": (
        json.dumps({"a": entry(dtype="F" * 1_000_000)}).encode(),
        "weights_damaged",
        "'a'",
    ),
    "a shape of a thousand axes": (json.dumps({"a": entry([1] * 1000)}).encode(), "weights_damaged", "'a'"),
    "a shape beyond all files": (
        json.dumps({"a": entry([10**30, 0], places=[0, 0])}).encode(),
        "weights_damaged",
        "'a'",
    ),
    "three places": (json.dumps({"a": entry(places=[0, 1, 2])}).encode(), "weights_damaged", "'a'"),
    "metadata that are a list": (b'{"__metadata__":[]}', "weights_damaged", "metadata"),
    "metadata that hold numbers": (b'{"__metadata__":{"a":1}}', "weights_damaged", "metadata"),
    "metadata twice": (b'{"__metadata__":{"a":"1","a":"2"}}', "weights_damaged"),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_hostile_headers_are_refused_within_little_memory(damage: str, tmp_path: Path) -> None:
    content, code, *named = HOSTILE[damage]
    path = tmp_path / "w.safetensors"
    if content.startswith(b"{"):
        raw(path, content, bytes(1))
    else:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        with refused_briefly(code, str(path), *named):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def test_other_content_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for content, code in (
        (b"", "weights_damaged"),
        (b"  <html>log in", "weights_not_downloaded"),
        (b"<?xml version='1.0'?><Error>", "weights_not_downloaded"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "weights_not_downloaded"),
    ):
        path.write_bytes(content)
        for act in (read_header, check_file):
            with refused_briefly(code, str(path)):
                act(path)
    with refused_briefly("weights_missing", "absent.safetensors"):
        read_header(tmp_path / "absent.safetensors")


def test_json_files_are_objects_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"dim": 5}')
    assert read_json(path) == {"dim": 5}
    for content in (b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000):
        path.write_bytes(content)
        with refused_briefly("config_damaged", str(path)):
            read_json(path)
    with path.open("wb") as file:
        file.write(b"{}")
        file.truncate(40_000_000)
    with refused_briefly("config_damaged", str(path)):
        read_json(path)


def test_what_is_no_model_is_refused_without_pytorch(tmp_path: Path) -> None:
    path = write_header(tmp_path / "w.safetensors", {"double_blocks.0.img_attn.qkv.weight": (4, 4)})
    code = (
        "import sys; from pathlib import Path; from kinoform.families.identify import inspect_path\n"
        "try: inspect_path(Path(sys.argv[1]))\n"
        "except Exception as error: print(error.code, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["weights_unsupported_model", "False"]
