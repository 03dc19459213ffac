"""Headers tell the truth, data comes back as it was saved, and every damage is refused in one line with a name."""

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoform.checkpoints.file_sets import weight_sets
from kinoform.checkpoints.files import open_checkpoint
from tests.support.refusals import refused, refused_briefly

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor(2.5, dtype=torch.bfloat16),
    "c": torch.zeros(0, 4, dtype=torch.float16),
    "d": torch.arange(5, dtype=torch.float64),
}


def save_single(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path / "w.safetensors")
    return path / "w.safetensors"


def save_pickle(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save(tensors, path / "w.pth")
    return path / "w.pth"


def save_shards(path: Path, tensors: dict[str, Tensor], *, index: bool = True) -> Path:
    weight_map = {}
    for number, names in enumerate(("ab", "cd"), 1):
        file = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, path / file)
        weight_map |= dict.fromkeys(names, file)
    if index:
        text = json.dumps({"metadata": {}, "weight_map": weight_map})
        (path / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    return path


def save_stem(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path / "transformer.safetensors")
    return path / "transformer"


def save_unindexed(path: Path, tensors: dict[str, Tensor]) -> Path:
    return save_shards(path, tensors, index=False)


@pytest.mark.parametrize("save", [save_single, save_pickle, save_shards, save_unindexed, save_stem])
def test_what_is_saved_is_announced_and_read(save: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = open_checkpoint(save(tmp_path, TENSORS))
    assert set(checkpoint.tensors) == set(TENSORS)
    for name, value in TENSORS.items():
        stored = checkpoint.tensors[name]
        assert (stored.shape, stored.dtype) == (tuple(value.shape), value.dtype)
        read = checkpoint.read(name)
        assert read.dtype == value.dtype and torch.equal(read, value)
        read.fill_(7)  # the caller owns it
        assert torch.equal(checkpoint.read(name), value)


def test_opening_reads_the_header_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(save_single(tmp_path, TENSORS))
    header = checkpoint.files[0].read_bytes()
    data = bytes(len(header))
    length = 8 + struct.unpack("<Q", header[:8])[0]
    checkpoint.files[0].write_bytes(header[:length] + data[length:])
    again = open_checkpoint(checkpoint.files[0])
    assert again.tensors.keys() == checkpoint.tensors.keys()
    assert not again.read("a").any()


def test_strided_and_shared_tensors_of_a_pickle_come_out_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    checkpoint = open_checkpoint(save_pickle(tmp_path, {"t": base.T, "row": base[1]}))
    assert torch.equal(checkpoint.read("t"), base.T) and checkpoint.read("t").is_contiguous()
    assert torch.equal(checkpoint.read("row"), base[1])


# Damage: the content of a file, the code of its refusal, and what that names besides the file.


def raw(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


BAD_SAFETENSORS: dict[str, tuple[Any, ...]] = {
    "empty": (b"", "weights_damaged"),
    "web page": (b"\n<!DOCTYPE html><html>log in</html>", "weights_not_downloaded"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "weights_not_downloaded"),
    "few bytes": (b"abc", "weights_damaged"),
    "header of 2^63 bytes": (struct.pack("<Q", 1 << 63) + b"{}", "weights_damaged"),
    "header of 10 GiB": (struct.pack("<Q", 10 << 30) + b"{}", "weights_damaged"),
    "cut in the header": (raw({"a": entry(0, 8)}, bytes(8))[:20], "weights_damaged"),
    "cut in the data": (raw({"a": entry(0, 8)}, bytes(7)), "weights_damaged"),
    "too long": (raw({"a": entry(0, 8)}, bytes(9)), "weights_damaged"),
    "overlap": (raw({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), "weights_damaged"),
    "hole": (raw({"a": entry(0, 8), "b": entry(12, 16)}, bytes(16)), "weights_damaged"),
    "twice": (raw(b'{"a":%b,"a":%b}' % ((json.dumps(entry(0, 4)).encode(),) * 2), bytes(4)), "weights_damaged"),
    "bad json": (raw(b'{"a":', bytes(4)), "weights_damaged"),
    "deep json": (raw(b"[" * 100_000), "weights_damaged"),
    "list": (raw([1, 2]), "weights_damaged"),
    "wrong length": (raw({"a": entry(0, 8, [3])}, bytes(8)), "weights_damaged", "'a'"),
    "negative": (raw({"a": entry(0, 8, [-1, -2])}, bytes(8)), "weights_damaged", "'a'"),
    "fraction": (raw({"a": entry(0, 8, [2.0])}, bytes(8)), "weights_damaged", "'a'"),
    "no shape": (raw({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)), "weights_damaged", "'shape'"),
    "unknown dtype": (raw({"a": entry(0, 8, dtype="F3")}, bytes(8)), "weights_damaged", "'F3'"),
    "not an entry": (raw({"a": 5}), "weights_damaged", "'a'"),
    "dtype no string": (raw({"a": entry(0, 8, dtype=[])}, bytes(8)), "weights_damaged", "'a'"),
    "no tensors": (raw({"__metadata__": {"format": "pt"}}), "weights_missing"),
    "too many": (raw({f"{i}": entry(0, 0) for i in range(100_001)}), "weights_too_many", "100000"),
}


@pytest.mark.parametrize("damage", BAD_SAFETENSORS)
def test_damaged_safetensors_are_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    content, code, *named = BAD_SAFETENSORS[damage]
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with refused_briefly(code, str(path), *named):
        open_checkpoint(path)


def test_every_cut_of_a_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = save_single(tmp_path, TENSORS)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with refused_briefly("weights_damaged", str(path)):
            open_checkpoint(path)


class Payload:
    """Unpickling this would write the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.canary, "executed")


def test_code_in_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(2), "b": Payload(canary)}, path)
    with refused_briefly("pickle_unsafe", str(path)):
        open_checkpoint(path)
    path.write_bytes(pickle.dumps(Payload(canary)))
    with refused_briefly("weights_damaged", str(path)):
        open_checkpoint(path)
    torch.save({"a": pickle.dumps(Payload(canary))}, path)
    with refused_briefly("pickle_unsupported", "'a'"):
        open_checkpoint(path)
    assert not canary.exists()
    torch.save(Payload(canary), path)
    torch.load(path, weights_only=False)
    assert canary.exists()  # the payload is a real one


def test_pickles_that_are_no_plain_dictionary_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for content, code, named in (
        ({"state_dict": {"a": torch.zeros(1), "b": 2}}, "pickle_unsupported", "'state_dict'"),
        ({"optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}}, "pickle_unsupported", "'optimizer'"),
        ([torch.zeros(1)], "pickle_unsupported", "list"),
        (torch.zeros(3), "pickle_unsupported", "Tensor"),
        ({"a": torch.zeros(2), 3: torch.zeros(1)}, "pickle_unsupported", "'3'"),
        ({"a": torch.zeros(2, device="meta")}, "pickle_unsupported", "'a'"),
        ({"a": torch.eye(3).to_sparse()}, "pickle_unsupported", "'a'"),
        ({"a": torch.zeros(1).expand(10**9)}, "weights_damaged", "'a'"),
        ({}, "pickle_unsupported", ""),
    ):
        torch.save(content, path)
        with refused_briefly(code, str(path), named):
            open_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt"])
@pytest.mark.parametrize("place", [("generator_ema",), ("state_dict",), ("model",), ("checkpoint", "module")])
def test_tensors_that_a_trainer_put_beside_its_state_are_read(
    place: tuple[str, ...], suffix: str, tmp_path: Path
) -> None:
    held: dict[str, Any] = dict(TENSORS)
    for name in reversed(place):
        held = {name: held, "step": 7, "lr": torch.ones(()), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    file = tmp_path / f"w{suffix}"
    torch.save(held, file)
    found = open_checkpoint(file)
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.read(name), value) for name, value in TENSORS.items())


def test_of_two_dictionaries_of_tensors_one_must_be_taken_out_as_the_refusal_says(tmp_path: Path) -> None:
    file = tmp_path / "self_forcing.pt"
    torch.save({"generator": {"a": torch.zeros(2)}, "generator_ema": dict(TENSORS)}, file)
    with refused("weights_ambiguous") as caught:
        open_checkpoint(file)
    code = str(caught.value).split('python -c "', 1)[1].rstrip('"')
    subprocess.run([sys.executable, "-c", code], check=True)
    (made,) = set(tmp_path.iterdir()) - {file}
    assert open_checkpoint(made).tensors.keys() == TENSORS.keys(), "the averaged weights are offered first"


def test_safetensors_by_their_short_name_are_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.sft")
    assert open_checkpoint(tmp_path / "w.sft").tensors.keys() == TENSORS.keys()
    assert [each.files for each in weight_sets(tmp_path)] == [(tmp_path / "w.sft",)]


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = save_pickle(tmp_path, TENSORS)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    for level, extra in ((0, b""), (9, bytes(1_000_000))):  # as long as before, and a bomb
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
            for name, data in {**records, "w/extra": extra}.items():
                archive.writestr(name, data)
        with refused_briefly("pickle_unsupported", str(path)):
            open_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../outside.pkl", b"")
    with refused_briefly("weights_damaged", str(path)):
        open_checkpoint(path)
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    with refused_briefly("weights_damaged", str(path), "1.6"):
        open_checkpoint(path)
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with refused_briefly("weights_damaged", str(path)):
            open_checkpoint(path)
    path.write_bytes(b"<html>sign in</html>")
    with refused_briefly("weights_not_downloaded", str(path)):
        open_checkpoint(path)


def test_damaged_sets_of_files_are_refused(tmp_path: Path) -> None:
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    first, second = (tmp_path / f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors" for number in (1, 2))
    for absent in (tmp_path, tmp_path / "x.safetensors"):
        with refused_briefly("weights_missing", str(absent)):
            open_checkpoint(absent)
    save_shards(tmp_path, TENSORS)
    good = index.read_text()
    for content, code, named in (
        ("{", "config_damaged", "JSON"),
        ("[]", "config_damaged", "list"),
        ("", "weights_damaged", ""),
        ("version https://git-lfs.github.com/spec/v1", "weights_not_downloaded", "git lfs pull"),
        ("<html>", "weights_not_downloaded", ""),
        ("{}", "weights_damaged", "weight_map"),
        ('{"weight_map": {"a": 1}}', "weights_damaged", "weight_map"),
        ('{"weight_map": {"a": "../a.safetensors"}}', "weights_damaged", "'../a.safetensors'"),
        (json.dumps({"weight_map": {"z": first.name}}), "weights_incomplete", "'z'"),
    ):
        index.write_text(content)
        with refused_briefly(code, str(index), named):
            open_checkpoint(tmp_path)
    index.write_text(good)
    save_file({"a": torch.zeros(1), **{name: TENSORS[name] for name in "cd"}}, second)
    with refused_briefly("weights_ambiguous", "'a'", str(first), str(second)):
        open_checkpoint(tmp_path)
    for file in (second, index):
        file.unlink()
        with refused_briefly("weights_incomplete", str(second)):
            open_checkpoint(tmp_path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("hello")
    with refused_briefly("weights_unsupported_storage", "w.txt", ".safetensors"):
        open_checkpoint(tmp_path / "w.txt")


def test_a_file_cut_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    path = save_single(tmp_path, TENSORS)
    checkpoint = open_checkpoint(path)
    path.write_bytes(path.read_bytes()[:-8])
    with refused_briefly("weights_changed_meanwhile", str(path)):
        for name in TENSORS:
            checkpoint.read(name)
