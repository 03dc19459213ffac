import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from kinoform.errors import KinoformError
from kinoform.training.metrics import Log, Measurement, bar, read


def entry(step: int) -> Measurement:
    return Measurement(
        step=step,
        samples=step,
        loss=0.5,
        learning_rate=0.1,
        gradient_norm=1.0,
        seconds=0.1 * step,
        flops=1.0,
    )


def fill(path: Path, steps: range) -> None:
    with Log(path, step=steps.start) as log:
        for step in steps:
            log.write(entry(step))


def test_each_line_can_be_read_while_the_log_is_open(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    with Log(path, step=0) as log:
        log.write(entry(0))
        assert read(path) == [entry(0)]
        log.write(replace(entry(1), loss=None))
        assert json.loads(path.read_text().splitlines()[1])["loss"] is None


@pytest.mark.parametrize("torn", ["", '{"step": 10, "los', '{"step": 3}\n', "\udcff\n"])
def test_a_resumed_log_is_one_clean_sequence(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "losses.jsonl"
    fill(path, range(10))
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(torn)
    fill(path, range(6, 12))
    assert read(path) == [entry(step) for step in range(12)]
    assert len(path.read_text().splitlines()) == 12


def test_a_last_line_without_its_end_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    fill(path, range(3))
    path.write_text(path.read_text().rstrip("\n"))
    fill(path, range(3, 5))
    assert read(path) == [entry(step) for step in range(5)]


def test_floats_survive_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    odd = replace(entry(0), loss=0.1 + 0.2, gradient_norm=1e-300)
    with Log(path, step=0) as log:
        log.write(odd)
    assert read(path) == [odd]


def test_a_full_disk_ends_with_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(KinoformError, match=r"log .* could not be written: .*No space left"),
        Log(tmp_path / "losses.jsonl", step=0) as log,
    ):
        log._file.close()
        log._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
        log.write(entry(0))


def test_a_line_that_fits_only_in_part_is_a_full_disk_and_is_dropped_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    fill(path, range(3))

    class Nearly:
        def __init__(self, file: io.FileIO) -> None:
            self.file = file

        def write(self, data: bytes) -> int:
            return self.file.write(data[:20])

        def close(self) -> None:
            self.file.close()

    with pytest.raises(KinoformError, match="No space left"), Log(path, step=3) as log:
        log._file = Nearly(log._file)
        log.write(entry(3))
    fill(path, range(3, 5))
    assert read(path) == [entry(step) for step in range(5)]


def test_a_short_training_shows_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    with bar(3, done=0) as tell:
        tell(1, 0.5)
    assert capfd.readouterr() == ("", "")


def test_a_long_training_shows_its_steps_and_loss(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinoform.training.metrics._SHOWN_AFTER", -1.0)
    with bar(30, done=0) as tell:
        tell(12, 0.25)
    out, err = capfd.readouterr()
    assert out == ""
    assert "12/30" in err
    assert "loss 0.2500" in err
