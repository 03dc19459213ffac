"""The transformer on the meta device: operations of a video's prompts by part, and bytes alive while it is denoised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.models.changed import changed
from kinoform.models.dit import DiTSpec, Prepared, keeps_float32
from kinoform.models.meta import on_meta
from kinoform.models.protocols import Block, KeysValues, Stream
from kinoform.ops.dry_run import Counted, DryRun, Kernels, storage_key
from kinoform.ops.layer_changes import LayerChange, NegativeAttention
from kinoform.ops.meta_shapes import META
from kinoform.ops.patch import grid_of
from kinoform.plan.evaluations import Asked, Evaluations
from kinoform.plan.modules import Count, attempted, count_of
from kinoform.plan.workload import LatentSize
from kinoform.solvers.predictions import Prediction
from kinoform.types import Level

K = TypeVar("K")
T = TypeVar("T")

LEVEL = Level(sigma=0.5, timestep=500.0)
UNCHANGED = tuple(item.name for item in fields(Stream) if item.name != "tokens")
OUTSIDE = ("patch_embedding", "channel_embedding", "time_embedding", "context_embedding", "head")


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchFlops:
    """A branch that is given something, for one prompt: `once` a video, and `each` velocity."""

    once: int
    each: int

    @property
    def total(self) -> int:
        return self.once + self.each


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardFlops:
    """Operations for one prompt: `prepare` once a video, `velocity` at each evaluation.

    Both together by part: `parts` of all blocks, `outside` of what stands around them, and `branches`.
    """

    prepare: int = 0
    velocity: int = 0
    parts: Mapping[str, int] = field(default_factory=dict)
    outside: Mapping[str, int] = field(default_factory=dict)
    branches: Mapping[str, BranchFlops] = field(default_factory=dict)

    @property
    def forward(self) -> int:
        """One prompt of one step with nothing kept or shared, as the official code runs it."""
        return self.prepare + self.velocity


def time_flops(spec: DiTSpec) -> int:
    """Operations of the time layers for one noise level."""
    return 2 * spec.dim * (spec.frequency_width + spec.dim + spec.block.modulation_rows * spec.dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicting:
    """Operations of predictions: to `prepare` the conditions of each, and of those that are asked for `together`, with
    what they share computed once."""

    prepare: Mapping[Prediction, int] = field(default_factory=dict[Prediction, int])
    together: Mapping[tuple[Prediction, ...], int] = field(default_factory=dict[tuple[Prediction, ...], int])

    def of(self, asked: Evaluations) -> int:
        """Operations of evaluations, each of which was measured."""
        prepared = sum(count * self.prepare[prediction] for prediction, count in asked.prepared.items())
        return prepared + sum(count * self.together[predictions] for predictions, count in asked.together.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseRun:
    """A transformer and a video: one forward of the prompt and one of the negative prompt, and what predictions cost
    that a run asks for; `source` the same without what belongs to the prompt.

    `peak` are the bytes alive at the worst moment, conditions among them, `copies` those of kernels on top. `tokens`
    are those of the blocks, in-context tokens among them, `attended` the shapes [b, heads, l, k] of q. `embedded` are
    context tokens by source, as blocks read them. `failure` says why it could not be run, `branch_failure` why it was
    run without its branches.
    """

    prompt: ForwardFlops = ForwardFlops()
    negative: ForwardFlops = ForwardFlops()
    asked: Predicting = Predicting()
    source: Predicting = Predicting()
    peak: int = 0
    copies: int = 0
    tokens: int = 0
    attended: tuple[tuple[int, ...], ...] = ()
    embedded: Mapping[str, int] = field(default_factory=dict)
    failure: str | None = None
    branch_failure: str | None = None

    def official(self, asked: Asked) -> int:
        """A video as the official code makes it: two whole forwards an evaluation, whatever the guidance."""
        both = self.prompt.forward + self.negative.forward
        return asked.prompt.nfe * both + asked.source.nfe * 2 * self.negative.forward

    def executed(self, asked: Asked) -> int:
        """A video as kinoform makes it; 0 where the transformer could not be run."""
        return 0 if self.failure is not None else self.asked.of(asked.prompt) + self.source.of(asked.source)


class MeasuredTransformer:
    """A transformer on the meta device, with its count; what `keeps_float32` names is wide.

    Equal blocks are run once for each shape.
    """

    def __init__(self, spec: DiTSpec) -> None:
        self.spec = spec
        self._model = on_meta(spec.build).requires_grad_(False)
        self._parameters = dict(self._model.named_parameters())
        self._dtype: torch.dtype | None = None
        self._names: Mapping[int, str] = {}
        self.count = count_of(self._model, keeps_float32)
        self._runs, self._lock = _Runs(), Lock()
        for number, layers in enumerate([each for each in self._model.modules() if isinstance(each, nn.ModuleList)]):
            kinds: list[object] = []
            for index, block in enumerate(layers):
                if isinstance(block, Block):
                    layers[index] = _OnceBlock(block, (number, _kind(block, kinds)), self._runs)

    def run(
        self, latents: LatentSize, text: Tensor, output: Callable[[], ConditionerOutput], asked: Asked, kernels: Kernels
    ) -> DenoiseRun:
        """Run the transformer, with weights in the dtype of `text`, on latents (frames, height, width).

        `text` are the context tokens of a prompt, `output` makes what conditioners contribute. What is prepared for
        the predictions of `asked` is alive together.
        """
        spec, model = self.spec, self._model
        x = torch.empty(1, spec.out_channels, *latents, device=META)
        grid = grid_of(x, spec.patch)
        with self._lock, torch.no_grad(), DryRun(kernels, self._cast(text.dtype)) as run:
            self._runs.begin(run)
            given = replace(output(), channels=_channels(spec, latents))
            without = given.negative()

            def prepare(own: ConditionerOutput, change: LayerChange | None = None) -> Prepared:
                negative = text if isinstance(change, NegativeAttention) else None
                return model.prepare(own.conditions(text), grid, change=change, negative=negative)

            def evaluate(prepared: Sequence[Prepared]) -> None:
                model.velocities(x, LEVEL, prepared)

            costs: list[Predicting] = []
            held: list[tuple[dict[Prediction, Prepared], dict[Prediction, int]]] = [
                _each(
                    run,
                    counts.prepared,
                    lambda each, own=own: prepare((own if each.prompt else without).without(each.without), each.change),
                )
                for own, counts in ((given, asked.prompt), (without, asked.source))
            ]
            for (prepared, flops), counts in zip(held, (asked.prompt, asked.source), strict=True):
                _, together = _each(
                    run, counts.together, lambda each, prepared=prepared: evaluate([prepared[one] for one in each])
                )
                costs.append(Predicting(prepare=flops, together=together))
            peaks = run.peak, run.peak_with_copies - run.peak
            forwards: list[ForwardFlops] = []
            for own in (without, given):
                with run.counted() as once:
                    first = prepare(own)
                with run.counted() as velocity:
                    evaluate([first])
                forwards.append(_forward(once, velocity))
            embedded = {name: rows.shape[1] for name, rows in first.context.items()}
            for name, rows in given.context.items():
                embedded.setdefault(name, model.context[name](rows).shape[1])
        return DenoiseRun(
            prompt=forwards[1],
            negative=forwards[0],
            asked=costs[0],
            source=costs[1],
            peak=peaks[0],
            copies=peaks[1],
            tokens=self._runs.tokens or grid.tokens,
            attended=tuple(run.attended),
            embedded=embedded,
        )

    def _cast(self, dtype: torch.dtype) -> Mapping[int, str]:
        """Give the weights this dtype, as loading does, and return their names by storage."""
        if self._dtype != dtype:
            for name, value in self._parameters.items():
                value.data = value.data.to(torch.float32 if keeps_float32(name) else dtype)
            self._dtype = dtype
            self._names = {storage_key(value): name for name, value in self._parameters.items()}
        return self._names


def _each(run: DryRun, keys: Iterable[K], work: Callable[[K], T]) -> tuple[dict[K, T], dict[K, int]]:
    """Do work for each key, and return its results and its operations."""
    results, flops = dict[K, T](), dict[K, int]()
    for key in keys:
        with run.counted() as counted:
            results[key] = work(key)
        flops[key] = counted.total
    return results, flops


@lru_cache(maxsize=8)
def measured_transformer(spec: DiTSpec) -> MeasuredTransformer:
    return MeasuredTransformer(spec)


def _channels(spec: DiTSpec, latents: LatentSize) -> Tensor | None:
    """Latents behind the noisy ones."""
    number = spec.in_channels - spec.out_channels
    return torch.empty(1, number, *latents, device=META) if number else None


def transformer_count(spec: DiTSpec) -> Count:
    """Count of a transformer; none where it is not built on the meta device."""
    measured, _ = attempted(lambda: measured_transformer(spec))
    return Count(parameters=0, wide=0) if measured is None else measured.count


# Parts by the names of parameters


def _forward(prepare: Counted, velocity: Counted) -> ForwardFlops:
    parts, outside = Counter[str](), Counter[str](dict.fromkeys(OUTSIDE, 0))
    branches: dict[str, list[int]] = {}
    for step, phase in enumerate((prepare, velocity)):
        for (name, kind), flops in phase.flops.items():
            area, *rest = name.split(".")
            if area == "blocks":
                parts[_part(rest[1], kind, keys=phase is prepare)] += flops
            elif area == "branches":
                branches.setdefault(rest[0], [0, 0])[step] += flops
            else:
                outside[_outside(area, keys=phase is prepare)] += flops
    return ForwardFlops(
        prepare=prepare.total,
        velocity=velocity.total,
        parts=parts,
        outside=outside,
        branches={name: BranchFlops(once=once, each=each) for name, (once, each) in branches.items()},
    )


def _part(module: str, kind: str, *, keys: bool) -> str:
    """The part of a block: an attention's products and its attention apart, and the keys that are made once a video."""
    stem = module.removesuffix("_attention")
    if kind == "attention":
        return f"{stem}_attention"
    return module if stem == module else f"{stem}_keys" if keys else f"{stem}_projections"


def _outside(area: str, *, keys: bool) -> str:
    if area == "patch_embedding":
        return "channel_embedding" if keys else area
    return {"context": "context_embedding", "time_projection": "time_embedding"}.get(area, area)


# Equal blocks are run once


class _Runs:
    """Runs of blocks, by kind of block, method and shapes; `tokens` are those of the blocks' stream."""

    def begin(self, run: DryRun) -> None:
        self.run, self.tokens = run, 0
        self._counted: dict[object, tuple[Counted, _Shapes]] = {}

    def repeated(self, key: object) -> Any:
        """Count once more what was counted under `key`, and return its result; None where nothing was."""
        if key not in self._counted:
            return None
        counted, shapes = self._counted[key]
        self.run.repeat(counted)
        return shapes.empty()

    def keep(self, key: object, counted: Counted, result: object) -> None:
        self._counted[key] = counted, _shapes(result)


class _OnceBlock(nn.Module):
    """A block, with its kind: the list that it stands in, and the first there that is equal."""

    def __init__(self, block: Block, kind: object, runs: _Runs) -> None:
        super().__init__()
        self.block, self._kind, self._runs = block, kind, runs

    def keys(self, context: Mapping[str, Tensor]) -> KeysValues:
        key = (self._kind, "keys", _shapes(context))
        keys = self._runs.repeated(key)
        if keys is None:
            with self._runs.run.counted() as counted:
                keys = self.block.keys(context)
            self._runs.keep(key, counted, keys)
        return keys

    def changed(self, change: LayerChange) -> Block:
        """Return the changed block, counted as a kind of its own."""
        return _OnceBlock(changed(self.block, change), (self._kind, change), self._runs)

    def forward(self, stream: Stream, keys: KeysValues) -> Stream:
        return self._passed(self.block.__call__, stream, keys)

    def before_context(self, stream: Stream) -> Stream:
        return self._passed(self.block.before_context, stream)

    def after_context(self, stream: Stream, keys: KeysValues) -> Stream:
        return self._passed(self.block.after_context, stream, keys)

    def _passed(self, method: Callable[..., Stream], stream: Stream, *keys: KeysValues) -> Stream:
        """Pass streams of one shape once, where the block changes nothing but their tokens."""
        levels = stream.modulation
        self._runs.tokens = max(self._runs.tokens, stream.tokens.shape[1])
        key = (
            self._kind, method.__name__, stream.in_context, _shapes((stream.tokens, levels.rows, levels.index, keys)),
        )  # fmt: skip
        tokens = self._runs.repeated(key)
        if tokens is not None:
            return replace(stream, tokens=tokens)
        with self._runs.run.counted() as counted:
            result = method(stream, *keys)
        if all(getattr(result, name) is getattr(stream, name) for name in UNCHANGED):
            self._runs.keep(key, counted, result.tokens)
        return result


class _Shapes(NamedTuple):
    """Shapes and dtypes of the tensors in a value; `structure` is what holds them."""

    structure: TreeSpec
    leaves: tuple[object, ...]

    def empty(self) -> Any:
        """Make such a value on the meta device."""
        return tree_unflatten(
            [each.empty() if isinstance(each, _Shape) else each for each in self.leaves], self.structure
        )


class _Shape(NamedTuple):
    size: torch.Size
    dtype: torch.dtype

    def empty(self) -> Tensor:
        return torch.empty(self.size, dtype=self.dtype, device=META)


def _shapes(value: object) -> _Shapes:
    leaves, structure = tree_flatten(value)
    return _Shapes(structure, tuple(_Shape(x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves))


def _kind(block: nn.Module, kinds: list[object]) -> int:
    """The number of the first block that is equal in its modules, their settings and the shapes of its parameters."""
    own = [
        *((type(module), _settings(module)) for module in block.modules()),
        *((name, value.shape, value.dtype) for name, value in block.named_parameters()),
    ]
    for number, other in enumerate(kinds):
        if attempted(lambda other=other: bool(own == other))[0]:  # what strangers keep may not be compared
            return number
    kinds.append(own)
    return len(kinds) - 1


def _settings(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("_") and name != "training"}
