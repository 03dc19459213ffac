"""Options of a training from people's own clips, and the plan that they make."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kinoform.cli import console
from kinoform.cli.engine_options import EngineOptions
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.options import PATH_SETTING, SETTING, one_of, option
from kinoform.cli.taught_model import TaughtModel, planned_model, taught_model
from kinoform.errors import UsageError, nearest

if TYPE_CHECKING:
    import torch

    from kinoform.datasets.asked import DatasetSettings
    from kinoform.datasets.clips import ClipList, ClipRule
    from kinoform.datasets.item import Dataset
    from kinoform.models.lora import LoRASpec
    from kinoform.pipelines.pipeline import Pipeline
    from kinoform.recipe import Recipe
    from kinoform.training.clip_cache import CacheSettings
    from kinoform.training.clip_plan import ClipPlan
    from kinoform.training.forecast import Forecast
    from kinoform.training.keeping import KeptWords
    from kinoform.training.levels import Levels
    from kinoform.training.like import TrainerDefaults

CLIPS, LEARNING = "Clips", "Learning"
RULES = ("head", "middle", "random", "spread", "sliding", "all")
FORMATS = ("comfy", "diffusers", "kohya")
LIKE = ("musubi", "diffusion-pipe", "diffsynth", "ai-toolkit", "fastvideo", "videox-fun")
BUDGET = 32_768
"""Tokens of a batch: one clip of 81 frames of 832x480, or eight small ones."""

LEAST_STEPS, STEPS_OF_CLIP, MOST_STEPS = 400, 20, 3000
SEED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOptions:
    """Options by which a dataset becomes clips and batches, and a LoRA learns them."""

    clips: Annotated[
        str | None,
        option(
            CLIPS,
            "head (unless DATA says another), middle, random=4, spread=4, sliding=8, all.",
            complete=one_of(RULES),
        ),
        SETTING,
    ] = None
    clip_frames: Annotated[
        str | None, option(CLIPS, "Frames of a clip; 17,33: the most that a video fills; 17+33: each."), SETTING
    ] = None
    clip_size: Annotated[
        str | None, option(CLIPS, "WIDTHxHEIGHT, whose area clips of other proportions get; or several."), SETTING
    ] = None
    one_size: Annotated[
        bool | None, option(CLIPS, "Crop all clips to that size.", "--one-size/--many-sizes"), SETTING
    ] = None
    batch_size: Annotated[int | None, option(CLIPS, "Most clips in a batch; 8 unless DATA says so."), SETTING] = None
    batch_tokens: Annotated[int, option(CLIPS, "Most tokens in a batch; a larger clip is alone."), SETTING] = BUDGET
    cache: Annotated[
        Path | None, option(CLIPS, "Folder of encoded clips, shared by trainings; else DATA.cache."), PATH_SETTING
    ] = None
    no_cache: Annotated[bool, option(CLIPS, "Keep encoded clips in memory alone.", "--no-cache"), SETTING] = False
    cache_float32: Annotated[
        bool, option(CLIPS, "Keep them in float32, not rounded to bfloat16.", "--cache-float32"), SETTING
    ] = False
    validation: Annotated[
        str | None, option(CLIPS, "Clips that are measured and not learnt: a share as 0.1, or a folder."), SETTING
    ] = None
    like: Annotated[
        str | None,
        option(LEARNING, f"Learn as another trainer would by itself: {', '.join(LIKE)}.", complete=one_of(LIKE)),
        SETTING,
    ] = None
    rank: Annotated[int | None, option(LEARNING, "Rank of the LoRA; 32, or that of --like."), SETTING] = None
    alpha: Annotated[
        float | None, option(LEARNING, "Scale alpha / rank; else as the rank, or that of --like."), SETTING
    ] = None
    learning_rate: Annotated[
        float | None, option(LEARNING, "Of AdamW; else 1e-4, more where a model is narrow, or that of --like."), SETTING
    ] = None
    training_steps: Annotated[int | None, option(LEARNING, "Steps; else by the number of clips."), SETTING] = None
    caption_dropout: Annotated[
        float | None, option(LEARNING, "Share of the prompts that are left out; 0.1, or that of --like."), SETTING
    ] = None
    dropout: Annotated[
        str | None, option(LEARNING, "first=0.1,references=0.2: shares of inputs that are left out."), SETTING
    ] = None
    keep: Annotated[
        str | None,
        option(LEARNING, "brown=red,green: what captions with red or green for brown show stays as it was."),
        SETTING,
    ] = None
    levels: Annotated[
        str | None, option(LEARNING, "shifted:shift=5, uniform, logit-normal:mean=0,std=1, mode or grid."), SETTING
    ] = None
    levels_range: Annotated[
        str | None, option(LEARNING, "Timesteps that are learnt, such as 875-1000; experts have their own."), SETTING
    ] = None
    weighting: Annotated[
        str | None,
        option(LEARNING, "Of the loss by noise level: none, min-snr:gamma=5, bell, sigma-sqrt or cosmap."),
        SETTING,
    ] = None
    lora_format: Annotated[str, option(LEARNING, "comfy, diffusers or kohya.", complete=one_of(FORMATS)), SETTING] = (
        "comfy"
    )

    def cache_of(self, data: Path) -> CacheSettings | None:
        """Return the cache of a dataset, whose default lies beside it; None where there is to be none."""
        import torch

        from kinoform.training.clip_cache import CacheSettings

        if self.no_cache:
            return None
        folder = self.cache or cache_beside(data)
        return CacheSettings(folder=folder, dtype=torch.float32 if self.cache_float32 else torch.bfloat16)

    def kept(self) -> KeptWords | None:
        """Return the words that keep their meaning. Raises UsageError for text that names none."""
        if self.keep is None:
            return None
        from kinoform.training.keeping import KeptWords

        word, _, others = self.keep.partition("=")
        return KeptWords(word=word.strip(), others=tuple(other.strip() for other in others.split(",") if other.strip()))

    @property
    def usual(self) -> TrainerDefaults:
        """The settings that count where no option says another. Raises UsageError for an unknown trainer."""
        from kinoform.training.like import trainer_named

        return trainer_named(self.like)

    def noise_levels(self, transformers: int) -> Levels:
        """Return the noise levels that are learnt. Raises UsageError for a name or a range that is none."""
        from kinoform.training.levels import level_range
        from kinoform.training.names import noise_levels_of

        levels = self.usual.levels_for(transformers) if self.levels is None else noise_levels_of(self.levels)
        return levels if self.levels_range is None else levels.within(*level_range(self.levels_range))

    def check(self) -> None:
        """Raise UsageError for numbers out of range, and for options that exclude each other."""
        _ = self.usual
        if self.no_cache and (self.cache is not None or self.cache_float32):
            raise UsageError("--no-cache keeps nothing; leave it out, or --cache", code="options_conflict")
        for name, value, low, high in (
            ("--batch-size", 1 if self.batch_size is None else self.batch_size, 1, 10_000),
            ("--batch-tokens", self.batch_tokens, 1, 10**9),
            ("--rank", 1 if self.rank is None else self.rank, 1, 4096),
            ("--training-steps", 1 if self.training_steps is None else self.training_steps, 1, 10**7),
            ("--caption-dropout", self.caption_dropout or 0, 0, 1),
            ("--learning-rate", 1.0 if self.learning_rate is None else self.learning_rate, 1e-9, 1),
        ):
            if not low <= value <= high:
                raise UsageError(f"{name} must be from {low:g} to {high:g}, not {value:g}", code="value_out_of_range")

    def beside(self, dataset: DatasetSettings) -> ClipOptions:
        """Return these options with what the dataset asks for where nothing is said, and else the usual."""
        frames = None if dataset.lengths is None else dataset.lengths.text
        size = None if dataset.sizes is None else ",".join(f"{width}x{height}" for width, height in dataset.sizes)
        return replace(
            self,
            clips=self.clips or dataset.rule or RULES[0],
            clip_frames=self.clip_frames or frames,
            clip_size=self.clip_size or size,
            one_size=bool(dataset.one_size if self.one_size is None else self.one_size),
            batch_size=self.batch_size or dataset.batch or self.usual.batch,
        )

    def rule(self) -> ClipRule:
        """Return the rule of clips. Raises UsageError for a name that none has, or a bad number behind it."""
        from kinoform.datasets.clips import AllClips, HeadClip, MiddleClip, RandomClips, SlidingClips, SpreadClips

        text = self.clips or RULES[0]
        name, _, number = text.partition("=")
        if number and not (number.isdecimal() and 0 < int(number) < 100_000):
            raise UsageError(f"--clips {text[:40]!r}: {number[:20]!r} is no number above 0", code="bad_value")
        given = int(number) if number else None
        rules: dict[str, ClipRule] = {
            "head": HeadClip(), "middle": MiddleClip(), "all": AllClips(),
            "random": RandomClips() if given is None else RandomClips(count=given),
            "spread": SpreadClips() if given is None else SpreadClips(count=given),
            "sliding": SlidingClips() if given is None else SlidingClips(stride=given),
        }  # fmt: skip
        if name not in rules or (number and name not in ("random", "spread", "sliding")):
            raise UsageError(f"no rule of clips {text[:40]!r}; {nearest(name[:40], rules)}", code="unknown_name")
        return rules[name]


def cache_beside(data: Path) -> Path:
    """Return the folder of a dataset's cache, which lies beside it: clips.cache beside clips."""
    return data.absolute().with_name(f"{data.absolute().stem if data.is_file() else data.absolute().name}.cache")


def clip_plan(
    data: Path, named: ModelOptions, machine: MachineOptions, asked: ClipOptions, engine: EngineOptions, processes: int
) -> tuple[Pipeline, ClipPlan]:
    """Open dataset and model, choose the clips, and return the model with the plan. Raises UsageError."""
    asked.check()
    engine.check()
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.training.beside import beside, table

    pipeline = named.load(machine, engine.keep_packed)
    taught = taught_model(pipeline, named)
    dataset, asked = _opened(data, taught.recipe, asked)
    plan = engine.placed(plan_of(data, dataset, taught, pipeline.machine.dtype, asked, engine, processes), pipeline)
    if asked.like is not None:
        for line in table(beside(plan)):
            console.note(line)
    return pipeline, plan


def _opened(data: Path, recipe: Recipe, asked: ClipOptions) -> tuple[Dataset, ClipOptions]:
    """Open a dataset with captions; what it asks for counts where no option says otherwise. Raises UsageError."""
    from kinoform.conditions.protocols import declared
    from kinoform.conversion.lora_files import lora_format
    from kinoform.datasets.open import open_dataset

    lora_format(asked.lora_format)
    dataset = open_dataset(data, declared(recipe.conditioners))
    dataset.check_captions()
    asked = asked.beside(dataset.asked)
    asked.rule()
    for sentence in asked.usual.not_followed(len(recipe.transformers)):
        console.note(f"{asked.usual.title}: {sentence}")
    return dataset, asked


def forecast_of(
    data: Path,
    named: ModelOptions,
    machine: MachineOptions,
    asked: ClipOptions,
    engine: EngineOptions,
    processes: int,
    rate: float | None,
) -> Forecast:
    """Return what the training would take; weights need not be there where the model is known by its name."""
    asked.check()
    engine.check()
    import torch

    from kinoform.cli.plan import machine_of, recipe_of
    from kinoform.training.forecast import forecast
    from kinoform.training.recompute import Recompute

    (device, dtype), (recipe, _, _) = machine_of(machine), recipe_of(named)
    taught = planned_model(recipe, named)
    dataset, asked = _opened(data, recipe, asked)
    there = named.load(MachineOptions(device="cpu"), engine.keep_packed) if os.path.exists(str(named.model)) else None
    plan = engine.placed(plan_of(data, dataset, taught, dtype, asked, engine, processes), there)
    known = engine.recompute != "auto" or device == "cpu"
    recompute = engine.recompute_for(plan, torch.device(device), refuse=False) if known else Recompute.NONE
    return forecast(plan, device=device, rate=rate, recompute=recompute)


def plan_of(
    data: Path,
    dataset: Dataset,
    taught: TaughtModel,
    dtype: torch.dtype,
    asked: ClipOptions,
    engine: EngineOptions,
    processes: int,
) -> ClipPlan:
    """Choose the clips and return the plan of what learns from them. Raises UsageError."""
    from kinoform.cli.progress import stages
    from kinoform.cli.values import size_of
    from kinoform.conditions.protocols import Units
    from kinoform.conversion.lora_files import lora_format
    from kinoform.datasets.buckets import BatchSize, buckets_of, lengths_of
    from kinoform.datasets.clips import choose_clips
    from kinoform.datasets.survey import survey
    from kinoform.training.clip_plan import ClipPlan
    from kinoform.training.dropout import input_dropout_of
    from kinoform.training.names import weighting_of

    usual, recipe = asked.usual, taught.recipe
    units = Units(stride=recipe.codec.stride, patch=recipe.transformers[0].patch)
    taught.check(dataset)
    texts = (asked.clip_size or f"{recipe.width}x{recipe.height}").split(",")
    sizes = [size_of(text, "--clip-size") for text in texts]
    buckets = [buckets_of(height or 0, width or 0, units, one=bool(asked.one_size)) for width, height in sizes]
    lengths = lengths_of(asked.clip_frames or str(recipe.num_frames))
    with stages({"survey": "looking at the clips"}) as on_progress:
        surveys = list(survey(dataset, recipe.fps, lambda done, total: on_progress("survey", done, total)))
    clips = choose_clips(
        dataset, surveys, rule=asked.rule(), lengths=lengths, buckets=buckets, units=units,
        fps=recipe.fps, seed=SEED,
    )  # fmt: skip
    dropout = None if asked.dropout is None else input_dropout_of(asked.dropout)
    if dropout is not None:
        dropout.check(clips.clips, recipe.conditioners, taught.frames(clips.clips[0].size))
    kept = asked.kept()
    if kept is not None:
        kept.check(clip.item.caption for clip in clips.clips)
    clips, held = held_of(
        clips, asked.validation, lambda path: plan_of(
            path, _opened(path, recipe, asked)[0], taught, dtype, replace(asked, validation=None, dropout=None),
            engine, processes,
        ).clips
    )  # fmt: skip
    for note in clips.notes:
        console.note(note)
    return ClipPlan(
        name="lora",
        recipe=recipe,
        lora=taught.changes(lora_spec(asked)),
        levels=asked.noise_levels(len(recipe.transformers)),
        weighting=usual.weighting if asked.weighting is None else weighting_of(asked.weighting),
        dropout=usual.caption_dropout if asked.caption_dropout is None else asked.caption_dropout,
        precision=dtype,
        seed=SEED,
        base=taught.base,
        clips=clips,
        batch=BatchSize(tokens=asked.batch_tokens, largest=asked.batch_size or usual.batch, processes=processes),
        training=engine.training_spec(
            usual, asked.learning_rate or usual.rate(recipe.transformers[0].dim), steps_of(asked, len(clips.clips))
        ),
        dialect=lora_format(asked.lora_format),
        known=taught.frames(clips.clips[0].size),
        cache=asked.cache_of(data),
        held=held,
        keep=kept,
        input_dropout=dropout,
        address=taught.address,
    )


def held_of(
    clips: ClipList, validation: str | None, choose: Callable[[Path], ClipList]
) -> tuple[ClipList, ClipList | None]:
    """Return the clips that are learnt, and those that are only measured: a share of them, or those of a folder.

    Raises UsageError for a share that cannot be, and for clips that are both.
    """
    from kinoform.datasets.held_out import held_out

    if validation is None:
        return clips, None
    if re.fullmatch(r"\d*\.?\d+", validation):
        return held_out(clips, float(validation), SEED)
    held = choose(Path(validation).expanduser())
    keys = {clip.key for clip in clips.clips}
    if both := [clip.name for clip in held.clips if clip.key in keys]:
        raise UsageError(
            f"{both[0]} of {validation} is learnt too, so its loss would say nothing; take it out of one of both",
            code="validation_is_learnt",
        )
    return clips, held


def lora_spec(asked: ClipOptions) -> LoRASpec:
    """Return the LoRA of the options; those of the usual settings where they say nothing."""
    from kinoform.models.lora import LoRASpec

    usual, rank = asked.usual, asked.rank or asked.usual.rank
    alpha = usual.alpha if asked.alpha is None else asked.alpha
    return LoRASpec(patterns=usual.targets, rank=rank, alpha=alpha)


def steps_of(asked: ClipOptions, clips: int) -> int:
    """Return the steps of a training from so many clips."""
    return asked.training_steps or min(MOST_STEPS, max(LEAST_STEPS, STEPS_OF_CLIP * clips))
