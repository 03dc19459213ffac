"""Names of noise levels and weightings, as options and files of settings write them."""

from dataclasses import replace

from kinoform.solvers.names import name_in, value_named
from kinoform.training.levels import (
    GridLevels,
    InvertibleLevels,
    LevelRange,
    Levels,
    LevelSampling,
    LogitNormalLevels,
    ModeLevels,
)
from kinoform.training.optimizer import Adam8bitSpec, AdamSpec, MuonSpec, OptimizerSpec, every_matrix, no_matrix
from kinoform.training.weighting import Bell, CosMap, MinSNR, SigmaSqrt, Weighting

LEVELS: dict[str, InvertibleLevels] = {
    "shifted": LevelSampling(), "uniform": LevelSampling(shift=1.0), "logit-normal": LogitNormalLevels(),
    "mode": ModeLevels(), "grid": GridLevels(),
}  # fmt: skip
WEIGHTINGS: dict[str, Weighting] = {
    "min-snr": MinSNR(), "bell": Bell(), "sigma-sqrt": SigmaSqrt(), "cosmap": CosMap(),
}  # fmt: skip

OPTIMIZERS: dict[str, AdamSpec | MuonSpec] = {
    "adamw": AdamSpec(), "adamw-8bit": Adam8bitSpec(), "muon": MuonSpec(),
}  # fmt: skip

NO_WEIGHTING = "none"

PLAN = "a training plan"


def noise_levels_of(name: str) -> InvertibleLevels:
    """Return the noise levels of a name such as `logit-normal:mean=0,std=1`; see `solvers.names.value_named`."""
    return value_named(name, "distribution of noise levels", LEVELS, "logit-normal:mean=0,std=1", owner=PLAN)


def weighting_of(name: str) -> Weighting | None:
    """Return the weighting of a name such as `min-snr:gamma=5`, None for `none`; see `solvers.names.value_named`."""
    if name == NO_WEIGHTING:
        return None
    return value_named(name, "weighting", WEIGHTINGS, "min-snr:gamma=5", owner=PLAN)


def optimizer_of(name: str, learning_rate: float) -> OptimizerSpec:
    """Return the optimizer of a name such as `adamw:betas=(0.9,0.99)`; see `solvers.names.value_named`.

    `learning_rate` is AdamW's, unless the name has one; with `muon` AdamW has what is no matrix.
    """
    spec = value_named(name, "optimizer", OPTIMIZERS, "adamw:betas=(0.9,0.99)", owner=PLAN)
    if isinstance(spec, MuonSpec):
        return OptimizerSpec(muon=spec, adam=AdamSpec(learning_rate=learning_rate), hidden=every_matrix)
    return OptimizerSpec(
        adam=spec if "learning_rate" in name else replace(spec, learning_rate=learning_rate), hidden=no_matrix
    )


def levels_name(levels: Levels) -> str:
    """Return a name to be read again, behind it the range of timesteps: `shifted(shift=3.0) at 875-1000`."""
    if isinstance(levels, LevelRange):
        return f"{name_in(levels.sampling, LEVELS)} at {1000 * levels.low:.4g}-{1000 * levels.high:.4g}"
    return name_in(levels, LEVELS)


def weighting_name(weighting: Weighting | None) -> str:
    """Return a name to be read again."""
    return NO_WEIGHTING if weighting is None else name_in(weighting, WEIGHTINGS)
