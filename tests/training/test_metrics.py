import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kinoform.training.metrics import Log, Measurement, bar, read_metrics
from tests.support.full_disk import full_disk
from tests.support.refusals import refused


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
        assert read_metrics(path) == [entry(0)]
        log.write(replace(entry(1), loss=None))
        assert json.loads(path.read_text().splitlines()[1])["loss"] is None


DEEP = "[" * 100_000 + "\n"
DOUBLED = json.dumps(asdict(entry(5))) + "\n" + json.dumps(asdict(entry(4))) + "\n"
WORDY = json.dumps(asdict(entry(9)) | {"step": "nine"}) + "\n"


@pytest.mark.parametrize("torn", ["", '{"step": 10, "los', '{"step": 3}\n', "\udcff\n", DEEP, DOUBLED, WORDY])
def test_a_resumed_log_is_one_clean_sequence(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "losses.jsonl"
    fill(path, range(10))
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(torn)
    fill(path, range(6, 12))
    assert read_metrics(path) == [entry(step) for step in range(12)]
    assert len(path.read_text().splitlines()) == 12


def test_a_last_line_without_its_end_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    fill(path, range(3))
    path.write_text(path.read_text().rstrip("\n"))
    fill(path, range(3, 5))
    assert read_metrics(path) == [entry(step) for step in range(5)]


def test_floats_survive_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    odd = replace(entry(0), loss=0.1 + 0.2, gradient_norm=1e-300)
    with Log(path, step=0) as log:
        log.write(odd)
    assert read_metrics(path) == [odd]


def test_lines_wait_for_room_with_one_warning_and_a_checkpoint_waits_for_them(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    with Log(path, step=0) as log:
        log.write(entry(0))
        with full_disk(path.stat().st_size + 20):
            with pytest.warns(UserWarning, match=r"log .*losses\.jsonl has to wait: .*too large") as told:
                log.write(entry(1))
                log.write(entry(2))
            assert len(told) == 1
            with refused("write_failed", "losses.jsonl"):
                log.sync()
        log.sync()
        assert read_metrics(path) == [entry(step) for step in range(3)]
        log.write(entry(3))
    assert read_metrics(path) == [entry(step) for step in range(4)]


def test_a_line_that_was_cut_by_a_full_disk_is_dropped_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    fill(path, range(3))
    with (
        pytest.warns(UserWarning, match="has to wait"),
        Log(path, step=3) as log,
        full_disk(path.stat().st_size + 20),
    ):
        log.write(entry(3))
    assert not path.read_bytes().endswith(b"\n"), "a part of the line is there"
    fill(path, range(3, 5))
    assert read_metrics(path) == [entry(step) for step in range(5)]


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
