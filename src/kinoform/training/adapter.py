"""Training of an adapter: additions to a finished model, and low-rank changes of it, learn from samples.

The conditioners of the recipe encode the samples, as they encode the inputs of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.func import functional_call

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import ConditionerOutput, VideoSize, together
from kinoform.conditions.standard_inputs import VIDEO
from kinoform.errors import UsageError
from kinoform.files import check_writable
from kinoform.loading.adapters import save_adapter
from kinoform.loading.additions import Additions
from kinoform.loading.parts import Parts, repeated, the_only
from kinoform.models.codec import to_signed
from kinoform.models.dit import DiT, keeps_float32
from kinoform.models.lora import LoRASpec
from kinoform.recipe import Recipe
from kinoform.solvers.by_expert import expert_names
from kinoform.solvers.experts import ranges_of
from kinoform.solvers.levels import noised
from kinoform.training.checkpoint import held
from kinoform.training.collate import collate, group_similar
from kinoform.training.devices import apart
from kinoform.training.distributed import ProcessGroup, Rank
from kinoform.training.frozen import CodecOnly, EncoderPlan, FrozenParts, TrainedEncoder
from kinoform.training.levels import Levels
from kinoform.training.loop import finished
from kinoform.training.objective import TrainableModel, predict_velocity, velocity_target
from kinoform.training.plan import TrainingRun, shared
from kinoform.training.rng import step_generator
from kinoform.training.stage import RunOptions, TrainingSpec, step_flops
from kinoform.types import Conditions, Latents, Velocity

CPU = torch.device("cpu")

GROUPS = ("video", "images")
"""Groups of in-context segments that a sample may lose."""

MAX_PREFIX = 4
"""Latent frames of noise that are drawn for images before the video, whether there are any or not."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Video of a training, with the inputs and the prompt that ask for it.

    `base_prompt` is the prompt from which the base model makes such a video without the inputs, if it can: the base's
    velocity under it is then the target, which has less variance than that of the one video that was drawn.
    Raises UsageError when the source video is the target video, since copying is all that could be learnt from it.
    """

    inputs: Inputs
    prompt: str
    video: UInt8[np.ndarray, "f h w 3"] = field(repr=False)
    base_prompt: str | None = None

    def __post_init__(self) -> None:
        source = self.inputs[VIDEO]
        if source is not None and np.array_equal(source.frames, self.video):
            raise UsageError(
                f"the source and the target of {self.prompt!r} are the same video; draw another pair",
                code="sample_unchanged",
            )


@runtime_checkable
class Samples(Protocol):
    """Source of samples, by value: those of a step are a function of its number and of seeds."""

    def draw(self, step: int, count: int, video: VideoSize) -> list[Sample]: ...


def check_derived(recipe: Recipe, parts: Parts, learner: str, base: str) -> None:
    """Raise UsageError unless the recipe of what learns is for a model like its base, of these parts."""
    if parts.transformer_specs != recipe.transformers:
        raise UsageError(
            f"the recipe of {learner} is not for a model like {base}; derive it so", code="recipe_mismatch"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlan:
    """Plan of a training of additions and low-rank changes of the model called `base`.

    `recipe` has the additions and the conditioners; `lora` says which layers get low-rank changes (None for
    none), which are called `name` in the model. `dropout` is the share of samples whose prompt is replaced by the
    recipe's negative prompt, for guidance, with the inputs of the negative pass; `segment_dropout` that of the samples
    which lose a group of their in-context segments, for each group by itself, so that guidance can tell text, video and
    images apart. Samples without inputs are up to `samples`. Samples with a `base_prompt` weigh `base_weight` in the
    loss. `encoder` is the plan by which what embeds an added context source learns first. `precision` is that of the
    matrix products. Where the recipe has several transformers each learns an adapter of its own at those of the
    `levels` at which it generates; it begins as the base's transformer of its number, or as the base's only one.
    """

    name: str
    base: str
    recipe: Recipe
    lora: LoRASpec | None
    samples: Samples
    levels: Levels
    training: TrainingSpec
    batch: int = 32
    dropout: float = 0.1
    segment_dropout: float = 0.0
    base_weight: float = 4.0
    seed: int = 4
    precision: torch.dtype = torch.float32
    encoder: EncoderPlan | None = None

    output_name: ClassVar[str] = "adapter.safetensors"

    @property
    def run_name(self) -> str:
        return f"{self.base}-{self.name}"

    def check_output(self, path: Path, *, force: bool) -> None:
        check_writable(path, force=force)

    def train(self, run: TrainingRun) -> TrainedAdapter:
        """See `TrainingPlan`. Raises UsageError when the recipe is not for a model like the base."""
        parts = repeated(run.load_parts(self.base), len(self.recipe.transformers))
        check_derived(self.recipe, parts, f"the adapter {self.name}", self.base)
        with held(run.folder):
            return train_adapter(self, parts, run.folder / "adapter", run.options, processes=run.processes)

    @property
    def video(self) -> VideoSize:
        return VideoSize(num_frames=self.recipe.num_frames, height=self.recipe.height, width=self.recipe.width)


@dataclass(frozen=True, kw_only=True)
class TrainedAdapter:
    """The transformers with their additions and low-rank changes, averaged; and how far their trainings went.

    `name` is that of the adapter, `base` that of the model that it is for. Of several transformers `report` holds one
    report for each, by the name of the expert.
    """

    name: str
    base: str
    base_hash: str
    additions: Additions | None
    transformers: tuple[DiT, ...]
    report: Mapping[str, object]

    @property
    def transformer(self) -> DiT:
        """The only transformer. Raises UsageError for a model of several."""
        return the_only(self.transformers)

    def save(self, path: Path, *, recipe: str | None, force: bool) -> None:
        """Write an adapter file; `recipe` must be an address, since it is loaded by it."""
        assert recipe is not None, "its plan has a recipe"
        save_adapter(
            path, self.transformers, self.additions, name=self.name, base=self.base,
            base_hash=self.base_hash, recipe=recipe, made=self.report, force=force,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SampleGroup:
    """Samples of a batch whose inputs have the same shapes; `share` is their part of the batch."""

    x: Latents
    sigma: Float[Tensor, " b"]
    rows: Float[Tensor, "b n r"]
    condition: ConditionerOutput
    target: Velocity
    weight: Float[Tensor, "b 1 1 1 1"]
    share: float


def train_adapter(
    plan: AdapterPlan, parts: Parts, folder: Path, options: RunOptions | None = None, *, processes: int = 1
) -> TrainedAdapter:
    """Train below `folder`, or go on there; `parts` are those of the model that is adapted.

    Several experts are trained one after the other, each in a folder beside it: `adapter-high` beside `adapter`. Raises
    what `train` raises, and UsageError when the batch cannot be shared by the processes.
    """
    experts = len(plan.recipe.transformers)
    parts = repeated(parts, experts)
    frozen = FrozenParts(
        codec=parts.codec(CPU), tokenizer=parts.tokenizer(), text_encoder=parts.text_encoder(torch.float32, CPU)
    )
    options = replace(options or RunOptions(), sample_every=0)
    Rank(0, processes).slice(plan.batch)  # refused here rather than in every process
    base_hash, trained = parts.fingerprint(), dict[str, tuple[DiT, dict[str, object]]]()
    for expert, (name, load) in enumerate(zip(expert_names(experts), parts.transformers, strict=True)):
        base, place = load(plan.precision, CPU), folder if experts == 1 else folder.with_name(f"{folder.name}-{name}")
        encoder = None if plan.encoder is None else plan.encoder.train(base, frozen, place / "encoder", options)
        trained[name] = shared(processes, _train, options, plan, base, frozen, base_hash, encoder, place, expert)
    reports = {name: report for name, (_, report) in trained.items()}
    return TrainedAdapter(
        name=plan.name,
        base=plan.base,
        base_hash=base_hash,
        additions=plan.recipe.additions,
        transformers=tuple(transformer for transformer, _ in trained.values()),
        report=reports if experts > 1 else the_only(tuple(reports.values())),
    )


def deciding(plan: AdapterPlan, base_hash: str, expert: int = 0) -> dict[str, object]:
    """Return all of a plan that decides an expert's weights, and the hash of the base; no settings of generation."""
    recipe = plan.recipe
    values = {item.name: getattr(plan, item.name) for item in fields(plan) if item.name not in ("recipe", "training")}
    parts = {name: getattr(recipe, name) for name in ("additions", "conditioners", "negative_prompt")}
    own = {"transformer": recipe.transformers[expert], "levels": levels_of(plan, expert)}
    return {"base_hash": base_hash, **values, **parts, **own, "video": plan.video}


def levels_of(plan: AdapterPlan, expert: int) -> Levels:
    """Return the noise levels that an expert learns: those of the plan at which it generates."""
    boundaries = plan.recipe.boundaries
    return plan.levels.within(*ranges_of(boundaries)[expert]) if boundaries else plan.levels


class AdapterStage:
    """A step's samples, encoded as the inputs of a request are; see `Stage`.

    `expert` is the number of the transformer in the recipe, of which `base` is the one that is adapted; it may share
    its weights with others and is not changed. `encoder` is what that of the plan
    learnt, if it has one. `rank` says what this process makes of every batch.
    """

    def __init__(
        self, plan: AdapterPlan, base: DiT, frozen: FrozenParts, *, base_hash: str,
        encoder: TrainedEncoder | None = None, rank: Rank | None = None, expert: int = 0,
    ) -> None:  # fmt: skip
        self.config, self._levels = deciding(plan, base_hash, expert), levels_of(plan, expert)
        self._plan, self._frozen, self._rank = plan, frozen, rank or Rank()
        self._encoders = CodecOnly(frozen.codec)
        generator, additions = torch.Generator().manual_seed(plan.seed), plan.recipe.additions or Additions()
        extended, trainable = additions.trainable(additions.apply(base), plan.lora, generator, name=plan.name)
        model = apart(extended, base)  # it goes to the device, and the base is asked on the CPU
        assert isinstance(model, DiT)
        for parameter in trainable.values():
            parameter.data = parameter.data.float()
        if encoder is not None:
            encoder.load_into(model)
        self._model, self._base = TrainableModel(model), base
        self.samples_per_step = plan.batch
        self._flops = step_flops(self.loss, self.batch(0), self._rank)

    def modules(self) -> TrainableModel:
        return self._model

    def flops(self, step: int) -> float:
        return self._flops

    @torch.no_grad()
    def batch(self, step: int) -> tuple[SampleGroup, ...]:
        plan, mine = self._plan, self._rank.slice(self._plan.batch)
        generator = step_generator(plan.seed, step)
        dropped = (torch.rand(plan.batch, generator=generator) < plan.dropout)[mine].tolist()
        sigma = self._levels.draw((plan.batch,), generator, step)[mine]
        drawn = plan.samples.draw(step, plan.batch, plan.video)[mine]
        conditions = [self.encode_inputs(sample) for sample in drawn]
        conditions = [item.negative() if drop else item for item, drop in zip(conditions, dropped, strict=True)]
        conditions = self._without_segments(conditions, step, mine)
        told = zip(drawn, conditions, dropped, strict=True)
        samples = [self._dropped(sample, item) if drop else sample for sample, item, drop in told]
        videos, _ = self._frozen.codec.encode(to_signed(np.stack([sample.video for sample in samples])))
        channels, frames, *sides = videos.shape[1:]
        noise = torch.randn(plan.batch, channels, MAX_PREFIX + frames, *sides, generator=generator)[mine]
        encoded = [_EncodedSample(*item) for item in zip(samples, conditions, videos, noise, sigma, strict=True)]
        groups = group_similar(conditions)
        return tuple(self._group([encoded[n] for n in indices], len(encoded)) for indices in groups)

    def encode_inputs(self, sample: Sample) -> ConditionerOutput:
        """Encode a sample's inputs as the conditioners would encode those of a request."""
        video, conditioners = self._plan.video, self._plan.recipe.conditioners
        return together(item.encode(sample.inputs, video, self._encoders) for item in conditioners)

    def loss(self, batch: tuple[SampleGroup, ...]) -> Float[Tensor, ""]:
        rounded = {
            name: weight if keeps_float32(name) else weight.to(self._plan.precision)
            for name, weight in self._model.named_parameters()
            if weight.requires_grad
        }
        return torch.stack([group.share * self._loss(group, rounded) for group in batch]).sum()

    def _without_segments(self, conditions: list[ConditionerOutput], step: int, mine: slice) -> list[ConditionerOutput]:
        """Leave out the groups of segments that samples of this step lose, each by a draw of its own."""
        plan, share = self._plan, self._plan.segment_dropout
        if not share:
            return conditions
        generator = step_generator(plan.seed + 1, step)  # a plan without it draws what it drew before
        losing = torch.rand(plan.batch, len(GROUPS), generator=generator)[mine] < share
        return [
            item.without(frozenset(group for group, loses in zip(GROUPS, row, strict=True) if loses))
            for item, row in zip(conditions, losing.tolist(), strict=True)
        ]

    def _dropped(self, sample: Sample, condition: ConditionerOutput) -> Sample:
        """Leave out the prompt; what the base says without it is the target only where no segment is left."""
        negative, by_base = self._plan.recipe.negative_prompt, sample.base_prompt is not None
        return replace(sample, prompt=negative, base_prompt=negative if by_base and not condition.segments else None)

    def _group(self, samples: list[_EncodedSample], batch: int) -> SampleGroup:
        """Stack samples, their videos behind the latents of images where these stand before them."""
        condition = collate([item.condition for item in samples])
        prefix_frames = condition.constraints.prefix_frames
        x0 = torch.stack([item.x0 for item in samples])
        images = [latents for item in samples if (latents := item.condition.constraints.prefix_latents) is not None]
        x0 = torch.cat([torch.cat(images), x0], dim=2) if prefix_frames else x0
        noise = torch.stack([item.noise[:, MAX_PREFIX - prefix_frames :] for item in samples])
        sigma = torch.stack([item.sigma for item in samples])
        x, target = noised(x0, noise, sigma), velocity_target(x0, noise)
        prompts = {n: item.sample.base_prompt for n, item in enumerate(samples) if item.sample.base_prompt is not None}
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
        return SampleGroup(
            x=x,
            sigma=sigma,
            rows=self._frozen.rows([item.sample.prompt for item in samples]),
            condition=condition,
            target=target,
            weight=weight,
            share=len(samples) / batch,
        )

    def _base_velocity(self, x: Latents, sigma: Float[Tensor, " b"], prompts: list[str]) -> Velocity:
        """Predict the velocity of the base model, from prompts alone."""
        return predict_velocity(self._base, x, sigma, Conditions(context={"text": self._frozen.rows(prompts)}))

    def _loss(self, group: SampleGroup, rounded: dict[str, Tensor]) -> Float[Tensor, ""]:
        velocity = functional_call(self._model, rounded, (group.x, group.sigma, group.condition.conditions(group.rows)))
        return (group.weight * (velocity.float() - group.target).square()).mean()


class _EncodedSample(NamedTuple):
    """Sample, its encoded inputs and video, and the noise and level that are mixed into the video."""

    sample: Sample
    condition: ConditionerOutput
    x0: Float[Tensor, "c f h w"]
    noise: Float[Tensor, "c m h w"]
    sigma: Float[Tensor, ""]


def _train(
    group: ProcessGroup, options: RunOptions, plan: AdapterPlan, base: DiT, frozen: FrozenParts, base_hash: str,
    encoder: TrainedEncoder | None, folder: Path, expert: int,
) -> tuple[DiT, dict[str, object]]:  # fmt: skip
    stage = AdapterStage(plan, base, frozen, base_hash=base_hash, encoder=encoder, rank=group.rank, expert=expert)
    module, report = finished(stage, folder, plan.training, options, group)
    assert isinstance(module, TrainableModel)
    if encoder is not None:
        report["encoder"] = encoder.report
    return module.model, report
