"""Verification reads everything: one changed number, one missing shard, one other hash is found and named."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.loading.own import open_own
from kinoform.loading.verify import Verified, verify_path
from tests.support.comfy_files import write_comfy_folders
from tests.support.diffusers_folder import write_diffusers_folder
from tests.support.official_folder import CODEC_FILE, SINGLE, TEXT_FILE, write_official_folder
from tests.support.refusals import refused
from tests.support.tiny_recipe import write_tiny_folder
from tests.weights import tiny_files

HEAD = "head.head.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_official_folder(tmp_path / "wan")
    return tmp_path / "wan"


def faults(found: Verified) -> list[str]:
    return [str(fault) for fault in found.faults]


def change(file: Path, act: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(file)
    act(tensors)
    save_file(tensors, file)


def sums(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return "".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(folder)}\n" for f in files)


@pytest.mark.parametrize("write", [write_official_folder, write_diffusers_folder, write_comfy_folders])
def test_whole_folders_of_every_layout_pass(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / "model")
    found = verify_path(tmp_path / "model")
    assert not found.faults and not found.doubts
    assert found.files == 3 and found.tensors > 100 and found.hashed == 0


def test_progress_ends_at_the_bytes_that_were_announced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(sums(folder))
    told: list[tuple[int, int]] = []
    verify_path(folder, hashes=tmp_path / "sums", tell=lambda done, total: told.append((done, total)))
    assert len({total for _, total in told}) == 1 and told == sorted(told)
    assert told[-1][0] == told[-1][1] > 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_number_that_is_not_finite_is_found(value: float, folder: Path) -> None:
    change(folder / SINGLE, lambda tensors: tensors[HEAD].view(-1)[-1:].fill_(value))
    found = verify_path(folder)
    assert faults(found) == [f"{folder / SINGLE}: {HEAD} holds NaN or infinity"]
    assert verify_path(folder / CODEC_FILE).faults == ()


def test_pickles_and_eight_bits_are_read_too(folder: Path) -> None:
    tensors = torch.load(folder / TEXT_FILE, weights_only=True)
    tensors["norm.weight"][0] = torch.inf
    torch.save(tensors, folder / TEXT_FILE)
    change(folder / SINGLE, lambda t: t.update({HEAD: t[HEAD].fill_(torch.nan).to(torch.float8_e4m3fn)}))
    found = faults(verify_path(folder))
    assert len(found) == 2 and any("norm.weight" in each for each in found) and any(HEAD in each for each in found)


def test_zeros_are_doubts_in_a_matrix_and_a_fault_in_a_whole_file(folder: Path) -> None:
    change(folder / SINGLE, lambda tensors: [tensors[name].zero_() for name in (HEAD, "head.head.bias")])
    found = verify_path(folder)
    assert not found.faults and [doubt.tensor for doubt in found.doubts] == [HEAD]
    change(folder / SINGLE, lambda tensors: [value.zero_() for value in tensors.values()])
    assert any("nothing but zeros" in each for each in faults(verify_path(folder)))


def test_a_file_that_cannot_be_opened_hides_no_other(folder: Path) -> None:
    (folder / CODEC_FILE).write_bytes((folder / CODEC_FILE).read_bytes()[:-100])
    change(folder / SINGLE, lambda tensors: tensors[HEAD].fill_(torch.nan))
    found = faults(verify_path(folder))
    assert len(found) == 2 and any("cut short" in each for each in found) and any(HEAD in each for each in found)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_official_folder(tmp_path / "wan", shards=3)
    (tmp_path / "wan" / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    found = faults(verify_path(tmp_path / "wan"))
    assert len(found) == 1 and "00002-of-00003" in found[0] and "missing" in found[0]


def test_hashes_of_a_list_are_compared(folder: Path, tmp_path: Path) -> None:
    record = tmp_path / "sums"
    record.write_text(sums(folder))
    found = verify_path(folder, hashes=record)
    assert not found.faults and found.hashed == 5
    change(folder / SINGLE, lambda tensors: tensors[HEAD].view(-1)[:1].add_(1))
    (folder / "config.json").unlink()
    told = faults(verify_path(folder, hashes=record))
    assert len(told) == 2 and "another SHA-256" in told[1] and "config.json: is missing" in told[0]
    record.write_text(f"{hashlib.sha256(b'other').hexdigest()} *{SINGLE}\n")
    assert "another SHA-256" in faults(verify_path(folder / SINGLE, hashes=record))[0]


def test_a_soft_break_in_a_name_does_not_end_a_line_of_hashes(folder: Path, tmp_path: Path) -> None:
    name = "notes\u2028of mine.txt"
    (folder / name).write_text("x")
    (tmp_path / "sums").write_text(f"{hashlib.sha256(b'x').hexdigest()}  {name}\r\n", encoding="utf-8")
    assert not verify_path(folder, hashes=tmp_path / "sums").faults


def test_hashes_of_a_manifest_are_compared(tmp_path: Path) -> None:
    folder = write_tiny_folder(tmp_path / "own")
    found = verify_path(folder)
    assert not found.faults and found.hashed == 4
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"', " ", 1))
    assert faults(verify_path(folder)) == [f"{file}: has another SHA-256 than the one on record"]


@pytest.mark.parametrize("line", ["nonsense", f"{'0' * 64}  ../outside", f"{'0' * 64}  /etc/passwd", "0" * 64])
def test_a_record_that_cannot_be_used_is_refused(line: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(line)
    with refused("hashes_unreadable", "sums"):
        verify_path(folder, hashes=tmp_path / "sums")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(json.dumps({}))
    with refused("weights_missing"):
        verify_path(tmp_path)


PARTS: dict[str, tuple[tiny_files.Shapes, str]] = {
    "transformer": (tiny_files.transformer(), "blocks.1.ffn.0.weight"),
    "transformer of images": (tiny_files.transformer("wan21-i2v"), "img_emb.proj.1.weight"),
    "transformer with vace": (tiny_files.transformer("wan21-vace"), "blocks.2.modulation"),
    "transformer of diffusers": (
        tiny_files.renamed(tiny_files.transformer(), tiny_files.TO_DIFFUSERS),
        "blocks.0.attn1.to_q.weight",
    ),
    "autoencoder 2.1": (tiny_files.codec21(), "decoder.middle.0.residual.2.weight"),
    "autoencoder 2.2": (tiny_files.codec22(), "encoder.downsamples.1.downsamples.0.residual.2.weight"),
    "autoencoder of diffusers": (tiny_files.diffusers_codec21(), "decoder.mid_block.resnets.0.conv1.weight"),
    "text encoder": (tiny_files.text_encoder(), "blocks.1.ffn.fc1.weight"),
    "text encoder of transformers": (
        tiny_files.renamed(tiny_files.text_encoder(), tiny_files.TO_HUGGINGFACE),
        "encoder.block.1.layer.1.DenseReluDense.wo.weight",
    ),
    "image encoder": (tiny_files.clip(), "visual.transformer.0.mlp.0.weight"),
    "image encoder of transformers": (
        tiny_files.huggingface_clip(),
        "vision_model.encoder.layers.0.mlp.fc1.weight",
    ),
}
"""Parts of a model, and one tensor of each."""


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_lacks_a_tensor_or_all_but_one_is_incomplete(part: str, tmp_path: Path) -> None:
    shapes, name = PARTS[part]
    file = tmp_path / "weights.safetensors"

    def codes(held: tiny_files.Shapes) -> set[str]:
        save_file({name: torch.ones(shape, dtype=torch.bfloat16) for name, shape in held.items()}, file)
        return {fault.code for fault in verify_path(file).faults}

    assert codes(shapes) == set()
    assert codes({other: shape for other, shape in shapes.items() if other != name}) == {"weights_incomplete"}
    assert codes({name: shapes[name]}) == {"weights_incomplete"}


def test_an_incomplete_part_is_found_in_a_folder_and_beside_an_index(tmp_path: Path) -> None:
    write_official_folder(tmp_path / "wan", shards=2)
    tensors = torch.load(tmp_path / "wan" / CODEC_FILE, weights_only=True)
    del tensors["decoder.head.2.bias"]
    torch.save(tensors, tmp_path / "wan" / CODEC_FILE)
    (fault,) = verify_path(tmp_path / "wan").faults
    assert fault.code == "weights_incomplete" and fault.file.name == CODEC_FILE and "decoder.head.2.bias" in str(fault)


@pytest.mark.parametrize("dialect", ["comfy", "diffusers", "peft", "kohya", "full-delta"])
def test_a_lora_and_a_module_of_its_own_are_no_incomplete_transformers(dialect: str, tmp_path: Path) -> None:
    vace = {name: shape for name, shape in tiny_files.transformer("wan21-vace").items() if name.startswith("vace_")}
    for held in (tiny_files.lora(dialect), vace, {"conv1.weight": (4, 4)}):
        save_file({name: torch.ones(shape) for name, shape in held.items()}, tmp_path / "file.safetensors")
        assert verify_path(tmp_path / "file.safetensors").faults == ()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "weights_damaged"),
        (lambda file: file.unlink(), "weights_incomplete"),
    ],
)
def test_a_fault_of_an_own_folder_has_one_sentence_in_verify_and_in_load(
    damage: Callable[[Path], object], code: str, tmp_path: Path
) -> None:
    folder = write_tiny_folder(tmp_path / "own")
    damage(folder / "transformer.safetensors")
    (fault,) = verify_path(folder).faults
    with refused(code) as caught:
        open_own(folder)
    assert fault.code == code and str(caught.value).removeprefix(str(fault.file)).strip(": ") == fault.text
