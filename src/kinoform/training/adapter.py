"""Training of an adapter: additions to a finished model, and low-rank changes of it, learn from samples.

The conditioners of the recipe encode the samples, as they encode the inputs of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from kinoform.errors import UsageError
from kinoform.files import check_writable
from kinoform.loading.adapters import save_adapter
from kinoform.loading.additions import Additions
from kinoform.loading.parts import Parts, repeated, the_only
from kinoform.models.dit import DiT
from kinoform.recipe import Recipe
from kinoform.solvers.by_expert import expert_names
from kinoform.training.checkpoint import held
from kinoform.training.distributed import ProcessGroup, Rank
from kinoform.training.examples import DrawnExamples, Examples, Samples
from kinoform.training.frozen import EncoderPlan, FrozenParts, TrainedEncoder
from kinoform.training.loop import finished
from kinoform.training.objective import TrainableModel
from kinoform.training.plan import TrainingRun, shared
from kinoform.training.stage import RunOptions, TrainingSpec
from kinoform.training.tuning_stage import AdapterStage, TuningSpec

CPU = torch.device("cpu")


def check_derived(recipe: Recipe, parts: Parts, learner: str, base: str) -> None:
    """Raise UsageError unless the recipe of what learns is for a model like its base, of these parts."""
    if parts.transformer_specs != recipe.transformers:
        raise UsageError(
            f"the recipe of {learner} is not for a model like {base}; derive it so", code="recipe_mismatch"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlan(TuningSpec):
    """Plan of a training of additions and low-rank changes of the model called `base`, on samples that are drawn.

    Each step has `batch` of them. Samples without inputs are up to `samples`. `encoder` is the plan by which what
    embeds an added context source learns first.
    """

    base: str
    samples: Samples
    training: TrainingSpec
    batch: int = 32
    encoder: EncoderPlan | None = None

    output_name: ClassVar[str] = "adapter.safetensors"

    @property
    def run_name(self) -> str:
        return f"{self.base}-{self.name}"

    def check_output(self, path: Path, *, force: bool) -> None:
        check_writable(path, force=force)

    def examples(self, frozen: FrozenParts) -> DrawnExamples:
        """Return the examples of the training, encoded by these parts of the base."""
        return DrawnExamples(
            samples=self.samples, batch=self.batch, video=self.video, conditioners=self.recipe.conditioners,
            frozen=frozen,
        )  # fmt: skip

    def train(self, run: TrainingRun) -> TrainedAdapter:
        """See `TrainingPlan`. Raises UsageError when the recipe is not for a model like the base."""
        parts = repeated(run.load_parts(self.base), len(self.recipe.transformers))
        check_derived(self.recipe, parts, f"the adapter {self.name}", self.base)
        with held(run.folder):
            return train_adapter(self, parts, run.folder / "adapter", run.options, processes=run.processes)


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
    Rank(0, processes).slice(plan.batch)  # refused here rather than in every process
    tuned = tune(plan, plan.training, parts, plan.examples(frozen), folder, options, processes, plan.encoder, frozen)
    return TrainedAdapter(
        name=plan.name,
        base=plan.base,
        base_hash=parts.fingerprint(),
        additions=plan.recipe.additions,
        transformers=tuple(transformer for transformer, _ in tuned.values()),
        report=report_of(tuned),
    )


Tuned = dict[str, tuple[DiT, dict[str, object]]]
"""Each transformer with what it learnt, averaged, and how far its training went, by the name of the expert."""


def tune(
    plan: TuningSpec, training: TrainingSpec, parts: Parts, examples: Examples, folder: Path,
    options: RunOptions | None = None, processes: int = 1, encoder: EncoderPlan | None = None,
    frozen: FrozenParts | None = None,
) -> Tuned:  # fmt: skip
    """Train each transformer below `folder`, one after the other; `encoder` needs the `frozen` parts.

    Of several experts each has a folder beside it: `adapter-high` beside `adapter`. Raises what `train` raises.
    """
    options, names, tuned = replace(options or RunOptions(), sample_every=0), expert_names(len(parts.transformers)), {}
    for expert, (name, load) in enumerate(zip(names, parts.transformers, strict=True)):
        base, place = (
            load(plan.precision, CPU),
            folder if len(names) == 1 else folder.with_name(f"{folder.name}-{name}"),
        )
        trained = None
        if encoder is not None and frozen is not None:
            trained = encoder.train(base, frozen, place / "encoder", options)
        stage = _TuningStage(plan, training, base, examples, parts.fingerprint(), trained, place, expert)
        tuned[name] = shared(processes, _train, options, stage)
    return tuned


def report_of(tuned: Tuned) -> Mapping[str, object]:
    """Return the report of the only transformer, or those of several by their names."""
    reports = {name: report for name, (_, report) in tuned.items()}
    return reports if len(reports) > 1 else the_only(tuple(reports.values()))


class _TuningStage(NamedTuple):
    """All that a process needs to make its stage."""

    plan: TuningSpec
    training: TrainingSpec
    base: DiT
    examples: Examples
    base_hash: str
    encoder: TrainedEncoder | None
    folder: Path
    expert: int


def _train(group: ProcessGroup, options: RunOptions, told: _TuningStage) -> tuple[DiT, dict[str, object]]:
    stage = AdapterStage(
        told.plan, told.base, told.examples, base_hash=told.base_hash, encoder=told.encoder, rank=group.rank,
        expert=told.expert,
    )  # fmt: skip
    module, report = finished(stage, told.folder, told.training, options, group)
    assert isinstance(module, TrainableModel)
    if told.encoder is not None:
        report["encoder"] = told.encoder.report
    return module.model, report
