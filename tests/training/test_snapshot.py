"""A run reduced to a snapshot, and a new run that begins from it where the old one is gone."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.checkpoints.hashes import file_hash
from kinoform.mini.training.plan import prepare_tokenizer, train_text
from kinoform.training import snapshot
from kinoform.training.checkpoint import held, latest
from kinoform.training.distributed import Rank, SingleProcess
from kinoform.training.loop import Outcome, train
from kinoform.training.metrics import Measurement, read_metrics
from kinoform.training.snapshot import averaged, read_snapshot, write_snapshot
from tests.support.refusals import refused
from tests.training.test_stages import QUIET, tiny_plan
from tests.training.tiny_stage import OPTIONS, SPEC, STEPS, TinyConfig, TinyStage

HALF = 20


class Killed(BaseException):
    pass


def killed_at(step: int) -> Callable[[int], None]:
    def kill(now: int) -> None:
        if now == step:
            raise Killed

    return kill


def never(step: int) -> None:
    pytest.fail(f"step {step} was trained")


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power does not fail in these tests."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed three steps behind its newest checkpoint."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(Killed):
        train(TinyStage(at=killed_at(HALF + 3)), folder / "tiny", SPEC, OPTIONS)
    return folder


@pytest.fixture
def kept(run: Path, tmp_path: Path) -> Path:
    write_snapshot(run, tmp_path / "kept")
    return tmp_path / "kept"


def restart(kept: Path, folder: Path, stage: TinyStage | None = None) -> Outcome:
    return train(stage or TinyStage(), folder / "tiny", SPEC, replace(OPTIONS, snapshot=kept))


def without_seconds(folder: Path) -> list[Measurement]:
    return [replace(entry, seconds=0.0) for entry in read_metrics(folder / "tiny" / "losses.jsonl")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_only_read_also_while_it_goes_on(run: Path, tmp_path: Path) -> None:
    with held(run), held(run / "tiny"):
        before = contents(run)
        progress = write_snapshot(run, tmp_path / "kept")
        assert contents(run) == before
    assert {name: counts.step for name, counts in progress.items()} == {"tiny": HALF}
    saved = latest(run / "tiny" / "checkpoints")
    assert saved is not None
    stored = load_file(tmp_path / "kept" / "tiny.snapshot.safetensors")
    assert stored.keys() == saved.state["learner"]["model"].keys()
    for name, tensor in saved.state["learner"]["ema"]["tensors"].items():
        assert torch.equal(stored[name], tensor.half())


def test_a_new_run_begins_with_the_averaged_weights_and_counts_on(kept: Path, run: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    first: list[torch.Tensor] = []

    def noted(step: int) -> None:
        steps.append(step)
        first.append(stage.net.state_dict()["0.weight"].clone())

    stage = TinyStage(at=noted)
    outcome = restart(kept, tmp_path / "new", stage)
    assert steps == list(range(HALF, STEPS))
    assert torch.equal(first[0], read_snapshot(kept)["tiny"].weights["0.weight"].float())
    assert (outcome.progress.step, outcome.progress.restart) == (STEPS, HALF)
    assert (outcome.progress.samples, outcome.progress.flops) == (4 * STEPS, 1e3 * STEPS)
    old, new = without_seconds(run)[:HALF], without_seconds(tmp_path / "new")
    assert new[:HALF] == old and [entry.step for entry in new] == list(range(STEPS))
    rate = SPEC.optimizer.adam.learning_rate
    for step, rise in ((HALF, 0.2), (HALF + 1, 0.4), (HALF + 4, 1.0), (HALF + 5, 1.0)):
        assert new[step].learning_rate == pytest.approx(rise * SPEC.schedule.factor(step) * rate)
    seconds = [entry.seconds for entry in read_metrics(tmp_path / "new" / "tiny" / "losses.jsonl")]
    assert seconds == sorted(seconds) and seconds[HALF - 1] > 0


@pytest.mark.parametrize("victim", [HALF, HALF + 7])
def test_killed_after_its_restart_it_goes_on_bit_for_bit_without_the_snapshot(
    kept: Path, tmp_path: Path, victim: int
) -> None:
    """Also before it has saved anything of its own."""
    whole = restart(kept, tmp_path / "whole")
    with pytest.raises(Killed):
        restart(kept, tmp_path / "killed", TinyStage(at=killed_at(victim)))
    rest = train(TinyStage(), tmp_path / "killed" / "tiny", SPEC, OPTIONS)
    assert without_seconds(tmp_path / "killed") == without_seconds(tmp_path / "whole")
    assert all(torch.equal(tensor, whole.ema.tensors[name]) for name, tensor in rest.ema.tensors.items())


def test_what_has_a_checkpoint_goes_on_from_it(kept: Path, tmp_path: Path) -> None:
    whole = train(TinyStage(), tmp_path / "whole" / "tiny", SPEC, OPTIONS)
    with pytest.raises(Killed):
        train(TinyStage(at=killed_at(HALF + 8)), tmp_path / "new" / "tiny", SPEC, OPTIONS)
    rest = restart(kept, tmp_path / "new")
    assert without_seconds(tmp_path / "new") == without_seconds(tmp_path / "whole")
    assert replace(rest.progress, seconds=0.0) == replace(whole.progress, seconds=0.0)


def test_a_finished_stage_is_not_trained_again_and_gives_what_would_be_saved(tmp_path: Path) -> None:
    first = train(TinyStage(), tmp_path / "run" / "tiny", SPEC, OPTIONS)
    write_snapshot(tmp_path / "run", tmp_path / "kept")
    again = restart(tmp_path / "kept", tmp_path / "new", TinyStage(at=never))
    assert again.progress.step == STEPS
    assert all(torch.equal(tensor.half(), first.ema.tensors[name].half()) for name, tensor in again.ema.tensors.items())
    write_snapshot(tmp_path / "new", tmp_path / "second")
    weights = "tiny.snapshot.safetensors"
    assert (tmp_path / "second" / weights).read_bytes() == (tmp_path / "kept" / weights).read_bytes()


def test_the_average_goes_on_as_slowly_as_before(kept: Path, tmp_path: Path) -> None:
    restart(kept, tmp_path / "new")
    saved = latest(tmp_path / "new" / "tiny" / "checkpoints")
    assert saved is not None and saved.state["learner"]["ema"]["updates"] == STEPS // SPEC.ema.every


def entry(step: int, loss: float | None) -> Measurement:
    return Measurement(
        step=step,
        samples=step + 1,
        loss=loss,
        learning_rate=0.1,
        gradient_norm=loss,
        seconds=float(step),
        flops=float(step),
    )


def test_a_log_is_averaged_over_equal_ranges_and_may_be_again() -> None:
    entries = [entry(step, None if step in (4, 6, 7) else float(step)) for step in range(9)]
    lines = averaged(entries, width=2)
    assert [(line.step, line.loss, line.samples) for line in lines] == [
        (1, 0.5, 2), (3, 2.5, 4), (5, 5.0, 6), (7, None, 8), (8, 8.0, 9),
    ]  # fmt: skip
    assert lines[0].gradient_norm == 0.5
    assert [line.loss for line in averaged(averaged([entry(n, float(n)) for n in range(8)], width=2), width=4)] == [
        1.5, 5.5,
    ]  # fmt: skip
    assert len(averaged([entry(n, 1.0) for n in range(14_000)], width=47)) <= snapshot.MAX_LINES


def test_a_snapshot_is_written_whole_or_not_at_all(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_snapshot(run, tmp_path / "kept")
    with refused("file_exists", "kept"):
        write_snapshot(run, tmp_path / "kept")
    before = contents(tmp_path)
    write_snapshot(run, tmp_path / "kept", force=True)
    assert contents(tmp_path) == before, "the same run gives the same bytes"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot, "file_hash", full)
    with refused("disk_full"):
        write_snapshot(run, tmp_path / "kept", force=True)
    assert contents(tmp_path) == before
    (tmp_path / "kept" / "mine.txt").write_text("notes")
    with refused("folder_holds_others", "mine.txt"):
        write_snapshot(run, tmp_path / "kept", force=True)


def test_a_run_without_a_checkpoint_gives_none(tmp_path: Path) -> None:
    (tmp_path / "run" / "tiny" / "checkpoints").mkdir(parents=True)
    with refused("checkpoint_missing", "run"):
        write_snapshot(tmp_path / "run", tmp_path / "kept")
    with refused("file_missing", "gone"):
        write_snapshot(tmp_path / "gone", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def poison(file: Path) -> None:
    """Put NaN into the weights, with a hash to match."""
    weights, manifest = load_file(file), file.with_suffix(".json")
    weights["0.bias"][1] = float("nan")
    save_file(weights, file)
    record = json.loads(manifest.read_text())
    record["sha256"]["safetensors"] = file_hash(file)
    manifest.write_text(json.dumps(record))


def narrow(file: Path) -> None:
    """Drop a parameter, with a hash to match."""
    weights, manifest = load_file(file), file.with_suffix(".json")
    save_file({name: value for name, value in weights.items() if name != "0.bias"}, file)
    record = json.loads(manifest.read_text())
    record["sha256"]["safetensors"] = file_hash(file)
    manifest.write_text(json.dumps(record))


FAULTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("safetensors", truncate, "weights_damaged"),
    ("safetensors", poison, "weights_not_finite"),
    ("safetensors", Path.unlink, "weights_missing"),
    ("jsonl", truncate, "snapshot_damaged"),
    ("jsonl", Path.unlink, "snapshot_damaged"),
    ("json", truncate, "snapshot_damaged"),
    ("json", lambda file: file.write_text('{"progress": {"step": -1}}') and None, "snapshot_damaged"),
    ("json", Path.unlink, "snapshot_damaged"),
]


@pytest.mark.parametrize(("kind", "fault", "code"), FAULTS, ids=[f"{kind}-{code}" for kind, _, code in FAULTS])
def test_damage_is_refused_before_anything_is_trained(
    kept: Path, tmp_path: Path, kind: str, fault: Callable[[Path], object], code: str
) -> None:
    fault(kept / f"tiny.snapshot.{kind}")
    with refused(code, f"tiny.snapshot.{kind}"):
        restart(kept, tmp_path / "new", TinyStage(at=never))
    assert not (tmp_path / "new").exists()


def test_foreign_folders_and_other_plans_are_refused(kept: Path, tmp_path: Path) -> None:
    with refused("not_a_snapshot", str(tmp_path)):
        restart(tmp_path, tmp_path / "new", TinyStage(at=never))
    with refused("file_missing", "gone"):
        restart(tmp_path / "gone", tmp_path / "new", TinyStage(at=never))
    with refused("snapshot_of_other_plan", "stage.width: saved 8, now 9"):
        restart(kept, tmp_path / "new", TinyStage(TinyConfig(width=9), at=never))
    assert not (tmp_path / "new").exists()
    narrow(kept / "tiny.snapshot.safetensors")
    with refused("checkpoint_damaged", "0.bias"):
        restart(kept, tmp_path / "new", TinyStage(at=never))
    assert not list((tmp_path / "new").rglob("*.jsonl")) and not list((tmp_path / "new").rglob("step-*"))


def test_a_stage_that_the_snapshot_has_not_begins_anew(kept: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    train(TinyStage(at=steps.append), tmp_path / "new" / "other", SPEC, replace(OPTIONS, snapshot=kept))
    assert steps == list(range(STEPS))


def test_checkpoints_from_before_snapshots_are_read(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "old")
    manifest = tmp_path / "old" / "tiny" / "checkpoints" / f"step-{HALF:08d}" / "manifest.json"
    record = json.loads(manifest.read_text())
    del record["progress"]["restart"]
    manifest.write_text(json.dumps(record))
    saved = latest(tmp_path / "old" / "tiny" / "checkpoints")
    assert saved is not None and (saved.progress.step, saved.progress.restart) == (HALF, 0)


class Follower(SingleProcess):
    """The second of two processes, of which the first is quick and keeps the folder."""

    rank = Rank(1, 2)


def test_every_process_begins_from_it_and_the_first_alone_writes(kept: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    stage, options = TinyStage(at=steps.append, rank=Follower.rank), replace(OPTIONS, snapshot=kept)
    outcome = train(stage, tmp_path / "new" / "tiny", SPEC, options, Follower())
    assert steps == list(range(HALF, STEPS)) and outcome.progress.restart == HALF
    assert not (tmp_path / "new").exists()


def test_stages_of_the_embedded_model_begin_from_their_own(tmp_path: Path) -> None:
    """Their plan knows nothing of it."""
    plan, stopped = tiny_plan(), replace(QUIET, seconds=1e-9)
    tokenizer = prepare_tokenizer(plan, tmp_path / "run")
    train_text(plan, tmp_path / "run", tokenizer, stopped)
    assert write_snapshot(tmp_path / "run", tmp_path / "kept")["text"].step == 1
    _, report = train_text(plan, tmp_path / "new", tokenizer, replace(QUIET, snapshot=tmp_path / "kept"))
    saved = latest(tmp_path / "new" / "text" / "checkpoints")
    assert saved is not None and (saved.progress.restart, saved.progress.step) == (1, report["steps"])
