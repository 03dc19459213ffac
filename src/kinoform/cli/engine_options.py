"""Options by which the gradients of a training become steps, and by which it trades time for memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from kinoform.cli import console
from kinoform.cli.options import SETTING, one_of, option
from kinoform.errors import UsageError

if TYPE_CHECKING:
    import torch

    from kinoform.pipelines.pipeline import Pipeline
    from kinoform.training.clip_plan import ClipPlan
    from kinoform.training.like import TrainerDefaults
    from kinoform.training.optimizer import OptimizerSpec
    from kinoform.training.recompute import Recompute
    from kinoform.training.stage import TrainingSpec

STEPPING = "Steps of a LoRA"
SCHEDULES = ("hold", "constant", "linear", "cosine")
OPTIMIZERS = ("adamw", "adamw-8bit", "muon")
RECOMPUTE = ("auto", "none", "full", "selective")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of the optimizer, its schedule, and of what is computed twice to keep less."""

    optimizer: Annotated[
        str | None,
        option(
            STEPPING,
            "adamw (unless --like), adamw-8bit (moments of a byte) or muon; with options: adamw:betas=(0.9,0.99).",
            complete=one_of(OPTIMIZERS),
        ),
        SETTING,
    ] = None
    schedule: Annotated[
        str | None,
        option(
            STEPPING,
            "Of the learning rate: hold (unless --like; constant to 60 %, then down), constant, linear or cosine.",
            complete=one_of(SCHEDULES),
        ),
        SETTING,
    ] = None
    warmup: Annotated[
        int | None, option(STEPPING, "Steps of warm-up; else 20, or a tenth of a short training."), SETTING
    ] = None
    weight_decay: Annotated[
        float | None, option(STEPPING, "Of matrices, per unit of learning rate; else 0."), SETTING
    ] = None
    clip_norm: Annotated[float | None, option(STEPPING, "Bound of the gradients' norm; else 1."), SETTING] = None
    accumulate: Annotated[int, option(STEPPING, "Batches that make one step, as one large batch would."), SETTING] = 1
    ema: Annotated[
        float | None,
        option(STEPPING, "Decay of the averaged weights, which are saved; else 0.98, 0 for none."),
        SETTING,
    ] = None
    recompute: Annotated[
        str,
        option(
            STEPPING,
            "Blocks run again in the backward: full, selective (all but attention), none; auto: where memory is short.",
            complete=one_of(RECOMPUTE),
        ),
        SETTING,
    ] = "auto"
    swap_blocks: Annotated[
        int, option(STEPPING, "Blocks whose frozen matrices lie in the host's memory until they are used."), SETTING
    ] = 0
    keep_packed: Annotated[
        bool | None,
        option(STEPPING, "fp8 and GGUF weights stay as stored; else those of GGUF.", "--keep-packed/--unpack"),
        SETTING,
    ] = None

    def check(self) -> None:
        """Raise UsageError for numbers out of range and unknown names."""
        for name, value, low, high in (
            ("--warmup", self.warmup, 0, 10**7),
            ("--weight-decay", self.weight_decay, 0, 100),
            ("--clip-norm", self.clip_norm, 1e-9, 1e9),
            ("--accumulate", self.accumulate, 1, 10_000),
            ("--ema", self.ema, 0, 0.999999),
            ("--swap-blocks", self.swap_blocks, 0, 10_000),
        ):
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} must be from {low:g} to {high:g}, not {value:g}", code="value_out_of_range")
        if self.recompute not in RECOMPUTE:
            raise UsageError(
                f"--recompute {self.recompute[:40]!r} is none of {', '.join(RECOMPUTE)}", code="unknown_name"
            )

    def recompute_for(self, plan: ClipPlan, device: torch.device, *, refuse: bool = True) -> Recompute:
        """Return what is run again on a device, said aloud where memory decides.

        Raises FitError for a training that cannot fit, unless it is not to be refused.
        """
        from kinoform.training.fit_step import check_step, fitting_recompute
        from kinoform.training.recompute import Recompute

        if self.recompute == RECOMPUTE[0]:
            recompute = fitting_recompute(plan, device)
            if recompute is not Recompute.NONE:
                console.note(f"blocks are run again in the backward: their activations do not fit on {device}")
        else:
            recompute = Recompute(self.recompute)
        if refuse:
            check_step(plan, device, recompute)
        return recompute

    def placed(self, plan: ClipPlan, model: Pipeline | None) -> ClipPlan:
        """Return the plan with where the matrices of its base lie; a model that is not there has none packed."""
        from kinoform.training.base_memory import BasePlacing

        packed = {} if model is None else model.parts.packed()
        return replace(plan, placing=BasePlacing(packed=packed, swap_blocks=self.swap_blocks))

    def optimizer_spec(self, usual: TrainerDefaults, rate: float) -> OptimizerSpec:
        """Return the optimizer at a learning rate, unless its own options say one. Raises UsageError for a name."""
        from kinoform.training.names import optimizer_of
        from kinoform.training.optimizer import OptimizerSpec, no_matrix

        if self.optimizer is None:
            spec = OptimizerSpec(adam=replace(usual.adam, learning_rate=rate), hidden=no_matrix)
        else:
            spec = optimizer_of(self.optimizer, rate)
        if self.weight_decay is None:
            return spec
        adam, muon = (replace(part, weight_decay=self.weight_decay) for part in (spec.adam, spec.muon))
        return replace(spec, adam=adam, muon=muon)

    def training_spec(self, usual: TrainerDefaults, rate: float, steps: int) -> TrainingSpec:
        """Return the settings of a loop of so many steps: the usual ones where no option says another.

        Raises UsageError where they contradict each other.
        """
        from kinoform.training.ema import EMASpec
        from kinoform.training.optimizer import schedule_of
        from kinoform.training.stage import TrainingSpec

        warmup = min(usual.warmup, int(usual.warmup_share * steps)) if self.warmup is None else self.warmup
        return TrainingSpec(
            schedule=schedule_of(self.schedule or usual.schedule, warmup=warmup, total=steps),
            optimizer=self.optimizer_spec(usual, rate),
            ema=usual.ema if self.ema is None else EMASpec(decay=self.ema, every=1),
            clip=usual.clip if self.clip_norm is None else self.clip_norm,
            accumulate=None if self.accumulate == 1 else self.accumulate,
        )
