"""Plan of a LoRA on a finished model from clips of a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import torch

from kinoform.conditions.protocols import Units
from kinoform.datasets.buckets import BatchSize
from kinoform.datasets.clips import MAX_BAD, Clip, ClipList
from kinoform.datasets.order import BatchOrder
from kinoform.errors import UsageError
from kinoform.families.lora import LoRADialect
from kinoform.files import check_writable
from kinoform.loading.parts import Parts, repeated
from kinoform.media.shared_decoder import SharedDecoder
from kinoform.models.dit import DiT
from kinoform.ops.memory import release_memory
from kinoform.pipelines.part_cache import PartEncoders
from kinoform.solvers.by_expert import expert_names
from kinoform.training.adapter import report_of, tune
from kinoform.training.base_memory import BasePlacing
from kinoform.training.cache.fill import FillPlan, fill
from kinoform.training.checkpoint import held
from kinoform.training.clip_cache import CachedClips, CachedText, CacheSettings, ModelEncoders, PromptsOf, opened_cache
from kinoform.training.clip_examples import ClipEncoder, ClipExamples, example_of, text_rows
from kinoform.training.dropout import InputDropout
from kinoform.training.examples import Example, Examples
from kinoform.training.keeping import KeepingExamples, KeptWords
from kinoform.training.plan import TrainingRun
from kinoform.training.saving import Probe, probe_of, save_checked, save_checked_adapter
from kinoform.training.stage import TrainingSpec
from kinoform.training.tuning_stage import TuningSpec
from kinoform.training.validation import ValidationLog

MOST_HELD, VALIDATIONS, MIN_STEPS = 16, 20, 20
"""Held-out clips that are measured, how often in a training, and the steps between at least."""

OnStage = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPlan(TuningSpec):
    """Plan of a LoRA from the `clips` of a dataset, in batches as `batch` says, on the model called `base`.

    `known` are frames of each clip that the model is given as images, where an item has none of its own. What is
    encoded is kept in `cache`, or in memory. The file is written in `dialect`. A prompt that is dropped is empty: what
    the recipe has as negative prompt would learn what the clips show, and take it away again. `held` are clips that
    nothing learns, whose loss is told on the way. `keep` are words that keep their meaning; each batch is twice as
    large with them. `input_dropout` says which inputs are left out how often. `placing` says where the base lies.
    """

    base: str
    clips: ClipList
    batch: BatchSize
    training: TrainingSpec
    dialect: LoRADialect
    known: tuple[int, ...] = ()
    cache: CacheSettings | None = None
    held: ClipList | None = None
    keep: KeptWords | None = None
    input_dropout: InputDropout | None = None
    address: str | None = None
    placing: BasePlacing = field(default_factory=BasePlacing)

    @property
    def output_name(self) -> str:
        """See `TrainingPlan`."""
        return f"{'lora' if self.recipe.additions is None else 'adapter'}.safetensors"

    @property
    def run_name(self) -> str:
        """See `TrainingPlan`."""
        return f"{self.recipe.name.replace(':', '-')}-{self.name}"

    @property
    def deciding(self) -> dict[str, object]:
        """See `TuningSpec`; of the clips their digest stands for all."""
        own = {item.name: getattr(self, item.name) for item in fields(TuningSpec) if item.name != "recipe"}
        rounded = None if self.cache is None or self.cache.dtype == torch.float32 else self.cache.dtype
        return {
            **own,
            "clips": self.clips.digest,
            "batch": self.batch,
            "known": self.known,
            "rounded": rounded,
            "keep": self.keep,
            "input_dropout": self.input_dropout,
        }

    @property
    def without_words(self) -> ClipPlan:
        """The plan with an empty prompt where one is dropped."""
        return replace(self, recipe=replace(self.recipe, negative_prompt=""))

    def check_output(self, path: Path, *, force: bool) -> None:
        """See `TrainingPlan`."""
        for file in self.files(path):
            check_writable(file, force=force)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The files that are written: of several experts one each, with its name."""
        names = expert_names(len(self.recipe.transformers))
        whole = len(names) == 1 or self.recipe.additions is not None
        return (path,) if whole else tuple(path.with_stem(f"{path.stem}_{name}_noise") for name in names)

    def train(self, run: TrainingRun) -> TrainedLoRA:
        """See `TrainingPlan`. The encoders are loaded, used and gone before the first transformer comes."""
        parts = repeated(run.load_parts(self.base), len(self.recipe.transformers))
        plan = self.without_words
        with held(run.folder):
            on_stage = run.options.on_progress or _silent
            examples, validation = plan.examples(parts, run.options.device, on_stage), ()
            if plan.held is not None:
                validation = (plan.validation(plan.held, parts, run.options.device, on_stage),)
            options = replace(run.options, observers=(*run.options.observers, *validation))
            learnt: Examples = examples
            if plan.keep is not None:
                learnt = KeepingExamples(examples=examples, kept=plan.keep, seed=plan.seed)
            tuned = tune(plan, plan.training, parts, learnt, run.folder / "lora", options, run.processes)
        first = examples.draw(0, slice(0, 1))[0]
        return TrainedLoRA(
            plan=plan,
            transformers=tuple(transformer for transformer, _ in tuned.values()),
            parts=parts,
            probe=probe_of(first, examples.rows([first.prompt])),
            report=report_of(tuned),
        )

    def examples(self, parts: Parts, device: torch.device, on_stage: OnStage) -> ClipExamples:
        """Encode all clips and captions. Raises UsageError for a clip that cannot be read or does not fit."""
        units = Units(stride=parts.codec_spec.stride, patch=parts.patch)
        if self.cache is not None:
            filled = self.filling(parts, self.cache, device)
            filled.cache.heal()
            fill(filled, on_stage=on_stage)
            release_memory()
            there = self._whole(lambda clip: filled.cache.has(clip.key))
            return ClipExamples(
                order=BatchOrder(clips=there, batch=self.batch, units=units, seed=self.seed),
                encoded=CachedClips(cache=filled.cache, clips=there),
                text=CachedText(cache=filled.cache, prompts=tuple(filled.prompts(filled.cache))),
                dropout=self.input_dropout,
                known=self.known,
            )
        encoded = self._encoded(PartEncoders(parts, device, torch.float32), on_stage)
        release_memory()
        order = BatchOrder(clips=self._whole(encoded.__contains__), batch=self.batch, units=units, seed=self.seed)
        prompts = [self.recipe.negative_prompt, *self._captions(example.prompt for example in encoded.values())]
        return ClipExamples(
            order=order,
            encoded=encoded,
            text=text_rows(parts, prompts, device),
            dropout=self.input_dropout,
            known=self.known,
        )

    def validation(self, held: ClipList, parts: Parts, device: torch.device, on_stage: OnStage) -> ValidationLog:
        """Encode clips that are not learnt, and return who tells their loss."""
        clips = ClipList(clips=held.clips[:MOST_HELD], notes=())
        examples = replace(self, clips=clips, held=None, input_dropout=None).examples(parts, device, on_stage)
        there = [examples.encoded[clip] for clip in examples.order.clips]
        return ValidationLog(there, examples.rows, max(MIN_STEPS, self.training.schedule.total // VALIDATIONS))

    def filling(self, parts: Parts, settings: CacheSettings, device: torch.device) -> FillPlan:
        """Return what a cache is to hold for this training. Warns of what others encoded into its folder."""
        conditioners, clips = self.recipe.conditioners, self._variants
        cache = opened_cache(settings, parts, conditioners, self.known)
        for sentence in cache.stale():
            warnings.warn(sentence, stacklevel=2)
        return FillPlan(
            cache=cache,
            clips=clips,
            prompts=PromptsOf(clips=clips, others=(self.recipe.negative_prompt,), also=self._captions),
            encoders=partial(ModelEncoders, parts, conditioners, self.known, device),
            most_bad=int(MAX_BAD * len(clips)),
        )

    @property
    def _variants(self) -> tuple[Clip, ...]:
        """The clips, each followed by what may be left of it."""
        if self.input_dropout is None:
            return self.clips.clips
        variants = self.input_dropout.variants
        return tuple(each for clip in self.clips.clips for each in (clip, *variants(clip, self.known)))

    def _whole(self, there: Callable[[Clip], bool]) -> tuple[Clip, ...]:
        """Return the clips that are there with all their variants."""
        missing = {replace(clip, lost=()) for clip in self._variants if not there(clip)}
        return tuple(clip for clip in self.clips.clips if clip not in missing)

    def _captions(self, prompts: Iterable[str]) -> list[str]:
        """Return prompts, and those that they become with words that keep their meaning."""
        own = list(prompts)
        return own if self.keep is None else [*own, *self.keep.captions(own)]

    def _encoded(self, encoders: PartEncoders, on_stage: OnStage) -> dict[Clip, Example]:
        """Encode the clips; those that cannot be read are left out with a warning, as long as they are few."""
        clips, encoded, bad = self._variants, dict[Clip, Example](), 0
        with SharedDecoder() as decoder:
            encoder = ClipEncoder(
                conditioners=self.recipe.conditioners, encoders=encoders, known=self.known, decoder=decoder
            )
            for done, clip in enumerate(clips, start=1):
                try:
                    encoded[clip] = example_of(clip, encoder.encode(clip))
                except UsageError as fault:
                    bad += 1
                    if bad > MAX_BAD * len(clips):
                        raise
                    warnings.warn(f"{clip.name} is left out: {fault}", stacklevel=2)
                on_stage("clips", done, len(clips))
        return encoded


@dataclass(frozen=True, kw_only=True)
class TrainedLoRA:
    """The transformers with what they learnt, averaged, and how far their trainings went."""

    plan: ClipPlan
    transformers: tuple[DiT, ...]
    parts: Parts
    probe: Probe
    report: Mapping[str, object]

    def save(self, path: Path, *, recipe: str | None, force: bool) -> None:
        """Write a LoRA file for each transformer, or one adapter file; see `save_checked`, `save_checked_adapter`."""
        plan = self.plan
        if plan.recipe.additions is not None:
            assert recipe is not None, "a recipe with additions is found by its address"
            save_checked_adapter(
                path, self.transformers, self.parts, plan.recipe, self.probe, name=plan.name, base=plan.base,
                address=recipe, made=self.report, dtype=plan.precision, force=force,
            )  # fmt: skip
            return
        for file, transformer in zip(plan.files(path), self.transformers, strict=True):
            save_checked(
                file, transformer, self.probe, name=plan.name, dialect=plan.dialect, base=self.parts.fingerprint(),
                force=force,
            )  # fmt: skip


def _silent(name: str, done: int, total: int) -> None:
    """Do nothing with the progress."""
