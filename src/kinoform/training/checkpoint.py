"""The folder of a training, which may be killed at any moment: checkpoints are whole or absent, and damage is noticed.

One process at a time uses the folder (`held`). A checkpoint is a folder `step-00001200` with `state.pt` (tensors and
plain values, read without running code) and `manifest.json` (progress, settings as text, length and SHA-256 of the
state). It is written under a name with a leading dot and renamed when everything has reached the disk.
"""

import errno
import hashlib
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from math import inf
from pathlib import Path
from types import FunctionType
from typing import Any, BinaryIO

import torch
from filelock import FileLock, Timeout

from kinoform.checkpoints.hashes import file_hash
from kinoform.errors import FitError, KinoformError, NonFiniteError, UsageError
from kinoform.files import whole_folder

FORMAT = 1
_UNPICKLING = (pickle.UnpicklingError, EOFError)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MEGABYTE = 1e6
_MANIFEST_BYTES = 10_000_000
_SHOWN = 4  # settings that differ, in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Counts of a training so far. `step` steps are done, so it is also the index of the next one.

    `samples` and `flops` count what was computed, skipped steps included; `seconds` is wall-clock time
    inside the training over all its runs; `streak` is the number of skipped steps just before now.
    `restart` is the step at which the training began from a snapshot; 0 for one that did not.
    """

    step: int = 0
    samples: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    skipped: int = 0
    streak: int = 0
    restart: int = 0

    def __post_init__(self) -> None:
        counts = self.step, self.samples, self.skipped, self.streak, self.restart
        amounts = self.flops, self.seconds
        if not all(type(count) is int and count >= 0 for count in counts) or not all(
            type(amount) in (int, float) and 0 <= amount < inf for amount in amounts
        ):
            raise UsageError(f"progress is counted in numbers from 0; got {self}", code="value_out_of_range")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCheckpoint:
    """`state` is a tree of dictionaries, lists and tuples over tensors, numbers, strings and None."""

    progress: TrainingProgress
    fingerprint: dict[str, str]
    state: dict[str, Any]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and keep other processes out of it during the block.

    The system ends the hold with the process, however it ends; the file `lock` stays and means nothing by
    itself. Raises UsageError when another holds the folder, and when it is a file or cannot be written.
    """
    lock = FileLock(folder / "lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"another process is training into {folder}; wait until it has ended, or choose another folder",
            code="training_locked",
        ) from None
    except FileExistsError:
        raise UsageError(f"{folder} is a file; choose a folder for the training", code="not_a_folder") from None
    except OSError as failure:
        raise UsageError(
            f"the folder {folder} cannot be written ({failure.strerror or failure}); choose another for the training",
            code="folder_not_writable",
        ) from failure
    try:
        yield
    finally:
        lock.release()


def fingerprint(value: object) -> dict[str, str]:
    """Flatten dataclasses, mappings and sequences: {"schedule": "Schedule", "schedule.warmup": "50", ...}.

    Functions count by name, the members of frozen sets in the order of their text. Raises UsageError for anything else
    than these and plain values, because its text may change between two processes.
    """
    return dict(_entries("", value))


def difference(saved: Mapping[str, str], current: Mapping[str, str]) -> str:
    """Write the first entries that differ as "name: saved x, now y; ... and 7 more", or the empty string.

    A setting of None is as one that is not there: trainings go on where a setting has come since that they lack.
    """
    unset = str(None)
    names = sorted(name for name in {*saved, *current} if saved.get(name, unset) != current.get(name, unset))
    entries = [f"{n}: saved {saved.get(n, 'nothing')}, now {current.get(n, 'nothing')}" for n in names[:_SHOWN]]
    return "; ".join(entries) + (f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def save(folder: Path, checkpoint: TrainingCheckpoint, *, keep: int = 2) -> Path:
    """Write the checkpoint below `folder`, then delete older ones beyond `keep` in all.

    Raises NonFiniteError, writing nothing, when a tensor holds NaN or infinity; FitError when the disk is
    full and KinoformError when it fails otherwise. Earlier checkpoints are intact in each case.
    """
    _check_finite(checkpoint)
    path = folder / f"step-{checkpoint.progress.step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_folder(path, holds="*", force=True) as temporary:
            try:
                _write(temporary, checkpoint)
            except OSError as failure:
                raise _explained(failure, path, checkpoint) from failure
        _sync_folder(folder)
        # Newer ones can only be damaged, or this one would not have been made; they count for nothing.
        older = [item for item in _newest_first(folder) if item.name < path.name]
        for item in older[keep - 1 :]:
            _remove(item)
    except OSError as failure:
        raise _explained(failure, path, checkpoint) from failure
    return path


def latest(folder: Path, fingerprint: dict[str, str] | None = None) -> TrainingCheckpoint | None:
    """Return the newest complete checkpoint, or None; a damaged one is passed over with a warning naming the file.

    Raises UsageError when that checkpoint belongs to a training with another `fingerprint`, if one is given.
    """
    paths = _newest_first(folder)
    for path in paths:
        try:
            manifest = _manifest(path)
            _check_whole(path / "state.pt", manifest)
            differing = "" if fingerprint is None else difference(manifest["fingerprint"], fingerprint)
            if not differing:
                return _read(path, manifest)
        except _Damaged as damage:
            warnings.warn(f"{damage}; trying the checkpoint before it", stacklevel=2)
            continue
        raise UsageError(
            f"{path} belongs to another training: {differing}; restore the setting or choose another folder",
            code="checkpoint_of_other_plan",
        )
    if paths:
        warnings.warn(f"no checkpoint in {folder} is whole; a training into it begins anew", stacklevel=2)
    return None


def sweep(folder: Path) -> None:
    """Remove what a killed `save` left behind. Only one training may use a folder at a time."""
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _entries(name: str, value: object) -> Iterator[tuple[str, str]]:
    label = name or "training"
    if is_dataclass(value) and not isinstance(value, type):
        yield label, type(value).__name__
        for item in fields(value):
            yield from _entries(_below(name, item.name), getattr(value, item.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _entries(_below(name, str(key)), item)
    elif isinstance(value, tuple | list):
        yield label, f"{len(value)} entries"
        for index, item in enumerate(value):
            yield from _entries(_below(name, str(index)), item)
    elif isinstance(value, frozenset):
        yield label, f"{{{', '.join(sorted(map(repr, value)))}}}"
    elif isinstance(value, FunctionType | type):
        yield label, f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, str | int | float | bool | torch.dtype | None):
        yield label, repr(value)
    else:
        raise UsageError(
            f"{label} is {value!r}; a training is described by frozen dataclasses and plain values",
            code="plan_not_plain",
        )


def _below(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


class _Damaged(Exception):
    pass


class _HashingWriter:
    """A file that knows its length and SHA-256, and why it failed: torch.save hides the OSError."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.length = file, hashlib.sha256(), 0
        self.failure: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        try:
            written = self.file.write(data)
        except OSError as failure:
            self.failure = failure
            raise
        self.digest.update(data)
        self.length += written
        return written

    def flush(self) -> None:
        self.file.flush()


def _write(folder: Path, checkpoint: TrainingCheckpoint) -> None:
    with (folder / "state.pt").open("wb") as file:
        recorder = _HashingWriter(file)
        try:
            torch.save(checkpoint.state, recorder)  # type: ignore[arg-type]
        except RuntimeError:
            if recorder.failure is None:
                raise
            raise recorder.failure from None
        _sync(file)
    manifest = {
        "format": FORMAT,
        "progress": asdict(checkpoint.progress),
        "fingerprint": checkpoint.fingerprint,
        "bytes": recorder.length,
        "sha256": recorder.digest.hexdigest(),
    }
    with (folder / "manifest.json").open("wb") as file:
        file.write(json.dumps(manifest, indent=1).encode())
        _sync(file)
    _sync_folder(folder)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        with path.open("rb") as file:
            manifest = json.loads(file.read(_MANIFEST_BYTES))
        readable = manifest["format"] == FORMAT
        manifest["progress"] = TrainingProgress(**manifest["progress"])
        complete = {"bytes", "sha256"} <= manifest.keys() and _is_text(manifest["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
        raise _Damaged(f"{path} is damaged ({failure})") from failure
    if not complete:
        raise _Damaged(f"{path} is incomplete")
    if not readable:
        raise _Damaged(f"{path} has format {manifest['format']}, which this version does not read")
    return manifest


def _is_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())


def _check_whole(path: Path, manifest: dict[str, Any]) -> None:
    try:
        length = path.stat().st_size
        if length != manifest["bytes"]:
            raise _Damaged(f"{path} is damaged: it has {length} bytes instead of {manifest['bytes']}")
        digest = file_hash(path)
    except OSError as failure:
        raise _Damaged(f"{path} cannot be read ({failure})") from failure
    if digest != manifest["sha256"]:
        raise _Damaged(f"{path} is damaged: its SHA-256 is not the one in its manifest")


def _read(path: Path, manifest: dict[str, Any]) -> TrainingCheckpoint:
    try:
        state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, *_UNPICKLING) as failure:
        raise _Damaged(f"{path / 'state.pt'} cannot be read ({failure})") from failure
    if not isinstance(state, dict):
        raise _Damaged(f"{path / 'state.pt'} holds a {type(state).__name__}, not a state")
    return TrainingCheckpoint(progress=manifest["progress"], fingerprint=manifest["fingerprint"], state=state)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=lambda path: path.name, reverse=True)


def _remove(path: Path) -> None:
    # Renamed first: a deletion that is cut short must not leave half a checkpoint under a whole one's name.
    doomed = path.with_name(f".{path.name}-doomed")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_finite(checkpoint: TrainingCheckpoint) -> None:
    for name, tensor in _tensors(checkpoint.state):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFiniteError(
                f"{name} holds NaN or infinity after {checkpoint.progress.step} steps, so no checkpoint was "
                "written; train with a lower learning rate in another folder",
                code="training_not_finite",
            )


def check_room(folder: Path, learning: int) -> None:
    """Raise FitError where a disk has surely no room for a checkpoint of so many numbers that learn.

    They are there in float32 at least three times: themselves, averaged, and as the momentum of the optimizer.
    """
    needed, free = 3 * 4 * learning, shutil.disk_usage(folder).free
    if free < needed:
        raise FitError(
            f"the disk of {folder} has {free / _MEGABYTE:.1f} MB free and a checkpoint takes at least "
            f"{needed / _MEGABYTE:.1f} MB; free some space, or choose a folder on another disk",
            code="checkpoint_disk_full",
        )


def _tensors(tree: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        yield name, tree
    elif isinstance(tree, dict | list | tuple):
        for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _tensors(branch, f"{name}.{key}" if name else str(key))


def _explained(failure: OSError, path: Path, checkpoint: TrainingCheckpoint) -> KinoformError:
    if failure.errno not in _FULL:
        return KinoformError(
            f"{path} could not be written: {failure}; earlier checkpoints are intact", code="write_failed"
        )
    megabytes = sum(tensor.nbytes for _, tensor in _tensors(checkpoint.state)) / _MEGABYTE
    return FitError(
        f"the disk is full: {path} needs about {megabytes:.1f} MB; earlier checkpoints are intact; free "
        "some space or choose a folder on another disk, then run the same command to continue",
        code="checkpoint_disk_full",
    )
