"""`kinoform verify` says whether weights are whole, and its exit code says it again."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kinoform.errors import WeightsError
from kinoform.recipes.load import load
from tests.support.command_line import Run
from tests.support.official_folder import write_official_folder

SHARDS = tuple(f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2))
INDEX = "diffusion_pytorch_model.safetensors.index.json"


def shard_gone(folder: Path) -> None:
    (folder / SHARDS[1]).unlink()


def shard_gone_without_index(folder: Path) -> None:
    (folder / INDEX).unlink()
    (folder / SHARDS[0]).unlink()


def shard_cut(folder: Path) -> None:
    (folder / SHARDS[0]).write_bytes((folder / SHARDS[0]).read_bytes()[:-9])


def shard_a_page(folder: Path) -> None:
    (folder / SHARDS[1]).write_text("<html>log in</html>")


def index_damaged(folder: Path) -> None:
    (folder / INDEX).write_text('{"weight_map": []}')


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    each.__name__: each for each in (shard_gone, shard_gone_without_index, shard_cut, shard_a_page, index_damaged)
}


def test_a_whole_folder_is_told_so(kinoform: Run, folder: Path) -> None:
    ran = kinoform("verify", folder, "--json")
    assert ran.code == 0, ran.err
    told = ran.told[0]
    assert told["whole"] and told["files"] == 3 and told["hashed"] == 4 and told["faults"] == []
    ran = kinoform("verify", folder)
    assert ran.code == 0 and "is whole: 3 files" in ran.out


def test_a_damaged_folder_is_named_with_its_fault(kinoform: Run, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    file = copy / "transformer.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")
    ran = kinoform("verify", copy)
    assert ran.refusal == "weights_damaged" and "transformer.safetensors" in ran.sentence
    ran = kinoform("verify", copy, "--json")
    assert ran.code == 3
    assert [fault["text"] for fault in ran.told[0]["faults"]] == [
        "has another SHA-256 than the one on record",
        "holds NaN or infinity",
    ]
    assert not ran.told[0]["whole"]


def test_what_is_not_there_is_refused(kinoform: Run, tmp_path: Path) -> None:
    ran = kinoform("verify", tmp_path / "none")
    assert ran.refusal == "weights_missing" and ran.out == ""


def test_the_advice_is_given_once(kinoform: Run, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    file = copy / "transformer.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    ran = kinoform("verify", copy)
    assert ran.refusal == "weights_damaged" and ran.sentence.count("fetch it again") == 1
    page = tmp_path / "weights.pth"
    page.write_text("<html>log in</html>")
    ran = kinoform("verify", page)
    assert ran.refusal is not None and ran.sentence.count("fetch it again") == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_folder_has_one_code_everywhere(damage: str, kinoform: Run, tmp_path: Path) -> None:
    write_official_folder(tmp_path / "wan", shards=2)
    DAMAGES[damage](tmp_path / "wan")
    told = kinoform("inspect", tmp_path / "wan", "--json").told[0]["generate"]
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / "wan", device="cpu")
    assert kinoform("verify", tmp_path / "wan").refusal == caught.value.code == told["code"]
