"""Names of numbered files are read and written by one rule, and any file of a set stands for all of it."""

from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import save_file

from kinoform.checkpoints.file_sets import MAX_SHARDS, read_shard, shard_name, shards_of, weight_sets
from kinoform.checkpoints.files import open_checkpoint
from kinoform.families.umt5 import LLAMA_CPP_NAMES
from tests.support.official_folder import official_tensors, tiny_modules
from tests.support.refusals import refused
from tests.weights.gguf_fixtures import finish, write_gguf

SETS = {
    "model": "model-00002-of-00003.safetensors",
    "wan2.1-t2v-14b-Q4_K_M": "wan2.1-t2v-14b-Q4_K_M-00001-of-00003.gguf",
    "LOUD": "LOUD-00003-OF-00003.SAFETENSORS",
    "a-00001-of-00002": "a-00001-of-00002-00003-of-00003.Gguf",
}
OTHERS = (
    "model.safetensors", "model-00001-of-00002.pth", "model-1-of-2.safetensors", "-00001-of-00002.gguf",
    "model-00000-of-00002.gguf", "model-00003-of-00002.gguf", "model-00001-of-00000.gguf",
    "model-00001-of-00002.gguf.part", "model-٠٠٠٠١-of-٠٠٠٠٢.gguf", f"model-00001-of-{MAX_SHARDS + 1:05d}.gguf",
)  # fmt: skip


@pytest.mark.parametrize("stem", SETS)
def test_a_set_is_the_same_from_each_of_its_files(stem: str) -> None:
    file = Path("folder", SETS[stem])
    shard, files = read_shard(file.name), shards_of(file)
    assert shard is not None and (shard.stem, shard.total) == (stem, 3) and file in files
    assert all(shards_of(each) == files for each in files)
    assert [found.number for each in files if (found := read_shard(each.name))] == [1, 2, 3]
    assert len({each.name.replace(f"{stem}-0000{n}", "") for n, each in enumerate(files, 1)}) == 1, "one spelling"


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_no_shards(name: str) -> None:
    assert read_shard(name) is None and shards_of(Path(name)) == (Path(name),)


def test_what_is_written_is_read() -> None:
    shard = read_shard(shard_name("a.b", 7, MAX_SHARDS))
    assert shard is not None and (shard.stem, shard.number, shard.total) == ("a.b", 7, MAX_SHARDS)


@pytest.mark.parametrize(
    "ending", ["-of-00002.safetensors", "-OF-00002.SafeTensors", "-of-00002.gguf", "-of-00002.GGUF"]
)
def test_any_file_of_a_set_opens_all_of_it(ending: str, tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}
    files = [tmp_path / f"w-0000{number}{ending}" for number in (1, 2)]
    for file, (name, value) in zip(files, tensors.items(), strict=True):
        if "gguf" in ending.lower():
            write_gguf(file, {name: value}, {})
        else:
            save_file({name: value}, file)
    save_file({"another": torch.ones(1)}, tmp_path / "w.safetensors")
    for file in files:
        checkpoint = open_checkpoint(file)
        assert checkpoint.files == tuple(files) and torch.equal(checkpoint.read("a"), tensors["a"])
        assert [each.files for each in weight_sets(file)] == [tuple(files)]
    files[0].unlink()
    with refused("weights_missing", "w-00001-"):
        open_checkpoint(files[1])


def test_a_stem_means_its_safetensors_in_any_letter_case(tmp_path: Path) -> None:
    for number, name in enumerate("ab", 1):
        save_file({name: torch.ones(2)}, tmp_path / f"w-0000{number}-of-00002.SAFETENSORS")
        write_gguf(tmp_path / f"w-0000{number}-of-00003.gguf", {name: torch.zeros(2)}, {})
    found = open_checkpoint(tmp_path / "w")
    assert found.tensors.keys() == {"a", "b"} and all(file.suffix == ".SAFETENSORS" for file in found.files)
    save_file({"c": torch.ones(2)}, tmp_path / "w-00001-of-00001.safetensors")
    with refused("weights_ambiguous"):
        open_checkpoint(tmp_path / "w")


def test_files_that_the_gguf_package_split_are_one_set(tmp_path: Path) -> None:
    encoder = official_tensors(tiny_modules().text_encoder, LLAMA_CPP_NAMES)
    writer = gguf.GGUFWriter(tmp_path / "t5.gguf", "t5encoder", split_max_tensors=4)
    for name, value in encoder.items():
        writer.add_tensor(name, value.numpy())
    finish(writer, tmp_path / "t5.gguf")
    last = sorted(tmp_path.iterdir())[-1]
    found = open_checkpoint(last)
    assert len(found.files) == -(-len(encoder) // 4) and found.tensors.keys() == encoder.keys()
    assert all(torch.equal(found.read(name), value) for name, value in encoder.items())
