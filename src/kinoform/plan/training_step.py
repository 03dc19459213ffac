"""A training step on the meta device: operations forward and backward, what learns, and bytes at the worst moment."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# PyTorch's modes and functions with a backward of their own have no types.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import Any, no_type_check

import torch
from torch import Tensor, nn

from kinoform.conditions.protocols import NOTHING, ConditionerOutput
from kinoform.loading.additions import Additions
from kinoform.models.dit import DiT, DiTSpec, keeps_float32
from kinoform.models.lora import LoRARanks, LoRASpec, chosen
from kinoform.models.meta import on_meta
from kinoform.models.protocols import Stream
from kinoform.models.text import TextSpec
from kinoform.numbers import settle
from kinoform.ops.dry_run import DryRun, Kernels, storage_key
from kinoform.ops.meta_shapes import META
from kinoform.ops.patch import grid_of
from kinoform.plan.modules import FLOAT32
from kinoform.plan.workload import LatentSize, adapted_specs
from kinoform.types import Conditions

ATTENTION_BACKWARD = 2.5
"""Operations of attention's backward by a fused kernel over those of its forward: five products of the size of the
two, since the scores are made again (Dao et al., 2022)."""

WHOLE = "model."
STATE = 4
"""Float32 copies of what learns beside itself: gradient, both moments of AdamW, and the average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Cost of one step of tuning a transformer, of a batch of equal videos.

    `tokens` are those of one video. `backward` has no second forward in it; `blocks` are the operations of all
    blocks forward, which a step that keeps no activations runs twice. `weights` are the bytes of the base,
    `state` those of what learns with gradients, moments and average, `activations` those of all tensors that a step
    makes at its worst moment, `recomputed` the same where each block is run again in the backward.
    """

    tokens: int
    batch: int
    forward: int
    backward: int
    blocks: int
    learning: int
    weights: int
    state: int
    activations: int
    recomputed: int

    @property
    def flops(self) -> int:
        """Operations of a step that keeps its activations."""
        return self.forward + self.backward

    @property
    def flops_recomputed(self) -> int:
        """Operations of a step that runs each block again."""
        return self.flops + self.blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInputs:
    """Inputs of a batch besides text, on the meta device, and what is added to the model; equal where shapes are.

    Channels are there in any case.
    """

    additions: Additions | None = field(default=None, compare=False)
    condition: ConditionerOutput = field(default=NOTHING, compare=False)
    told: str = field(init=False)

    def __post_init__(self) -> None:
        settle(self, told=repr((self.additions, self.condition)))


TEXT_ALONE = StepInputs()


@lru_cache(maxsize=64)
def step_cost(
    spec: DiTSpec,
    lora: LoRASpec | None,
    text: TextSpec,
    latents: LatentSize,
    batch: int,
    dtype: torch.dtype,
    inputs: StepInputs = TEXT_ALONE,
) -> StepCost:
    """Run a step forward and backward without values, on latents (frames, height, width), prompts of full length.

    Weights are of `dtype`. With a LoRA its matrices learn, with additions these, otherwise all weights; what learns is
    float32, and is rounded to `dtype` for the products.
    """
    additions, condition = inputs.additions, inputs.condition
    added = additions or Additions()
    spec = added.to(spec)
    model = _Whole(on_meta(_adapted(spec, lora).build))

    def learns(name: str) -> bool:
        return (lora is None and additions is None) or ".adapters." in name or added.learns(name.removeprefix(WHOLE))

    learning = _begun(model, dtype, learns)
    rounded = {name: not keeps_float32(name.removeprefix(WHOLE)) for name in learning}
    frames, *sides = latents
    size = condition.constraints.prefix_frames + frames, *sides
    x = torch.empty(batch, spec.out_channels, *size, device=META)
    levels, extra = torch.empty(batch, device=META), spec.in_channels - spec.out_channels
    conditions = replace(
        condition, channels=torch.empty(batch, extra, *size, device=META) if extra else None
    ).conditions(torch.empty(batch, text.length, text.dim, dtype=dtype, device=META))
    run = _StepRun(Kernels(parts=False, ordered=False), _names(model))
    marks = _marks(model.model, run)
    with run:
        with run.counted() as forward:
            cast = {name: value.to(dtype) if rounded[name] else value for name, value in learning.items()}
            velocity = torch.func.functional_call(model, cast, (x, levels, conditions))
            loss = velocity.float().square().mean()
        with run.counted() as backward:
            loss.backward()
    own = sum(value.numel() for value in learning.values())
    return StepCost(
        tokens=grid_of(x, spec.patch).tokens,
        batch=batch,
        forward=forward.total,
        backward=backward.total,
        blocks=sum(flops for (name, _), flops in forward.flops.items() if name.startswith("blocks.")),
        learning=own,
        weights=sum(value.nbytes for name, value in model.named_parameters() if name not in learning),
        state=own * FLOAT32 * (1 + STATE),
        activations=run.peak,
        recomputed=run.peak - _saved(marks, spec.layers),
    )


class _Whole(nn.Module):
    """A transformer and the preparation of its conditions, as training calls both at every step."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        return self.model(x, timesteps, self.model.prepare(conditions, grid_of(x, self.model.spec.patch)))


def _adapted(spec: DiTSpec, lora: LoRASpec | None) -> DiTSpec:
    if lora is None:
        return spec
    ranks = tuple((place, lora.rank) for place in chosen(on_meta(spec.build), lora.patterns))
    (adapted,) = adapted_specs([spec], [(LoRARanks(ranks=ranks),)])
    return adapted


def _begun(model: nn.Module, dtype: torch.dtype, learn: Callable[[str], bool]) -> dict[str, nn.Parameter]:
    """Give all weights their dtypes, and return those that learn, by their names."""
    learning: dict[str, nn.Parameter] = {}
    for name, value in model.named_parameters():
        learns = learn(name)
        wide = learns or keeps_float32(name.removeprefix(WHOLE))
        value.data = value.data.to(torch.float32 if wide else dtype)
        value.requires_grad_(learns)
        if learns:
            learning[name] = value
    return learning


def _names(model: nn.Module) -> dict[int, str]:
    return {storage_key(value): name.removeprefix(WHOLE) for name, value in model.named_parameters()}


def _marks(model: DiT, run: DryRun) -> list[tuple[int, int]]:
    """Return what will hold, for each block but the first, the bytes alive before it, and those of its input."""
    marks: list[tuple[int, int]] = []

    def note(block: nn.Module, given: tuple[Any, ...]) -> None:
        stream: Stream = given[0]
        marks.append((run.now, stream.tokens.nbytes))

    for block in model.blocks:
        block.register_forward_pre_hook(note)
    return marks


def _saved(marks: list[tuple[int, int]], layers: int) -> int:
    """Return the bytes that are not alive where blocks keep their inputs alone, and one at a time all else."""
    if len(marks) < 2:
        return 0
    (first, size), (last, _) = marks[0], marks[-1]
    return max(0, ((last - first) // (len(marks) - 1) - size) * (layers - 1))


class _StepRun(DryRun):
    """A dry run with gradients: attention by a fused kernel, which keeps its inputs, its result and a number a row."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        return _FusedAttention.apply(self, q, k, v)

    def attend_forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().attend(q, k, v)

    def attend_backward(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        flops = 2 * prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        self.flops["", "attention"] += round(ATTENTION_BACKWARD * flops)


@no_type_check
class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: _StepRun, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        result, rows = run.attend_forward(q, k, v), torch.empty(q.shape[:-1], device=META)
        ctx.run = run
        ctx.save_for_backward(q, k, v, result, rows)
        return result

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[None, Tensor, Tensor, Tensor]:
        q, k, v, _, _ = ctx.saved_tensors
        ctx.run.attend_backward(q, k, v)
        return None, torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
