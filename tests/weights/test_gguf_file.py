"""GGUF headers agree with the gguf package, tensors with its unpacking, and lies are refused in one line each."""

import builtins
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from kinoform.checkpoints.files import open_file
from kinoform.checkpoints.formats import PackedStored
from kinoform.checkpoints.gguf_header import STORAGE, read_gguf_header
from tests.support.refusals import refused, refused_briefly
from tests.weights.gguf_fixtures import (
    FURTHER,
    K_QUANTS,
    KINDS,
    QUANTISABLE,
    pair,
    random_blocks,
    raw_gguf,
    text,
    write_blocks,
    write_gguf,
)

SAMPLE = {
    "blocks.0.ffn.0.weight": torch.randn(6, 64, generator=torch.Generator().manual_seed(0)),
    "blocks.0.ffn.0.bias": torch.arange(6.0),
    "blocks.0.modulation": torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(1)),
    "half": torch.arange(5).half(),
    "brain": torch.arange(64).bfloat16().reshape(2, 32),
}


def test_the_table_of_block_sizes_is_that_of_the_package() -> None:
    for number, (name, values, width) in STORAGE.items():
        assert KINDS(number).name == name and gguf.GGML_QUANT_SIZES[KINDS[name]] == (values, width)


def test_the_header_is_what_the_package_reads(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "w.gguf", SAMPLE, {"blocks.0.ffn.0.weight": "Q4_0"}, values={"general.name": "Ä"})
    header, judge = read_gguf_header(path), gguf.GGUFReader(path)
    assert list(header.entries) == [tensor.name for tensor in judge.tensors] == list(SAMPLE)
    for tensor in judge.tensors:
        entry = header.entries[tensor.name]
        assert entry.shape == tuple(reversed(tensor.shape.tolist())) == tuple(SAMPLE[tensor.name].shape)
        assert (entry.dtype, header.data_start + entry.begin) == (tensor.tensor_type.name, tensor.data_offset)
        assert entry.end - entry.begin == tensor.n_bytes
    assert header.metadata == {"general.architecture": "wan", "general.name": "Ä"}


def test_plain_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    found = open_file(write_gguf(tmp_path / "w.gguf", SAMPLE, {})).tensors
    assert found.keys() == SAMPLE.keys()
    for name, value in SAMPLE.items():
        read = found[name].read()
        assert found[name].shape == value.shape and found[name].dtype == read.dtype == value.dtype
        assert torch.equal(read, value)


@pytest.mark.parametrize("quantisation", QUANTISABLE)
def test_quantised_tensors_are_near_what_they_were(quantisation: str, tmp_path: Path) -> None:
    name = "blocks.0.ffn.0.weight"
    stored = open_file(write_gguf(tmp_path / "w.gguf", SAMPLE, {name: quantisation})).tensors[name]
    assert isinstance(stored, PackedStored) and stored.dtype == torch.float32
    judge = gguf.quants.dequantize(gguf.quants.quantize(SAMPLE[name].numpy(), KINDS[quantisation]), KINDS[quantisation])
    assert torch.equal(stored.read(), torch.from_numpy(judge))
    error = (stored.read() - SAMPLE[name]).norm() / SAMPLE[name].norm()
    assert error < (0.01 if quantisation == "Q8_0" else 0.1)


@pytest.mark.parametrize("quantisation", [*K_QUANTS, *FURTHER])
def test_blocks_that_the_package_cannot_write_are_read_as_it_reads_them(quantisation: str, tmp_path: Path) -> None:
    values, width = gguf.GGML_QUANT_SIZES[KINDS[quantisation]]
    rows = random_blocks(quantisation, 5, 3)
    stored = open_file(write_blocks(tmp_path / "w.gguf", "m.weight", quantisation, rows)).tensors["m.weight"]
    assert isinstance(stored, PackedStored) and stored.shape == (5, 3 * values)
    assert stored.rows().shape == (5, 3 * width) and np.array_equal(stored.rows().numpy(), rows)
    expected = gguf.quants.dequantize(rows, KINDS[quantisation])
    assert np.isfinite(expected).all() and np.unique(expected).size > 50
    assert torch.equal(stored.read(), torch.from_numpy(expected))
    some = stored.packing.unpack(stored.rows()[1:4:2])
    assert torch.equal(some, stored.read()[1:4:2])


def test_an_original_shape_wins_over_the_four_dimensions(tmp_path: Path) -> None:
    name, value = "model.diffusion_model.patch_embedding.weight", SAMPLE["blocks.0.ffn.0.weight"]
    shape = (6, 16, 1, 2, 2)
    path = write_gguf(tmp_path / "w.gguf", {name: value}, {name: "Q8_0"}, shapes={name: shape})
    stored = open_file(path).tensors[name]
    assert stored.shape == shape and not isinstance(stored, PackedStored)
    flat = gguf.quants.dequantize(gguf.quants.quantize(value.numpy(), KINDS.Q8_0), KINDS.Q8_0)
    assert torch.equal(stored.read(), torch.from_numpy(flat).view(shape))
    # 24 values a row: the blocks of 32 run across the rows.
    across = write_gguf(tmp_path / "a.gguf", {"w": torch.ones(3, 32)}, {"w": "Q8_0"}, shapes={"w": (4, 24)})
    stored = open_file(across).tensors["w"]
    assert stored.read().shape == (4, 24) and not isinstance(stored, PackedStored)
    wrong = write_gguf(tmp_path / "b.gguf", {"w": torch.ones(3, 32)}, {}, shapes={"w": (4, 25)})
    with refused_briefly("weights_damaged", str(wrong), "[4, 25]"):
        open_file(wrong)
    astray = write_gguf(tmp_path / "c.gguf", {"w": torch.ones(3, 32)}, {}, shapes={"v": (96,)})
    with refused_briefly("weights_damaged", str(astray), "'v'"):
        open_file(astray)


def test_a_vocabulary_is_passed_over_quickly_and_without_memory(tmp_path: Path) -> None:
    words = 256_384
    tokens = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, words) + text("tok") * words
    scores = text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, words) + bytes(4 * words)
    path = tmp_path / "t.gguf"
    path.write_bytes(raw_gguf([("w", [2], 0, 0)], tokens + scores, pair_count=2, data=bytes(8)))
    tracemalloc.start()
    header = read_gguf_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(header.entries) == ["w"] and header.metadata == {} and peak < 2_000_000


def test_without_the_package_headers_and_plain_tensors_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "blocks.0.ffn.0.weight"
    plain = write_gguf(tmp_path / "p.gguf", SAMPLE, {})
    quantised = write_gguf(tmp_path / "q.gguf", SAMPLE, {name: "Q8_0"})
    imported = builtins.__import__

    def without(module: str, *args: Any, **kwargs: Any) -> Any:
        if module == "gguf":
            raise ImportError(module)
        return imported(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert torch.equal(open_file(plain).tensors[name].read(), SAMPLE[name])
    assert read_gguf_header(quantised).entries[name].dtype == "Q8_0"
    with refused("package_missing", "pip install 'kinoform[gguf]'"):
        open_file(quantised)


HUGE = (1 << 64) - 1
W = ("w", [2], 0, 0)
BAD: dict[str, tuple[Any, ...]] = {
    "magic": (b"GGML" + bytes(60), "weights_damaged"),
    "three bytes": (b"GGU", "weights_damaged"),
    "cut": (b"GGUF\3\0\0\0", "weights_damaged"),
    "version 1": (raw_gguf([W], version=1, data=bytes(8)), "weights_unsupported_storage"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "weights_unsupported_storage", "50331648"),
    "2^64 tensors": (raw_gguf([W], count=HUGE, data=bytes(8)), "weights_damaged", str(HUGE)),
    "2^64 pairs": (raw_gguf([W], pair_count=HUGE, data=bytes(8)), "weights_damaged", str(HUGE)),
    "more tensors than there are": (raw_gguf([W], count=9, data=bytes(8)), "weights_damaged"),
    "name of 2^64 bytes": (raw_gguf([], struct.pack("<Q", HUGE), count=1), "weights_damaged"),
    "name too long": (raw_gguf([("n" * 1025, [2], 0, 0)], data=bytes(8)), "weights_damaged", "1024"),
    "name no text": (raw_gguf([], struct.pack("<Q", 2) + b"\xff\xfe", count=1, data=bytes(64)), "weights_damaged"),
    "string of 2^64": (raw_gguf([], text("k") + struct.pack("<IQ", 8, HUGE), pair_count=1), "weights_damaged"),
    "array of 2^64 strings": (raw_gguf([], pair("k", 9, "IQ", 8, HUGE), pair_count=1), "weights_damaged"),
    "array of 2^64 numbers": (raw_gguf([], pair("k", 9, "IQ", 4, HUGE), pair_count=1), "weights_damaged"),
    "array of arrays": (raw_gguf([], pair("k", 9, "IQ", 9, 1), pair_count=1, data=bytes(64)), "weights_damaged"),
    "unknown value": (raw_gguf([], pair("k", 77, ""), pair_count=1, data=bytes(64)), "weights_damaged", "77"),
    "key twice": (raw_gguf([], pair("k", 4, "I", 1) * 2, pair_count=2), "weights_damaged", "'k'"),
    "alignment 0": (
        raw_gguf([W], pair("general.alignment", 4, "I", 0), pair_count=1, data=bytes(8)),
        "weights_damaged",
        "'0'",
    ),
    "tensor twice": (raw_gguf([W, W], data=bytes(8)), "weights_damaged", "'w'"),
    "many dimensions": (raw_gguf([("w", [1] * 9, 0, 0)], data=bytes(8)), "weights_damaged", "'w'"),
    "2^32 dimensions": (raw_gguf([], text("w") + struct.pack("<I", 1 << 31), count=1), "weights_damaged", "'w'"),
    "huge shape": (raw_gguf([("w", [HUGE, HUGE], 0, 0)], data=bytes(8)), "weights_damaged"),
    "far away": (raw_gguf([("w", [2], 0, HUGE)], data=bytes(8)), "weights_damaged"),
    "cut data": (raw_gguf([W], data=bytes(7)), "weights_damaged"),
    "overlap": (raw_gguf([W, ("v", [2], 0, 4)], data=bytes(12)), "weights_damaged", "'v'"),
    "type without name": (raw_gguf([("w", [2], 99, 0)], data=bytes(8)), "weights_unsupported_storage", "99"),
    "type without reader": (raw_gguf([("w", [32], 9, 0)], data=bytes(40)), "weights_unsupported_storage", "'w'"),
    "nothing": (raw_gguf([("w", [1 << 63, 0], 0, 0)], data=bytes(8)), "weights_damaged", "'w'"),
    "row of half a block": (raw_gguf([("w", [48], 8, 0)], data=bytes(64)), "weights_damaged", "32"),
}


@pytest.mark.parametrize("damage", BAD)
def test_headers_that_cannot_be_true_are_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    content, code, *named = BAD[damage]
    path = tmp_path / "w.gguf"
    path.write_bytes(content)
    with refused_briefly(code, str(path), *named):
        open_file(path)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "w.gguf", {"w": torch.ones(4, 32)}, {"w": "Q8_0"}).read_bytes()
    header = read_gguf_header(tmp_path / "w.gguf")
    end = header.data_start + header.entries["w"].end
    for length in range(end):
        cut = tmp_path / "c.gguf"
        cut.write_bytes(content[:length])
        with refused_briefly("weights_damaged", str(cut)):
            open_file(cut)


def test_a_file_cut_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "w.gguf", {"w": torch.ones(4, 32)}, {"w": "Q8_0"})
    stored = open_file(path).tensors["w"]
    path.write_bytes(path.read_bytes()[:-80])
    with refused("weights_changed_meanwhile"):
        stored.read()
