"""`kinoform doctor` tells what is there as it is, and whatever is broken is a row, never a crash."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kinoform.doctor import examine, kernels, machine, versions
from kinoform.doctor.report import BAD, GOOD, NOTE, Finding, Section, section
from kinoform.errors import WeightsError
from kinoform.ops import cpu
from kinoform.version import __version__
from tests.support.command_line import Run
from tests.support.narrowing import of_type

CPU = torch.device("cpu")


def rows(report: dict) -> dict[str, dict]:
    return {each["name"]: each for part in report["sections"] for each in part["findings"]}


def test_the_report_tells_of_this_machine(kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here))
    ran = kinoform("doctor", "--json")
    assert ran.code == 0 and len(ran.told) == 1
    found = rows(ran.told[0])
    assert found["kinoform"]["value"] == __version__
    assert found["torch"]["value"] == torch.__version__
    assert found["cores"]["facts"]["threads"] == torch.get_num_threads()
    assert 0 < found["memory"]["facts"]["free"] <= found["memory"]["facts"]["total"]
    assert found["encoders"]["state"] == GOOD and "libx264" in found["encoders"]["value"]
    assert found["mini"]["state"] == GOOD
    assert all(each["state"] in (GOOD, NOTE, BAD) for each in found.values())
    assert not [each for each in found.values() if "could not be looked at" in each["value"]]
    assert list(here.iterdir()) == []


def test_people_read_the_same_rows_and_the_next_step_last(kinoform: Run) -> None:
    told, text = kinoform("doctor", "--json").told[0], kinoform("doctor").out
    assert text.rstrip().splitlines()[-1] == told["next_step"]
    assert all(name in text for name in rows(told))
    assert "\n- accelerator" in text or "\n  cuda:0" in text or "\n  mps" in text


@pytest.mark.parametrize("name", ["math", "flash"])
def test_kernels_that_run_agree_with_float64(name: str) -> None:
    found = {each.name: each for each in kernels.attention(CPU)}[f"{name} on cpu"]
    distance = found.facts["float32"]
    assert isinstance(distance, float) and 0 < distance < 1e-5 and found.state == GOOD


def test_a_kernel_that_computes_something_else_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = torch.nn.functional.scaled_dot_product_attention

    def wrong(*inputs: Any) -> torch.Tensor:
        found = attend(*inputs)
        return found if found.dtype == torch.float64 else found * 1.2

    monkeypatch.setattr("kinoform.doctor.kernels.F.scaled_dot_product_attention", wrong)
    found = [each for each in kernels.attention(CPU) if each.facts["float32"] is not None]
    assert found and all(each.state == BAD and "WRONG" in each.value for each in found)


def test_a_kernel_that_gives_no_number_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinoform.doctor.kernels._distance", lambda *words: float("nan"))
    assert {each.state for each in kernels.attention(CPU)} == {BAD}


def test_products_are_timed_in_both_precisions() -> None:
    (found,) = kernels.products(CPU)
    assert all(of_type(float, speed) > 0 for speed in found.facts.values()) and len(found.facts) == 2


def test_what_fails_is_a_row_and_the_rest_is_told() -> None:
    def half() -> Iterator[Finding]:
        yield Finding(name="first", value="fine")
        raise OSError(5, "disk\non fire")

    def quiet() -> Iterator[Finding]:
        raise RuntimeError
        yield

    found = section("all", (("half", half), ("quiet", quiet), ("whole", lambda: [Finding(name="last", value="fine")])))
    assert [(each.name, each.state) for each in found.findings] == [
        ("first", GOOD), ("half", BAD), ("quiet", BAD), ("last", GOOD)
    ]  # fmt: skip
    assert "OSError: [Errno 5] disk" in found.findings[1].value and "\n" not in found.findings[1].value


def test_a_broken_pytorch_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so is not there')\n")
    program = "from kinoform.cli.doctor import doctor; doctor(as_json=False)"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "! attention" in ran.stdout and "libtorch.so is not there" in ran.stdout
    assert "  encoders" in ran.stdout and "  memory" in ran.stdout
    assert ran.stdout.splitlines()[-1].startswith("Mend first: PyTorch build, could not be looked at")


def test_a_damaged_model_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*words: object) -> None:
        raise WeightsError("transformer.safetensors is damaged")

    monkeypatch.setattr("kinoform.loading.own.verify", damaged)
    found = section("models", ((examine.MODELS, examine.embedded),))
    assert found.findings[0].state == BAD and "is damaged" in found.findings[0].value
    assert "embedded model is damaged" in examine.next_step((found,))


def row(name: str, state: str, value: str = "so") -> tuple[Section]:
    return (Section(title="some", findings=(Finding(name=name, value=value, state=state),)),)


def test_the_next_step_depends_on_what_was_found() -> None:
    steps = [
        examine.next_step(each)
        for each in (row("accelerator", BAD), row("cuda:0", GOOD), row("disk", NOTE), row("cache folder", BAD, "full"))
    ]
    assert len(set(steps)) == 4
    assert "pytorch.org" in steps[0] and "--model FOLDER" in steps[1] and "a red ball" in steps[2]
    assert steps[3] == "Mend first: cache folder, full."


def test_a_gpu_without_its_pytorch_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    for tool, state in (("/usr/bin/nvidia-smi", BAD), (None, NOTE)):
        monkeypatch.setattr("shutil.which", lambda name, tool=tool: tool)
        monkeypatch.setattr("kinoform.doctor.machine.Path.exists", lambda path: False)
        (found,) = machine.accelerators()
        assert found.state == state


def test_memory_that_the_system_does_not_tell_of_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinoform.doctor.machine._read", lambda path: "")
    (told,) = machine.memory()
    assert told.state == GOOD and told.facts["free"] is None
    monkeypatch.delattr("os.sysconf")
    (told,) = machine.memory()
    assert told.state == NOTE


@pytest.mark.parametrize("units", [{}, {"avx512_bf16": True}], ids=str)
def test_a_processor_that_emulates_bfloat16_is_told_of(units: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    cpu.emulates.cache_clear()
    found = {row.name: row for row in machine.processor()}["instructions"]
    cpu.emulates.cache_clear()
    assert found.facts["bfloat16_emulated"] is not bool(units)
    assert ("bfloat16 is emulated" in found.value) is not bool(units)


def test_the_limit_of_a_container_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n",
        machine.MEMORY_LIMITS[0]: "2000000000\n",
    }
    monkeypatch.setattr("kinoform.doctor.machine._read", lambda path: texts.get(path, "max"))
    (told,) = machine.memory()
    assert told.value == "8.2 GB, 4.1 GB free; this process is limited to 2.0 GB"


def test_a_cache_folder_that_cannot_be_written_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))
    assert next(each.state for each in machine.cache()) == GOOD
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    folder, disk = machine.cache()
    assert folder.state == BAD and "Permission denied" in folder.value and of_type(int, disk.facts["free"]) > 0


def test_a_home_folder_is_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert str(tmp_path) not in " ".join(each.value for each in machine.cache())


def test_options_of_kinoform_that_are_not_installed_come_with_their_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2", 'nowhere_to_be_found>=1; extra == "some"', 'av; extra == "other"', 'ruff; extra == "dev"']
    monkeypatch.setattr("kinoform.doctor.versions.requires", lambda name: lines)
    other, some = versions.extras()
    assert (other.name, other.state) == ("extra other", GOOD)
    assert some.state == NOTE and 'pip install "kinoform[some]"' in some.value


def test_a_missing_encoder_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    from av.codec.codec import UnknownCodecError

    def lacking(name: str, mode: str) -> None:
        if name == "libsvtav1":
            raise UnknownCodecError(name)

    monkeypatch.setattr("av.codec.Codec", lacking)
    ffmpeg, found = versions.encoders()
    assert ffmpeg.value.startswith("libavcodec") and found.state == BAD and "libsvtav1" in found.value
