"""The training loop: exact after any interruption, and ignorant of what it trains."""

import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from kinoform.errors import Interrupted, KinoformError, NonFiniteError, UsageError
from kinoform.files import whole
from kinoform.stopping import PATIENCE, stop_signals
from kinoform.training import checkpoint
from kinoform.training.checkpoint import TrainingCheckpoint, TrainingProgress, fingerprint, held
from kinoform.training.devices import CPU, device_of, moved
from kinoform.training.distributed import ProcessGroup, SingleProcess
from kinoform.training.ema import EMA
from kinoform.training.learner import Learner
from kinoform.training.metrics import Log, Measurement, bar, written
from kinoform.training.observe import Observers, RunView, StepLoss, StepReport
from kinoform.training.recompute import recompute_blocks
from kinoform.training.rng import kept_randomness, randomness, restore_randomness, seed_everything
from kinoform.training.snapshot import StageSnapshot, check_training, read_snapshot
from kinoform.training.stage import NamedStage, RunOptions, SampledStage, Stage, TrainingSpec
from kinoform.training.swap import place

_SHOWN = 8
"""Names of a bad batch in a message, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The module of the stage holds the last weights; `ema` holds the ones to ship; both are on the CPU."""

    progress: TrainingProgress
    ema: EMA


def train(
    stage: Stage, folder: Path, spec: TrainingSpec, options: RunOptions | None = None, group: ProcessGroup | None = None
) -> Outcome:
    """Begin, or continue from the newest complete checkpoint in `folder`, until the schedule's end.

    Killed at any moment and called again, the losses are those of the uninterrupted training, bit for bit
    (on one device, with deterministic kernels). In a group (see `spawn`) every process calls this with a
    stage that makes its part of the batches, and the first one keeps the folder. Writes
    `folder`/checkpoints, `folder`/losses.jsonl and `folder`/samples. Raises Interrupted after Ctrl-C or
    SIGTERM or SIGHUP, when the step is finished and saved; NonFiniteError after too many bad batches; UsageError for
    a folder or a snapshot of another training, a folder that another process is training into, and one that cannot be
    written.
    """
    options, group = options or RunOptions(), group or SingleProcess()
    settings = fingerprint({"stage": stage.config, "training": spec})
    snapshot = None
    if options.snapshot is not None and (snapshot := read_snapshot(options.snapshot).get(folder.name)) is not None:
        check_training(snapshot, settings, options.snapshot / folder.name)
    if group.rank.index:
        with kept_randomness():
            return _follow(_Run(stage, folder, spec, options, group, settings, snapshot))
    with held(folder), kept_randomness():
        return _lead(_Run(stage, folder, spec, options, group, settings, snapshot))


def finished(
    stage: Stage, folder: Path, spec: TrainingSpec, options: RunOptions, group: ProcessGroup | None = None
) -> tuple[nn.Module, dict[str, object]]:
    """Train; return the stage's module with its averaged weights, frozen, and the counts of the training."""
    outcome = train(stage, folder, spec, options, group)
    module = stage.modules().eval()
    outcome.ema.copy_to(module)
    progress = outcome.progress
    return module.requires_grad_(False), {
        "steps": progress.step,
        "samples": progress.samples,
        "flops": progress.flops,
        "seconds": round(progress.seconds, 1),
    }


def _follow(run: "_Run") -> Outcome:
    for _ in run.steps():
        if run.group.any(False):
            break
    return run.outcome()


def _lead(run: "_Run") -> Outcome:
    folder, total = run.folder, run.spec.schedule.total
    if run.progress.step < total:
        checkpoint.check_room(folder, sum(item.numel() for item in run.learner.masters.parameters.values()))
    run.begin_log()
    with (
        Log(folder / "losses.jsonl", step=run.progress.step) as log,
        bar(total, done=run.progress.step, shown=run.options.show_progress) as draw,
        _stop_signals() as signals,
        run.observers.told(),
    ):
        if run.progress.step:
            run.save(log, must=True)  # what a snapshot gave; a checkpoint is there already
        for measurement in run.steps():
            log.write(measurement)
            draw(measurement.step + 1, measurement.loss)
            if run.options.on_progress is not None:
                run.options.on_progress(folder.name, measurement.step + 1, total)
            if run.group.any(bool(signals)):
                run.save(log, must=True)
                cause = signals[0] if signals else "the end of the process that began it"
                raise Interrupted(
                    f"stopped by {cause} after {run.progress.step} of {total} steps; "
                    f"saved in {folder}; run the same command to continue",
                    code="training_stopped",
                )
            run.keep_up(log)
        run.save(log, must=True)
    return run.outcome()


class _Run:
    def __init__(
        self, stage: Stage, folder: Path, spec: TrainingSpec, options: RunOptions, group: ProcessGroup,
        settings: dict[str, str], snapshot: StageSnapshot | None,
    ) -> None:  # fmt: skip
        self.stage, self.folder, self.spec, self.options, self.group = stage, folder, spec, options, group
        self.checkpoints, self.fingerprint, self.snapshot = folder / "checkpoints", settings, snapshot
        if group.rank.index == 0:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            checkpoint.sweep(self.checkpoints)
        group.any(False)  # nobody reads before the folder is in order
        self.device = device_of(group.rank, options.device)
        module = stage.modules().train()
        place(module, self.device, options.swap_blocks)
        recompute_blocks(module, options.recompute)
        if options.compile:
            module.compile()
        self.learner = Learner(module, spec, group)
        self.progress, self.saved = self._start()
        self.view = RunView(folder=folder, device=self.device, total=spec.schedule.total, averaged=self._averaged)
        self.observers = Observers(options.observers if group.rank.index == 0 else (), self.view)
        group.any(False)  # nobody writes before all have read

    def _start(self) -> tuple[TrainingProgress, int | None]:
        """Return the progress, and the step of the checkpoint that it was read from, if it was."""
        saved = checkpoint.latest(self.checkpoints, self.fingerprint)
        seed_everything(self.spec.seed)
        if saved is None:
            return self._restarted(), None
        with _fitting(saved.progress, self.checkpoints):
            self.learner.load_state_dict(saved.state["learner"])
            restore_randomness(saved.state["randomness"])
        self.snapshot = None
        return saved.progress, saved.progress.step

    def _restarted(self) -> TrainingProgress:
        if self.snapshot is None or self.options.snapshot is None:
            return TrainingProgress()
        progress = self.snapshot.progress
        with _fitting(progress, self.options.snapshot):
            self.learner.restart(self.snapshot.weights, progress.step)
        return replace(progress, streak=0, restart=progress.step)

    def begin_log(self) -> None:
        """Write the log of the snapshot that the training begins from, if it does."""
        if self.snapshot is not None:
            with whole(self.folder / "losses.jsonl", force=True) as temporary:
                temporary.write_bytes(written(self.snapshot.log))

    def steps(self) -> Iterator[Measurement]:
        """Yield one finished step at a time, until the schedule or the time is spent."""
        start = time.monotonic() - self.progress.seconds
        total = self.spec.schedule.total
        self._next = self._batch(self.progress.step * self._parts)
        while self.progress.step < total and not self._out_of_time():
            step = self.progress.step
            told: list[StepLoss] = []
            loss = self.learner.gradients(self._losses(step, told))
            norm = self.learner.clipped()
            # The next batch is prepared before the loss is read: an accelerator works meanwhile.
            self._next = self._batch((step + 1) * self._parts)
            read, length = torch.stack([loss, norm.detach().float()]).tolist()
            finite = isfinite(read) and isfinite(length)
            if finite:
                self.learner.apply(step, self._factor(step))
            self.progress = self._after(finite, time.monotonic() - start)
            measured = self._measured(step, read, length)
            if self.observers:
                self.observers.step(self._report(measured, told))
            yield measured
            if not finite:
                self._complain(step, read, length)

    def _losses(self, step: int, told: list[StepLoss]) -> Iterator[Tensor]:
        """Yield the losses of a step's batches, each times its share of the samples; `told` has what they tell."""
        counts = [self.stage.samples(index) for index in self._batches(step)]
        for index, count in zip(self._batches(step), counts, strict=True):
            loss = self.stage.loss(self._next)
            told.append(loss if isinstance(loss, StepLoss) else StepLoss(total=loss))
            total = told[-1].total
            yield total if len(counts) == 1 else total * (count / sum(counts))
            if index + 1 < (step + 1) * self._parts:
                self._next = self._batch(index + 1)

    @property
    def _parts(self) -> int:
        return self.spec.accumulate or 1

    def _batches(self, step: int) -> range:
        """The indices of the batches of a step."""
        return range(step * self._parts, (step + 1) * self._parts)

    def _factor(self, step: int) -> float:
        return self.spec.schedule.factor(step, restart=self.progress.restart)

    def _batch(self, index: int) -> Any:
        return moved(self.stage.batch(index), self.device) if index < self.spec.schedule.total * self._parts else None

    def _out_of_time(self) -> bool:
        budget = self.options.seconds
        return budget is not None and self.group.any(self.progress.seconds >= budget)

    def _after(self, finite: bool, seconds: float) -> TrainingProgress:
        now = self.progress
        return replace(
            now,
            step=now.step + 1,
            samples=now.samples + sum(map(self.stage.samples, self._batches(now.step))),
            flops=now.flops + sum(map(self.stage.flops, self._batches(now.step))),
            seconds=seconds,
            skipped=now.skipped + (not finite),
            streak=0 if finite else now.streak + 1,
        )

    def _measured(self, step: int, loss: float, norm: float) -> Measurement:
        rate = self.spec.optimizer.adam.learning_rate
        return Measurement(
            step=step,
            samples=self.progress.samples,
            loss=loss if isfinite(loss) else None,
            learning_rate=rate * self._factor(step),
            gradient_norm=norm if isfinite(norm) else None,
            seconds=self.progress.seconds,
            flops=self.progress.flops,
        )

    def _report(self, measured: Measurement, told: Sequence[StepLoss]) -> StepReport:
        sigma, each = _numbers([part.sigma for part in told]), _numbers([part.each for part in told])
        return StepReport(
            measurement=measured, run=self.view, names=lambda: self._names(measured.step), sigma=sigma, each=each
        )

    def _names(self, step: int) -> list[str]:
        stage = self.stage
        return [name for n in self._batches(step) for name in stage.names(n)] if isinstance(stage, NamedStage) else []

    @contextmanager
    def _averaged(self) -> Iterator[nn.Module]:
        module = self.learner.module
        try:
            with kept_randomness(), torch.no_grad(), self.learner.ema.swapped(module.eval()):
                yield module
        finally:
            module.train()

    def _complain(self, step: int, loss: float, norm: float) -> None:
        named = ", ".join(self._names(step)[:_SHOWN])
        bad = f"batch {step}{f' ({named})' if named else ''} gave loss {loss} and gradient norm {norm}"
        if self.progress.streak >= self.spec.patience:
            raise NonFiniteError(
                f"{bad}, {self.progress.streak} bad ones in a row; the checkpoints in {self.checkpoints} are "
                "intact; look at this batch, or train with a lower learning rate in another folder",
                code="training_not_finite",
            )
        warnings.warn(f"{bad}; its step was skipped ({self.progress.skipped} so far)", stacklevel=2)

    def keep_up(self, log: Log) -> None:
        step, every = self.progress.step, self.options.sample_every
        if step % self.options.save_every == 0:
            self.save(log)
        if every and step % every == 0 and isinstance(self.stage, SampledStage):
            self._sample(self.stage, step)

    def save(self, log: Log, *, must: bool = False) -> None:
        """Save unless saved; a failure on the way is a warning, since the next save may succeed."""
        if self.saved == self.progress.step:
            return
        state = moved({"learner": self.learner.state_dict(), "randomness": randomness()}, CPU)
        state_now = TrainingCheckpoint(progress=self.progress, fingerprint=self.fingerprint, state=state)
        try:
            log.sync()
            checkpoint.save(self.checkpoints, state_now, keep=self.options.keep)
            self.saved = self.progress.step
        except NonFiniteError:
            raise
        except KinoformError as failure:
            if must:
                raise
            warnings.warn(f"training goes on without a new checkpoint: {failure}", stacklevel=2)

    def outcome(self) -> Outcome:
        ema = self.learner.ema
        self.learner.module.to(CPU)
        ema.tensors = moved(ema.tensors, CPU)
        return Outcome(progress=self.progress, ema=ema)

    def _sample(self, stage: SampledStage, step: int) -> None:
        folder = self.folder / "samples"
        try:
            folder.mkdir(exist_ok=True)
            with self._averaged():
                stage.sample(step, folder)
        except Exception as failure:
            # A preview is not worth a night of training, whatever is wrong with it.
            warnings.warn(f"the sample after {step} steps failed: {failure!r}", stacklevel=2)


def _numbers(parts: Sequence[Tensor | None]) -> tuple[float, ...] | None:
    there = [part for part in parts if part is not None]
    return tuple(torch.cat(there).tolist()) if len(there) == len(parts) else None


@contextmanager
def _fitting(progress: TrainingProgress, path: Path) -> Iterator[None]:
    """Raise UsageError when a state that was read from `path` does not fit what is trained."""
    try:
        yield
    except KinoformError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as failure:
        raise UsageError(
            f"the state after {progress.step} steps in {path} does not fit what is trained "
            f"({' '.join(str(failure).split())[:200]}); use the version of kinoform that wrote it, or train in "
            "another folder",
            code="checkpoint_damaged",
        ) from failure


@contextmanager
def _stop_signals() -> Iterator[list[str]]:
    """Collect the name of the first signal to stop; one that comes a moment later acts as it would without us."""
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may listen
        return
    former = {number: signal.getsignal(number) for number in stop_signals()}
    received_at = 0.0

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal received_at
        if not received:
            received.append(signal.Signals(number).name)
            received_at = time.monotonic()
        elif time.monotonic() - received_at > PATIENCE:
            restore()
            signal.raise_signal(number)

    for number in former:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()
