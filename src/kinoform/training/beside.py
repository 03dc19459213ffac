"""A training beside our defaults and those of other trainers, in numbers that can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

import torch

from kinoform.solvers.by_expert import expert_names
from kinoform.training.clip_plan import ClipPlan
from kinoform.training.levels import Levels, level_shares
from kinoform.training.like import OURS, TRAINERS, TrainerDefaults
from kinoform.training.names import levels_name, weighting_name
from kinoform.training.optimizer import no_matrix
from kinoform.training.tuning_stage import levels_of
from kinoform.training.weighting import Weighting

DRAWS, BINS, SEED = 20_000, 10, 0
"""Levels that are drawn for a histogram, its bins from clean to noise, and the seed."""

BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideRow:
    """Settings of a training that decide how much it learns, and at which noise levels.

    `rank` is None where whole weights learn, `scale` is alpha / rank. `batch` are the most clips of a step. `shares`
    are the shares of the drawn levels in ten equal parts from clean to noise, `weights` the mean weights of the loss of
    those in each, None where there are none. `clip` None bounds nothing.
    """

    title: str
    rank: int | None
    scale: float
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    clip: float | None
    warmup: int
    batch: int
    caption_dropout: float
    levels: str
    weighting: str
    shares: tuple[float, ...]
    weights: tuple[float | None, ...]


def beside(plan: ClipPlan) -> tuple[BesideRow, ...]:
    """Return the row of a plan, or one of each expert, that of our defaults, and those of trainers for such a model."""
    width, transformers = plan.recipe.transformers[0].dim, len(plan.recipe.transformers)
    others = (OURS, *TRAINERS.values())
    own = (_of_plan(plan, expert) for expert in range(transformers))
    return (*own, *(of_trainer(trainer, width, transformers) for trainer in others))


def of_trainer(trainer: TrainerDefaults, width: int, transformers: int = 1) -> BesideRow:
    """Return the row of a trainer's defaults for a model of so many transformers of a width."""
    levels = trainer.levels_for(transformers)
    shares, weights = drawn_levels(levels, trainer.weighting)
    return BesideRow(
        title=trainer.title,
        rank=trainer.rank,
        scale=trainer.scale,
        learning_rate=trainer.rate(width),
        weight_decay=trainer.adam.weight_decay,
        betas=trainer.adam.betas,
        clip=_finite(trainer.clip),
        warmup=trainer.warmup,
        batch=trainer.batch,
        caption_dropout=trainer.caption_dropout,
        levels=levels_name(levels),
        weighting=weighting_name(trainer.weighting),
        shares=shares,
        weights=weights,
    )


def _of_plan(plan: ClipPlan, expert: int) -> BesideRow:
    lora, optimizer = plan.lora, plan.training.optimizer
    main = optimizer.adam if optimizer.hidden is no_matrix else optimizer.muon
    name, levels = expert_names(len(plan.recipe.transformers))[expert], levels_of(plan, expert)
    shares, weights = drawn_levels(levels, plan.weighting)
    return BesideRow(
        title=f"this training{name and ', '}{name}",
        rank=None if lora is None else lora.rank,
        scale=1.0 if lora is None or lora.alpha is None else lora.alpha / lora.rank,
        learning_rate=main.learning_rate,
        weight_decay=main.weight_decay,
        betas=optimizer.adam.betas,
        clip=_finite(plan.training.clip),
        warmup=plan.training.schedule.warmup,
        batch=plan.batch.largest * (plan.training.accumulate or 1),
        caption_dropout=plan.dropout,
        levels=levels_name(levels),
        weighting=weighting_name(plan.weighting),
        shares=shares,
        weights=weights,
    )


def drawn_levels(levels: Levels, weighting: Weighting | None) -> tuple[tuple[float, ...], tuple[float | None, ...]]:
    """Draw noise levels; return their shares in ten equal parts, and the mean weight of those in each."""
    sigma = levels.draw((DRAWS,), torch.Generator().manual_seed(SEED), 0)
    weight = torch.ones_like(sigma) if weighting is None else weighting.weight(sigma)
    places = (sigma.double() * BINS).long().clamp(max=BINS - 1)
    parts = [weight[places == number].double() for number in range(BINS)]
    return level_shares(sigma, BINS), tuple(float(part.mean()) if len(part) else None for part in parts)


def table(rows: Sequence[BesideRow]) -> Iterator[str]:
    """Yield the lines of a table for people, with bars from clean to noise."""
    yield (
        f"{'':<20}{'rank':>5}{'scale':>8}{'rate':>9}{'decay':>8}{'clip':>6}{'batch':>7}{'captions':>10}  "
        f"{'levels':<12}{'weight':<12}drawn as; weighed by"
    )
    for row in rows:
        rank = "all" if row.rank is None else row.rank
        clip = "none" if row.clip is None else f"{row.clip:g}"
        yield (
            f"{row.title:<20}{rank:>5}{row.scale:>8.3g}{row.learning_rate:>9.2g}{row.weight_decay:>8g}{clip:>6}"
            f"{row.batch:>7}{1 - row.caption_dropout:>10.0%}  {bars(row.shares):<12}{bars(row.weights):<12}"
            f"{row.levels}; {row.weighting}"
        )
    yield (
        "scale is alpha / rank; levels: shares of ten equal parts from clean (left) to noise; weight: mean weight of "
        "the loss in each part"
    )


def bars(values: Sequence[float | None]) -> str:
    """Return a bar for each value, the largest of them full; a point for None and for nothing."""
    largest = max((value for value in values if value is not None), default=0.0) or 1.0
    return "".join("." if not value else BARS[max(1, round(value / largest * (len(BARS) - 1)))] for value in values)


def _finite(clip: float) -> float | None:
    return clip if isfinite(clip) else None
