"""The stage that tunes a finished model: additions to it, and low-rank changes of its layers, learn from examples."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from kinoform.conditions.protocols import ConditionerOutput, LatentConstraints, VideoSize
from kinoform.errors import UsageError
from kinoform.loading.additions import Additions
from kinoform.models.dit import DiT, keeps_float32
from kinoform.models.lora import LoRASpec
from kinoform.recipe import Recipe
from kinoform.solvers.experts import ranges_of
from kinoform.training.collate import collate, group_similar
from kinoform.training.devices import apart, moved
from kinoform.training.distributed import Rank
from kinoform.training.examples import Example, Examples
from kinoform.training.frozen import TrainedEncoder
from kinoform.training.levels import Levels
from kinoform.training.noisy_input import noisy_input
from kinoform.training.objective import TrainableModel, predict_velocity
from kinoform.training.observe import StepLoss
from kinoform.training.rng import kept_randomness, step_generator
from kinoform.training.stage import step_flops
from kinoform.training.weighting import Weighting
from kinoform.types import Conditions, Latents, Velocity

GROUPS = ("video", "images")
"""Groups of in-context segments that a sample may lose."""

MAX_PREFIX = 4
"""Latent frames of noise that are drawn for images before the video, whether there are any or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningSpec:
    """Parts of a finished model that learn, and the loss by which they do.

    `recipe` has the additions and the conditioners; `lora` says which layers get low-rank changes (None for
    none), which are called `name` in the model. `dropout` is the share of samples whose prompt is replaced by the
    recipe's negative prompt, for guidance, with the inputs of the negative pass; `segment_dropout` that of the samples
    which lose a group of their in-context segments, for each group by itself, so that guidance can tell text, video and
    images apart. Samples with a `base_prompt` weigh `base_weight` in the loss. `precision` is that of the matrix
    products. Where the recipe has several transformers each learns an adapter of its own at those of the
    `levels` at which it generates; it begins as the base's transformer of its number, or as the base's only one.
    `weighting` weighs the loss by the noise level.
    """

    name: str
    recipe: Recipe
    lora: LoRASpec | None
    levels: Levels
    dropout: float = 0.1
    segment_dropout: float = 0.0
    base_weight: float = 4.0
    seed: int = 4
    precision: torch.dtype = torch.float32
    weighting: Weighting | None = None

    @property
    def deciding(self) -> dict[str, object]:
        """All that decides the weights but the recipe, as plain values; the loop knows its own settings."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("recipe", "training")}

    @property
    def video(self) -> VideoSize:
        """The size of the recipe's videos."""
        return VideoSize(num_frames=self.recipe.num_frames, height=self.recipe.height, width=self.recipe.width)


def deciding(plan: TuningSpec, base_hash: str, expert: int = 0) -> dict[str, object]:
    """Return all of a plan that decides an expert's weights, and the hash of the base; no settings of generation."""
    recipe, values = plan.recipe, plan.deciding
    parts = {name: getattr(recipe, name) for name in ("additions", "conditioners", "negative_prompt")}
    own = {"transformer": recipe.transformers[expert], "levels": levels_of(plan, expert)}
    return {"base_hash": base_hash, **values, **parts, **own, "video": plan.video}


def levels_of(plan: TuningSpec, expert: int) -> Levels:
    """Return the noise levels that an expert learns: those of the plan at which it generates."""
    boundaries = plan.recipe.boundaries
    return plan.levels.within(*ranges_of(boundaries)[expert]) if boundaries else plan.levels


@dataclass(frozen=True, kw_only=True)
class SampleGroup:
    """Samples of a batch whose inputs have the same shapes; `share` is their part of the batch.

    Of those that are `kept` what the model said before is learnt; `free` is that of `NoisyInput`.
    """

    x: Latents
    sigma: Float[Tensor, " b"]
    rows: Float[Tensor, "b n r"]
    condition: ConditionerOutput
    target: Velocity
    free: Float[Tensor, "b 1 f h w"] | None
    weight: Float[Tensor, "b 1 1 1 1"]
    share: float
    kept: tuple[bool, ...]


class AdapterStage:
    """The examples of a step, mixed with noise; see `Stage`.

    `expert` is the number of the transformer in the recipe, of which `base` is the one that is adapted; it may share
    its weights with others and is not changed. `encoder` is what that of the plan
    learnt, if it has one. `rank` says what this process makes of every batch.
    """

    def __init__(
        self, plan: TuningSpec, base: DiT, examples: Examples, *, base_hash: str,
        encoder: TrainedEncoder | None = None, rank: Rank | None = None, expert: int = 0,
    ) -> None:  # fmt: skip
        self.config, self._levels = deciding(plan, base_hash, expert), levels_of(plan, expert)
        self._plan, self._examples, self._rank = plan, examples, rank or Rank()
        generator, additions = torch.Generator().manual_seed(plan.seed), plan.recipe.additions or Additions()
        extended, trainable = additions.trainable(additions.apply(base), plan.lora, generator, name=plan.name)
        model = apart(extended, base)  # it goes to the device, and the base is asked on the CPU
        assert isinstance(model, DiT)
        for parameter in trainable.values():
            parameter.data = parameter.data.float()
        if encoder is not None:
            encoder.load_into(model)
        self._model, self._base = TrainableModel(model), base
        self._flops: dict[int, float] = {}

    def modules(self) -> TrainableModel:
        return self._model

    def samples(self, step: int) -> int:
        return self._examples.count(step)

    def flops(self, step: int) -> float:
        first = self._examples.alike(step)
        if first not in self._flops:
            batch = moved(self.batch(first), next(self._model.parameters()).device)
            with kept_randomness():
                self._flops[first] = step_flops(self.loss, batch, self._rank)
        return self._flops[first]

    @torch.no_grad()
    def batch(self, step: int) -> tuple[SampleGroup, ...]:
        plan, count = self._plan, self._examples.count(step)
        mine, generator = self._rank.slice(count), step_generator(plan.seed, step)
        dropped = (torch.rand(count, generator=generator) < plan.dropout)[mine].tolist()
        sigma = self._levels.draw((count,), generator, step)[mine]
        drawn = self._examples.draw(step, mine)
        given = zip((item.condition for item in drawn), dropped, strict=True)
        conditions = self._without_segments([item.negative() if drop else item for item, drop in given], step, mine)
        told = [
            self._dropped(item, condition) if drop else replace(item, condition=condition)
            for item, condition, drop in zip(drawn, conditions, dropped, strict=True)
        ]
        channels, frames, *sides = told[0].latents.shape
        noise = torch.randn(count, channels, MAX_PREFIX + frames, *sides, generator=generator)[mine]
        mixed = [_Mixed(*item) for item in zip(told, noise, sigma, strict=True)]
        groups = group_similar(conditions)
        return tuple(self._group([mixed[n] for n in indices], len(mixed)) for indices in groups)

    def names(self, step: int) -> list[str]:
        return self._examples.names(step)

    def loss(self, batch: tuple[SampleGroup, ...]) -> StepLoss:
        rounded = {
            name: weight if keeps_float32(name) else weight.to(self._plan.precision)
            for name, weight in self._model.named_parameters()
            if weight.requires_grad
        }
        losses = [self._loss(group, rounded) for group in batch]
        return StepLoss(
            total=torch.stack([group.share * loss for group, (loss, _) in zip(batch, losses, strict=True)]).sum(),
            sigma=torch.cat([group.sigma for group in batch]),
            each=torch.cat([each for _, each in losses]),
        )

    def _without_segments(self, conditions: list[ConditionerOutput], step: int, mine: slice) -> list[ConditionerOutput]:
        """Leave out the groups of segments that samples of this step lose, each by a draw of its own."""
        plan, share = self._plan, self._plan.segment_dropout
        if not share:
            return conditions
        generator = step_generator(plan.seed + 1, step)  # a plan without it draws what it drew before
        losing = torch.rand(self._examples.count(step), len(GROUPS), generator=generator)[mine] < share
        return [
            item.without(frozenset(group for group, loses in zip(GROUPS, row, strict=True) if loses))
            for item, row in zip(conditions, losing.tolist(), strict=True)
        ]

    def _dropped(self, example: Example, condition: ConditionerOutput) -> Example:
        """Leave out the prompt; what the base says without it is the target only where no segment is left."""
        negative, by_base = self._plan.recipe.negative_prompt, example.base_prompt is not None
        base_prompt = negative if by_base and not condition.segments else None
        return replace(example, prompt=negative, condition=condition, base_prompt=base_prompt)

    def _group(self, samples: list[_Mixed], batch: int) -> SampleGroup:
        """Stack samples, their videos behind the latents of images where these stand before them."""
        examples = [item.example for item in samples]
        condition = collate([item.condition for item in examples])
        prefix_frames = condition.constraints.prefix_frames
        x0 = torch.stack([item.latents for item in examples]).float()
        noise = torch.stack([item.noise[:, MAX_PREFIX - prefix_frames :] for item in samples])
        sigma = torch.stack([item.sigma for item in samples])
        given = noisy_input(condition, x0, noise, sigma)
        x, target = given.x, given.target
        prompts = {n: item.base_prompt for n, item in enumerate(examples) if item.base_prompt is not None}
        by_base = list(prompts)
        if by_base and prefix_frames:
            raise UsageError(
                "the base model makes no video behind images; leave `base_prompt` out of such samples",
                code="base_prompt_behind_images",
            )
        if by_base:
            target[by_base] = self._base_velocity(x[by_base], sigma[by_base], list(prompts.values()))
        weight = torch.ones(len(samples), 1, 1, 1, 1)
        weight[by_base] = self._plan.base_weight
        condition = replace(condition, constraints=LatentConstraints(prefix_frames=prefix_frames))
        return SampleGroup(
            x=x,
            sigma=sigma,
            rows=self._examples.rows([item.prompt for item in examples]),
            condition=condition,
            target=target,
            free=given.free,
            weight=weight,
            share=len(samples) / batch,
            kept=tuple(item.kept for item in examples),
        )

    def _base_velocity(self, x: Latents, sigma: Float[Tensor, " b"], prompts: list[str]) -> Velocity:
        """Predict the velocity of the base model, from prompts alone."""
        return predict_velocity(self._base, x, sigma, Conditions(context={"text": self._examples.rows(prompts)}))

    def _loss(self, group: SampleGroup, rounded: dict[str, Tensor]) -> tuple[Float[Tensor, ""], Float[Tensor, " b"]]:
        given = (group.x, group.sigma, group.condition.conditions(group.rows))
        velocity, target = functional_call(self._model, rounded, given), group.target
        if any(group.kept):
            before = functional_call(self._model, _unchanged(rounded), given).detach().float()
            kept = torch.tensor(group.kept, device=target.device)
            target = torch.where(kept[:, None, None, None, None], before, target)
        squared = (velocity.float() - target).square()
        if group.free is not None:
            squared = squared * group.free
        weight = group.weight
        if self._plan.weighting is not None:
            weight = weight * self._plan.weighting.weight(group.sigma)[:, None, None, None, None]
        return (weight * squared).mean(), squared.detach().flatten(1).mean(1)


def _unchanged(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters with every low-rank change at nothing, as before the first step."""
    return {name: torch.zeros_like(value) if name.endswith(".up") else value for name, value in parameters.items()}


class _Mixed(NamedTuple):
    """An example, and the noise and level that are mixed into its latents."""

    example: Example
    noise: Float[Tensor, "c m h w"]
    sigma: Float[Tensor, ""]
