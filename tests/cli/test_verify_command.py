"""`kinoform verify` says whether weights are whole, and its exit code says it again."""

import shutil
from pathlib import Path

from command_line import Run


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
        "holds NaN or infinity",
        "has another SHA-256 than the one on record",
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
