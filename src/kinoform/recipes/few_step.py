"""Few-step recipes: what distilled weights need to be sampled as they were trained, one value each.

docs/few_step.md lists them beside the files that they are for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kinoform.errors import UsageError
from kinoform.recipe import Recipe
from kinoform.solvers.base import Solver
from kinoform.solvers.euler import Euler
from kinoform.solvers.experts import AtStep, BelowSigma, Boundary
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.index_list import IndexList, IndexRenoise
from kinoform.solvers.level_grids import LevelGrid, Nearest, Warped, nearest_sigma
from kinoform.solvers.rcm import RCM, TrigFlow
from kinoform.solvers.renoise import Renoise
from kinoform.solvers.sampler import Denoise, Sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class FewStep:
    """Change of a model's recipe for weights that were distilled to few steps, which take no guidance.

    `models` are the names of the recipes that it was made for; `steps` is the default, and `level_grid` says which
    other numbers there are. `boundaries` take the place of those of a model of two experts, and are empty where its own
    stay. `weights` says in words what makes the model few-step: a LoRA, or weights of its own; `source` is the program
    whose levels and steps these are.
    """

    name: str
    models: tuple[str, ...]
    steps: int
    shift: float
    level_grid: LevelGrid
    sampler: Sampler = field(default_factory=Denoise)
    solver: Solver = field(default_factory=lambda: Euler(exact_timesteps=True))
    boundaries: tuple[Boundary, ...] = ()
    weights: str = "distilled weights"
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.models, tuple):
            raise UsageError(
                f"the models of a few-step recipe must be a tuple such as ('t2v-14b',), not {self.models!r}",
                code="wrong_type",
            )

    def applied(self, recipe: Recipe) -> Recipe:
        """Return the recipe changed to this one. Raises UsageError for a recipe of a model that it was not made for."""
        if recipe.name not in self.models:
            others = [item.name for item in FEW_STEP.values() if recipe.name in item.models]
            known = f"; for {recipe.name} there is {' or '.join(others)}" if others else ""
            raise UsageError(
                f"the recipe {self.name} was made for {', '.join(self.models)}, and the model is {recipe.name}{known}",
                code="recipe_of_other_model",
            )
        experts = len(recipe.transformers) > 1
        return replace(
            recipe, few_step=self.name, steps=self.steps, shift=self.shift, level_grid=self.level_grid,
            sampler=self.sampler, solver=self.solver, guidance_scale=1.0, guidance_rule=PlainGuidance(),
            boundaries=self.boundaries if experts and self.boundaries else recipe.boundaries, fast_steps=None,
        )  # fmt: skip


LIGHTX2V = FewStep(
    name="lightx2v-4step", models=("t2v-14b", "i2v-14b-480p", "i2v-14b-720p", "t2v-a14b", "i2v-a14b"),
    steps=4, shift=5.0, level_grid=Warped(), boundaries=(AtStep(step=2),),
    weights="a LoRA or weights of LightX2V", source="LightX2V, step_distill",
)  # fmt: skip
"""Euler over the list 1000, 750, 500, 250 bent by shift 5; two steps of each expert, whatever their levels."""

LIGHTX2V_FLF2V = replace(LIGHTX2V, name="lightx2v-4step-flf2v", models=("i2v-a14b",), shift=16.0)
"""The same at shift 16, for a first and a last frame: the third step, at timestep 941, is the low expert's."""

FASTWAN = FewStep(
    name="fastwan-3step", models=("t2v-1.3b", "t2v-14b", "ti2v-5b"),
    steps=3, shift=8.0, level_grid=Nearest(), sampler=Renoise(),
    weights="weights of FastWan", source="FastVideo, DmdDenoisingStage",
)  # fmt: skip
"""Re-noising at the whole timesteps 1000, 757 and 522, and the sigmas of the table that they were read from."""

FASTWAN_MLX = replace(
    FASTWAN, name="fastwan-3step-mlx", models=("ti2v-5b",), shift=5.0, level_grid=Warped(entries=(1000, 757, 522)),
    source="FastVideo, mlx_runtime",
)  # fmt: skip
"""The list that FastVideo's other program bends again, for the same weights: 1000, 939.67, 845.21."""

RCM_T2V = FewStep(
    name="rcm", models=("t2v-1.3b", "t2v-14b"),
    steps=4, shift=5.0, level_grid=TrigFlow(), sampler=RCM(),
    weights="weights of rCM or TurboDiffusion", source="TurboDiffusion, wan2.1_t2v_infer.py",
)  # fmt: skip
"""1 to 4 steps by angles, re-noised in float64, at the timesteps that bfloat16 leaves."""

RCM_I2V = replace(
    RCM_T2V, name="rcm-i2v", models=("i2v-a14b",), level_grid=TrigFlow(sigma_max=200.0),
    boundaries=(BelowSigma(sigma=0.9),), source="TurboDiffusion, wan2.2_i2v_infer.py",
)  # fmt: skip
"""The same for A14B, whose low expert begins below sigma 0.9."""

RCM_I2V_ODE = replace(RCM_I2V, name="rcm-i2v-ode", sampler=RCM(ode=True))
"""The same without fresh noise."""

SELF_FORCING = FewStep(
    name="self-forcing-4step", models=("t2v-1.3b",),
    steps=4, shift=5.0, level_grid=Warped(), sampler=Renoise(),
    weights="weights of Self-Forcing", source="guandeh17/Self-Forcing",
)  # fmt: skip
"""Self-Forcing's list and rule, on a whole video at once, without its cache of earlier frames."""

SELF_FORCING_INDEX = replace(
    SELF_FORCING, name="self-forcing-index", level_grid=IndexList(), sampler=IndexRenoise(),
    source="LightX2V, timesteps_index",
)  # fmt: skip
"""LightX2V's list for the same weights: whole timesteps 999, 957, 899, 702."""

CAUSAL_WAN22 = FewStep(
    name="causal-wan22", models=("t2v-a14b",),
    steps=8, shift=12.0, level_grid=Warped(entries=(1000, 850, 700, 550, 350, 275, 200, 125)),
    sampler=Renoise(boundary=nearest_sigma(875.0, 12.0)), boundaries=(0.875,),
    weights="FastVideo's causal weights of A14B", source="FastVideo, causal_denoising.py",
)  # fmt: skip
"""Re-noising towards the boundary inside the high expert, four steps of each, on a whole video at once."""

FEW_STEP: dict[str, FewStep] = {
    item.name: item
    for item in (
        LIGHTX2V, LIGHTX2V_FLF2V, FASTWAN, FASTWAN_MLX, RCM_T2V, RCM_I2V, RCM_I2V_ODE, SELF_FORCING,
        SELF_FORCING_INDEX, CAUSAL_WAN22,
    )
}  # fmt: skip
