"""Cost of a training from clips, before anything loads: batches, operations, memory, time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import torch

from kinoform.conditions.protocols import (
    ConditionerOutput,
    EncoderSpecs,
    EstimatesCost,
    LatentConstraints,
    Units,
    VideoSize,
    declared,
    together,
)
from kinoform.datasets.clips import Clip
from kinoform.datasets.needed import stand_ins
from kinoform.datasets.order import BatchOrder
from kinoform.loading.adapters import added_shapes
from kinoform.models.codec import latent_size
from kinoform.ops.dry_run import kernels_of
from kinoform.ops.meta_shapes import META
from kinoform.plan.memory import ACCELERATOR, INTERPRETER
from kinoform.plan.modules import FLOAT32, codec_count, encode_run, text_count, text_run
from kinoform.plan.training_step import StepCost, StepInputs, step_cost
from kinoform.training.base_memory import BaseMemory, base_memory
from kinoform.training.beside import BesideRow, beside, table
from kinoform.training.clip_plan import ClipPlan
from kinoform.training.devices import mapped
from kinoform.training.optimizer import Adam8bitSpec, OptimizerSpec, no_matrix
from kinoform.training.recompute import Recompute

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketForecast:
    """Clips of one size: how many there are, steps of an epoch that learn them, and what such a step takes."""

    size: VideoSize
    clips: int
    steps: int
    cost: StepCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Cost of a training, of each transformer; `experts` of them learn one after the other.

    `buckets` have the largest batch first, of which a step has `accumulate`.
    `peaks` are the bytes at the worst moment of each stage on the `device`, of
    which `rate` operations a second are taken, if it is known. `switched_on` are settings in words, `beside` the
    training, our defaults and those of other trainers in numbers. `added` counts the numbers that the recipe adds to
    each transformer.
    """

    buckets: tuple[BucketForecast, ...]
    steps: int
    experts: int
    dtype: torch.dtype
    device: str
    peaks: dict[str, int]
    switched_on: tuple[str, ...]
    rate: float | None
    beside: tuple[BesideRow, ...]
    recompute: Recompute
    accumulate: int
    base: BaseMemory
    swap_blocks: int
    added: int = 0

    @property
    def epoch(self) -> float:
        """Steps in which every clip is learnt once."""
        return self._batches / self.accumulate

    @property
    def mean_flops(self) -> float:
        """Operations of a step, in the mean of an epoch."""
        return self.accumulate * sum(bucket.steps * self.flops(bucket) for bucket in self.buckets) / self._batches

    @property
    def _batches(self) -> int:
        return sum(bucket.steps for bucket in self.buckets)

    def flops(self, bucket: BucketForecast) -> int:
        """Return the operations of a batch; where attention is kept, as if it were not."""
        return bucket.cost.flops if self.recompute is Recompute.NONE else bucket.cost.flops_recomputed

    def activations(self, bucket: BucketForecast) -> int:
        """Return the bytes at the worst moment of a batch; where attention is kept, as if everything were."""
        return bucket.cost.recomputed if self.recompute is Recompute.FULL else bucket.cost.activations

    def seconds(self, bucket: BucketForecast) -> float | None:
        """Estimate the seconds of a batch."""
        return None if self.rate is None else self.flops(bucket) / self.rate

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "buckets": [
                {
                    "width": bucket.size.width, "height": bucket.size.height, "frames": bucket.size.num_frames,
                    "clips": bucket.clips, "steps": bucket.steps, "seconds": self.seconds(bucket),
                    **asdict(bucket.cost), "flops": bucket.cost.flops,
                    "flops_recomputed": bucket.cost.flops_recomputed,
                }
                for bucket in self.buckets
            ],
            "steps": self.steps, "epoch": self.epoch, "experts": self.experts, "device": self.device,
            "dtype": str(self.dtype).removeprefix("torch."), "peaks": self.peaks, "flops_per_second": self.rate,
            "recompute": self.recompute.value, "accumulate": self.accumulate,
            "switched_on": list(self.switched_on), "added": self.added, "base": asdict(self.base),
            "swap_blocks": self.swap_blocks,
            "beside": [asdict(row) for row in self.beside],
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """Yield the lines of a table for people."""
        yield f"{'clips of':<16}{'clips':>7}{'tokens':>9}{'batch':>7}{'TFLOP':>12}{'GiB':>8}{'seconds':>9}"
        for bucket in self.buckets:
            size, cost, seconds = bucket.size, bucket.cost, self.seconds(bucket)
            held = (self.base.device + cost.state + self.activations(bucket)) / GIB
            yield (
                f"{f'{size.width}x{size.height}x{size.num_frames}':<16}{bucket.clips:>7}{cost.tokens:>9}"
                f"{cost.batch:>7}{_tera(self.flops(bucket)):>12}{held:>8.3g}"
                f"{'?' if seconds is None else f'{seconds:.3g}':>9}"
            )
        cost = self.buckets[0].cost
        dtype = str(self.dtype).removeprefix("torch.")
        yield ""
        of = "" if self.experts == 1 else f", of each of {self.experts} transformers"
        if self.added:
            yield f"adds              {self.added / 1e6:.4g} M numbers{of}"
        yield f"learns            {cost.learning / 1e6:.4g} M numbers in float32{of}"
        yield (
            f"memory            base in {dtype} {self.base.device / GIB:.3g} GiB, what learns with gradients, moments "
            f"and average {cost.state / GIB:.3g} GiB, activations {self.activations(self.buckets[0]) / GIB:.3g} GiB"
        )
        if self.base.packed:
            yield f"packed            {self.base.packed / GIB:.3g} GiB of the base, as in its file"
        if self.base.host:
            yield (
                f"swapped           {self.swap_blocks} blocks, {self.base.host / GIB:.3g} GiB in the host's memory, "
                f"which a batch fetches {2 if self.recompute is Recompute.NONE else 3} times"
            )
        for stage, peak in self.peaks.items():
            yield f"peak, {stage:<12}{peak / GIB:.3g} GiB on {self.device}"
        yield f"switched on       {', '.join(self.switched_on)}"
        if self.recompute is Recompute.NONE:
            yield (
                f"could be          blocks run again in the backward: activations {cost.recomputed / GIB:.3g} GiB, "
                f"and a batch {_tera(cost.flops_recomputed)} TFLOP"
            )
        batches = "" if self.accumulate == 1 else f" of {self.accumulate} batches"
        yield f"steps             {self.steps}{batches}, {self.epoch:g} an epoch: {self.steps / self.epoch:.3g} epochs"
        if self.rate is None:
            yield "time              not known: give --tflops, or as --run the folder of such a training"
        else:
            hours = self.experts * self.steps * self.mean_flops / self.rate / 3600
            yield f"time              about {hours:.3g} hours at {self.rate / 1e12:.3g} TFLOP/s: an estimate"
        yield ""
        yield from table(self.beside)


def forecast(
    plan: ClipPlan, *, device: str, rate: float | None = None, recompute: Recompute = Recompute.NONE
) -> Forecast:
    """Count what a plan will take on a type of device, at so many operations a second; no weight is read."""
    recipe = plan.recipe
    units = Units(stride=recipe.codec.stride, patch=recipe.transformers[0].patch)
    order = BatchOrder(clips=plan.clips.clips, batch=plan.batch, units=units, seed=plan.seed)
    batches = [order.at(step) for step in range(order.steps)]
    steps, batch = Counter(clips[0].size for clips in batches), {clips[0].size: len(clips) for clips in batches}
    clips, largest = plan.clips.buckets, dict[VideoSize, Clip]()
    for clip in sorted(plan.clips.clips, key=lambda clip: sum(map(len, clip.item.files.values()))):
        largest[clip.size] = clip  # the one of most inputs

    def cost(size: VideoSize) -> StepCost:
        latents = latent_size(recipe.codec, size.num_frames, size.height, size.width)
        count, one = batch[size], _condition(plan, largest[size], units)
        condition = mapped(one, lambda item: torch.empty(count * item.shape[0], *item.shape[1:], device=META))
        inputs = StepInputs(additions=recipe.additions, condition=condition)
        found = step_cost(recipe.transformers[0], plan.lora, recipe.text, latents, count, plan.precision, inputs)
        return replace(found, state=found.learning * state_bytes(plan.training.optimizer))

    buckets = [BucketForecast(size=size, clips=clips[size], steps=steps[size], cost=cost(size)) for size in steps]
    buckets.sort(key=lambda bucket: -bucket.cost.activations)
    # On a CPU the host's memory is the device's.
    placing = replace(plan.placing, swap_blocks=0) if device == "cpu" else plan.placing
    base = base_memory(recipe.transformers[0], plan.precision, buckets[0].cost.weights, placing)
    return Forecast(
        buckets=tuple(buckets),
        steps=plan.training.schedule.total,
        experts=len(recipe.transformers),
        dtype=plan.precision,
        device=device,
        peaks=_peaks(plan, buckets, device, recompute, base),
        switched_on=tuple(_switched_on(plan, recompute)),
        rate=rate,
        beside=beside(plan),
        recompute=recompute,
        accumulate=plan.training.accumulate or 1,
        base=base,
        swap_blocks=placing.swap_blocks,
        added=0
        if recipe.additions is None
        else sum(prod(shape) for shape in added_shapes(recipe.additions, recipe.transformers[0]).values()),
    )


KEPT = {
    Recompute.NONE: "activations are kept", Recompute.FULL: "blocks are run again in the backward",
    Recompute.SELECTIVE: "blocks but for attention are run again in the backward",
}  # fmt: skip


def state_bytes(optimizer: OptimizerSpec) -> int:
    """Return the bytes of a number that learns: in float32 itself, its gradient and its average, and what the optimizer
    keeps: two moments, of a byte each with 8 bits, or Muon's one (which has the matrices, nearly all there is)."""
    if optimizer.hidden is not no_matrix:
        moments = FLOAT32
    else:
        moments = 2 if isinstance(optimizer.adam, Adam8bitSpec) else 2 * FLOAT32
    return 3 * FLOAT32 + moments


def _condition(plan: ClipPlan, clip: Clip, units: Units) -> ConditionerOutput:
    """Return what the conditioners will make of a clip's inputs, on the meta device; without channels."""
    recipe = plan.recipe
    encoders = EncoderSpecs(codec=recipe.codec, image=recipe.image)
    inputs = stand_ins(clip.item, declared(recipe.conditioners), clip.size, plan.known)
    costs = [
        item.estimate(inputs, clip.size, units, encoders)
        for item in recipe.conditioners
        if isinstance(item, EstimatesCost)
    ]
    return together(
        ConditionerOutput(
            context=cost.context, branches=cost.branches, segments=cost.segments,
            constraints=LatentConstraints(prefix_frames=cost.prefix_frames),
        )
        for cost in costs
    )  # fmt: skip


def _switched_on(plan: ClipPlan, recompute: Recompute) -> Iterator[str]:
    """Yield what a training does for memory and time, and what it does not."""
    if plan.cache is None:
        yield "encoded clips are kept in memory"
    else:
        yield f"encoded clips are kept in {plan.cache.folder} in {str(plan.cache.dtype).removeprefix('torch.')}"
    yield KEPT[recompute]
    if plan.input_dropout is not None:
        yield from (f"{role} is left out of {share:.3g} of the samples" for role, share in plan.input_dropout.shares)
    if plan.held is not None:
        yield f"{len(plan.held.clips)} clips are held out and measured"


def _tera(flops: int) -> str:
    tera = flops / 1e12
    return f"{tera:,.0f}" if tera >= 1000 else f"{tera:.4g}"


def _peaks(
    plan: ClipPlan, buckets: list[BucketForecast], device: str, recompute: Recompute, base: BaseMemory
) -> dict[str, int]:
    """Return the bytes at the worst moment of reading clips and captions, in float32, and of learning."""
    recipe, kernels, fixed = plan.recipe, kernels_of(device, torch.float32), INTERPRETER.get(device, ACCELERATOR)
    sizes = [bucket.size for bucket in buckets]
    latents = {latent_size(recipe.codec, size.num_frames, size.height, size.width) for size in sizes}
    encodes = [encode_run(recipe.codec, item, kernels) for item in latents]
    captions = text_run(recipe.text, torch.float32, kernels)
    full = recompute is Recompute.FULL
    most = max(bucket.cost.recomputed if full else bucket.cost.activations for bucket in buckets)
    learning = most + base.device + buckets[0].cost.state
    return {
        "clips": fixed + codec_count(recipe.codec).bytes(torch.float32) + max(run.peak + run.copies for run in encodes),
        "captions": fixed + text_count(recipe.text).bytes(torch.float32) + captions.peak + captions.copies,
        "learning": fixed + learning,
    }
