"""An adapter of a finished model: what is added to it, and low-rank changes of it, learn from its own inputs.

The very conditioners of the recipe encode the samples, so a training never sees what no request could give.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from kinoform.conditions.ports import FilmSize, Given, together
from kinoform.errors import WeightsError
from kinoform.models.codec import Codec, to_signed
from kinoform.models.dit import DiT, keeps_float32
from kinoform.models.lora import LoRASpec
from kinoform.models.vision import VisionEncoder
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import grid_of
from kinoform.recipe import Recipe
from kinoform.training.films import step_generator
from kinoform.training.loop import finished
from kinoform.training.objective import LevelSampling, flow_matching_loss, noised, timesteps
from kinoform.training.samples import Sample, Samples
from kinoform.training.stacking import alike, stacked
from kinoform.training.stage import TrainingSpec, Upkeep
from kinoform.training.team import Alone, Part, Team
from kinoform.training.team import together as in_processes
from kinoform.training.transformer import Frozen
from kinoform.types import Latents, Velocity
from kinoform.weights.additions import Additions
from kinoform.weights.parts import Parts

CPU = torch.device("cpu")

LEAD = 4
"""Latent frames of noise that are drawn for pictures before the film, whether there are any or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlan:
    """What is put onto the model called `base`, and how it learns.

    `recipe` has the additions and the conditioners; `lora` says which layers get low-rank changes (None for
    none), which are called `name` in the model. `dropout` is the share of samples whose prompt is replaced by the
    recipe's negative prompt, for guidance; that inputs are left out at times is up to `samples`. `precision` is that
    of the products.
    """

    name: str
    base: str
    recipe: Recipe
    lora: LoRASpec | None
    samples: Samples
    levels: LevelSampling
    training: TrainingSpec
    batch: int = 32
    dropout: float = 0.1
    seed: int = 4
    precision: torch.dtype = torch.float32

    @property
    def film(self) -> FilmSize:
        return FilmSize(num_frames=self.recipe.num_frames, height=self.recipe.height, width=self.recipe.width)


@dataclass(frozen=True, kw_only=True)
class TrainedAdapter:
    """The model with its additions and low-rank changes, averaged; and how far its training went."""

    model: DiT
    report: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Samples of a batch that fill the same doors alike; `share` is their part of the batch."""

    x0: Latents
    noise: Latents
    sigma: Float[Tensor, " b"]
    rows: Float[Tensor, "b n r"]
    given: Given
    share: float


def train_adapter(
    plan: AdapterPlan, parts: Parts, folder: Path, upkeep: Upkeep | None = None, *, processes: int = 1
) -> TrainedAdapter:
    """Train below `folder`, or go on there; `parts` are those of the model that is adapted.

    Raises what `train` raises, and UsageError when the batch cannot be shared by the processes.
    """
    base = parts.transformer(plan.precision, CPU)
    frozen = Frozen(
        codec=parts.codec(CPU), tokenizer=parts.tokenizer(), text_encoder=parts.text_encoder(torch.float32, CPU)
    )
    work = plan, base, frozen, parts.fingerprint(), folder, replace(upkeep or Upkeep(), sample_every=0)
    if processes > 1:
        Part(0, processes).slice(plan.batch)  # refused here rather than in every process
        in_processes(processes, _train, work)
    return _train(Alone(), *work)


def deciding(plan: AdapterPlan, base_hash: str) -> dict[str, object]:
    """All of a plan that decides the weights, and the hash of the model that is adapted; not how it makes films."""
    recipe = plan.recipe
    told = {each.name: getattr(plan, each.name) for each in fields(plan) if each.name not in ("recipe", "training")}
    parts = {name: getattr(recipe, name) for name in ("transformer", "additions", "conditioners", "negative_prompt")}
    return {"base_hash": base_hash, **told, **parts, "film": plan.film}


class Pupil(nn.Module):
    """The model, from noisy latents and what was given to a velocity; compiled or replaced as one."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Latents, sigma: Float[Tensor, " b"], rows: Float[Tensor, "b n r"], given: Given) -> Velocity:
        prepared = self.model.prepare(given.conditions(rows), grid_of(x, self.model.spec.patch))
        return self.model(x, timesteps(sigma), prepared)


class AdapterStage:
    """A step's samples, encoded as the inputs of a request are; see `Stage`.

    `base` may share its weights with others; it is not changed. `part` is what this process makes of every batch.
    """

    def __init__(
        self, plan: AdapterPlan, base: DiT, frozen: Frozen, *, base_hash: str, part: Part | None = None
    ) -> None:
        self.config = deciding(plan, base_hash)
        self._plan, self._frozen, self._part = plan, frozen, part or Part()
        self._encoders = _Encoders(frozen.codec)
        generator, additions = torch.Generator().manual_seed(plan.seed), plan.recipe.additions or Additions()
        model, learning = additions.learning(additions.onto(base), plan.lora, generator, name=plan.name)
        for parameter in learning.values():
            parameter.data = parameter.data.float()
        self._pupil = Pupil(model)
        batch = self.batch(0)
        self.samples_per_step = plan.batch
        self.flops_per_step = 3.0 * self._part.of * count_flops(lambda: self.loss(batch))

    def modules(self) -> Pupil:
        return self._pupil

    @torch.no_grad()
    def batch(self, step: int) -> tuple[Group, ...]:
        plan, mine = self._plan, self._part.slice(self._plan.batch)
        samples = plan.samples.draw(step, plan.batch, plan.film)[mine]
        given = [self.given(sample) for sample in samples]
        films, _ = self._frozen.codec.encode(to_signed(np.stack([sample.film for sample in samples])))
        generator = step_generator(plan.seed, step)
        dropped = (torch.rand(plan.batch, generator=generator) < plan.dropout)[mine].tolist()
        sigma = plan.levels.draw((plan.batch,), generator, step)[mine]
        channels, frames, *sides = films.shape[1:]
        noise = torch.randn(plan.batch, channels, LEAD + frames, *sides, generator=generator)[mine]
        negative = plan.recipe.negative_prompt
        prompts = [negative if drop else s.prompt for drop, s in zip(dropped, samples, strict=True)]
        rows = self._frozen.rows(prompts)
        return tuple(
            _group([given[n] for n in places], films[places], noise[places], sigma[places], rows[places], len(given))
            for places in alike(given)
        )

    def given(self, sample: Sample) -> Given:
        """What the conditioners give of a sample's inputs: what they would give of a request's."""
        film, conditioners = self._plan.film, self._plan.recipe.conditioners
        return together(each.give(sample.inputs, film, self._encoders) for each in conditioners)

    def loss(self, batch: tuple[Group, ...]) -> Float[Tensor, ""]:
        rounded = {
            name: weight if keeps_float32(name) else weight.to(self._plan.precision)
            for name, weight in self._pupil.named_parameters()
            if weight.requires_grad
        }
        return torch.stack([group.share * self._loss(group, rounded) for group in batch]).sum()

    def sample(self, step: int, folder: Path) -> None:
        return None

    def _loss(self, group: Group, rounded: dict[str, Tensor]) -> Float[Tensor, ""]:
        x = noised(group.x0, group.sigma, group.noise)
        velocity = functional_call(self._pupil, rounded, (x, group.sigma, group.rows, group.given))
        return flow_matching_loss(velocity, group.noise, group.x0)


class _Encoders:
    """`conditions.ports.Encoders` on the CPU, around the codec that is there already."""

    device = CPU

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def codec(self) -> Codec:
        return self._codec

    def image(self) -> VisionEncoder:
        raise WeightsError("adapters are trained without an image encoder; choose conditioners that need none")


def _group(
    given: list[Given],
    films: Latents,
    noise: Float[Tensor, "b c m h w"],
    sigma: Float[Tensor, " b"],
    rows: Float[Tensor, "b n r"],
    of: int,
) -> Group:
    """The film behind the pictures that stand before it, which are denoised to what they are."""
    lead = given[0].canvas.lead
    pictures = [each.canvas.pictures for each in given if each.canvas.pictures is not None]
    return Group(
        x0=torch.cat([torch.cat(pictures), films], dim=2) if lead else films,
        noise=noise[:, :, LEAD - lead :],
        sigma=sigma,
        rows=rows,
        given=stacked(given),
        share=len(given) / of,
    )


def _train(
    team: Team, plan: AdapterPlan, base: DiT, frozen: Frozen, base_hash: str, folder: Path, upkeep: Upkeep
) -> TrainedAdapter:
    stage = AdapterStage(plan, base, frozen, base_hash=base_hash, part=team.part)
    pupil, report = finished(stage, folder, plan.training, upkeep, team)
    assert isinstance(pupil, Pupil)
    return TrainedAdapter(model=pupil.model, report=report)
