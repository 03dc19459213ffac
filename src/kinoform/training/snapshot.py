"""Snapshots: runs reduced to what can be kept in a repository, from which new runs begin elsewhere.

A snapshot holds three files of every stage: `NAME.snapshot.safetensors`, its averaged weights in float16, in which
models are saved; `NAME.snapshot.jsonl`, its log averaged over equal ranges of steps; and `NAME.snapshot.json`, its
counts, its settings as text, and the SHA-256 of the other two. The last weights and the optimizer are left out.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoform.checkpoints.files import read_file
from kinoform.checkpoints.hashes import file_hash
from kinoform.errors import UsageError, WeightsError
from kinoform.files import missing, whole_folder
from kinoform.training.checkpoint import TrainingCheckpoint, TrainingProgress, difference, latest
from kinoform.training.metrics import Measurement, parse_metrics, read_metrics, written

FORMAT = 1
HOLDS = "*.snapshot.*"
MAX_LINES = 300
"""Lines of an averaged log, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSnapshot:
    """Stage of a snapshot: the state of its module with averaged weights, and how far the training was.

    A line of `log` stands for the steps since the line before it: loss and gradient norm are means, the totals and the
    learning rate those of the last step.
    """

    progress: TrainingProgress
    fingerprint: dict[str, str]
    weights: dict[str, Tensor]
    log: tuple[Measurement, ...]


def write_snapshot(run: Path, path: Path, *, force: bool = False) -> dict[str, TrainingProgress]:
    """Write the newest complete checkpoint of every stage of a run as a snapshot; return how far each was.

    It only reads the run, which may go on meanwhile. Raises UsageError when the run has no checkpoint, and as
    `whole_folder` does for `force`.
    """
    if not run.exists():
        raise missing(run, "give the folder of a run")
    stages = {
        folder.parent.name: stage_snapshot(checkpoint, folder.parent / "losses.jsonl")
        for folder in sorted(run.glob("*/checkpoints"))
        if (checkpoint := latest(folder)) is not None
    }
    if not stages:
        raise UsageError(
            f"{run} holds no training with a checkpoint; give the folder of a run, after its first 100 steps",
            code="checkpoint_missing",
        )
    with whole_folder(path, holds=HOLDS, force=force) as temporary:
        for name, stage in stages.items():
            _write(temporary, name, stage)
    return {name: stage.progress for name, stage in stages.items()}


def stage_snapshot(checkpoint: TrainingCheckpoint, log: Path) -> StageSnapshot:
    """Reduce a checkpoint of the training loop and its log, which may be missing."""
    learner, step = checkpoint.state["learner"], checkpoint.progress.step
    try:
        entries = [entry for entry in read_metrics(log) if entry.step < step] if log.exists() else []
    except (OSError, ValueError) as failure:
        raise UsageError(f"{log} is not the log of a training ({failure})", code="log_damaged") from failure
    return StageSnapshot(
        progress=checkpoint.progress,
        fingerprint=checkpoint.fingerprint,
        weights={name: _halved(tensor) for name, tensor in {**learner["model"], **learner["ema"]["tensors"]}.items()},
        log=tuple(averaged(entries, width=math.ceil(step / MAX_LINES))),
    )


def averaged(entries: Iterable[Measurement], *, width: int) -> list[Measurement]:
    """Average a log over ranges of `width` steps; each line counts for the steps since the line before it."""
    ranges: dict[int, list[tuple[int, Measurement]]] = {}
    before = -1
    for entry in entries:
        ranges.setdefault(entry.step // width, []).append((entry.step - before, entry))
        before = entry.step
    return [
        replace(
            lines[-1][1],
            loss=_mean((steps, entry.loss) for steps, entry in lines),
            gradient_norm=_mean((steps, entry.gradient_norm) for steps, entry in lines),
        )
        for lines in ranges.values()
    ]


def read_snapshot(path: Path) -> dict[str, StageSnapshot]:
    """Read all stages of a snapshot by name, and so find whether it is whole.

    Raises UsageError for a folder that is none and WeightsError for damage, naming the file.
    """
    if not path.exists():
        raise missing(path, "give a folder that --snapshot wrote")
    names = sorted({file.name.partition(".snapshot.")[0] for file in path.glob(HOLDS)})
    if not names:
        raise UsageError(f"{path} is not a snapshot; give a folder that --snapshot wrote", code="not_a_snapshot")
    return {name: _read(path, name) for name in names}


def check_training(stage: StageSnapshot, fingerprint: Mapping[str, str], path: Path) -> None:
    """Raise UsageError when a stage of the snapshot at `path` belongs to a training with another fingerprint."""
    if differing := difference(stage.fingerprint, fingerprint):
        raise UsageError(
            f"{path} is the snapshot of another training: {differing}; restore the setting or begin without it",
            code="snapshot_of_other_plan",
        )


def _mean(weighted: Iterable[tuple[int, float | None]]) -> float | None:
    finite = [(weight, value) for weight, value in weighted if value is not None]
    total = sum(weight for weight, _ in finite)
    return sum(weight * value for weight, value in finite) / total if total else None


def _halved(tensor: Tensor) -> Tensor:
    """Round float32 to float16; numbers that are too large for it, and other dtypes, stay as they are."""
    half = tensor.half() if tensor.dtype == torch.float32 else tensor
    return (half if half.isfinite().all() else tensor).clone().contiguous()


def _write(folder: Path, name: str, stage: StageSnapshot) -> None:
    files = {kind: _file(folder, name, kind) for kind in ("safetensors", "jsonl")}
    save_file(stage.weights, files["safetensors"])
    files["jsonl"].write_bytes(written(stage.log))
    manifest = {
        "format": FORMAT,
        "progress": asdict(stage.progress),
        "fingerprint": stage.fingerprint,
        "sha256": {kind: file_hash(file) for kind, file in files.items()},
    }
    _file(folder, name, "json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _read(folder: Path, name: str) -> StageSnapshot:
    path, weights, log = (_file(folder, name, kind) for kind in ("json", "safetensors", "jsonl"))
    manifest = _manifest(path)
    read = read_file(weights)
    data = log.read_bytes() if log.exists() else b""
    for file, found, kind in ((weights, read.sha256, "safetensors"), (log, hashlib.sha256(data).hexdigest(), "jsonl")):
        if found != manifest["sha256"][kind]:
            raise _damaged(file, f"its SHA-256 is not the one in {path.name}")
    tensors = {key: stored.read() for key, stored in read.checkpoint.tensors.items()}
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise WeightsError(f"{weights}: {key} holds NaN or infinity; fetch it again", code="weights_not_finite")
    return StageSnapshot(
        progress=manifest["progress"],
        fingerprint=manifest["fingerprint"],
        weights=tensors,
        log=tuple(parse_metrics(data.decode())),
    )


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
        manifest["progress"] = TrainingProgress(**manifest["progress"])
        known = manifest["format"] == FORMAT
        complete = {"safetensors", "jsonl"} <= manifest["sha256"].keys() and all(
            isinstance(text, str) for text in manifest["fingerprint"].values()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as failure:
        raise _damaged(path, str(failure)) from failure
    if not (known and complete):
        raise _damaged(path, "it is incomplete, or of a version of kinoform that this one does not read")
    return manifest


def _damaged(path: Path, fault: str) -> WeightsError:
    return WeightsError(
        f"{path} is damaged ({fault}); fetch the snapshot again, or write it anew", code="snapshot_damaged"
    )


def _file(folder: Path, name: str, kind: str) -> Path:
    return folder / f"{name}.snapshot.{kind}"
