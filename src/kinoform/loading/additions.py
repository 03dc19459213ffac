"""Additions of a recipe to the transformer that weights hold, and the values with which they begin."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kinoform.errors import UsageError, WeightsError
from kinoform.loading.own import OwnFolder
from kinoform.loading.parts import Parts, TransformerLoader
from kinoform.models.block import ContextKeys
from kinoform.models.dit import DiT, DiTSpec, keeps_float32
from kinoform.models.lora import LoRASpec, attach
from kinoform.models.meta import on_meta
from kinoform.models.packed import PackedLinear
from kinoform.models.protocols import BranchSpec, ContextSpec
from kinoform.models.segments import SegmentRotation
from kinoform.ops.drawing import seeded

PATCH = "patch_embedding.weight"
LATENTS, KNOWN = "latents", "known"
LISTED, SHOWN = 3, 200


@runtime_checkable
class CopiesWeights(Protocol):
    """Branch some of whose parameters begin as the model's own: `copies` has the model's name for each of its own.

    A name that ends in a dot stands for all parameters below it; those that the model lacks, as of an added stream,
    begin as they are built. Of a wider parameter, what the branch has no room for is left out.
    """

    @property
    def copies(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """Input channels by name and number, in order, context sources, branches, and how segments are told apart.

    Channels begin with zeros, a gated stream with its gate at 0: with these the model is, bit for bit, what it
    was; so it is with `segments` until it is given some, which it reads by the weights that it has. All else begins as
    it is built after `seed`, but for what a branch copies (see `CopiesWeights`). Raises UsageError for channels without
    a name or a number above 0.
    """

    channels: Mapping[str, int] = field(default_factory=dict)
    context: tuple[ContextSpec, ...] = ()
    branches: tuple[BranchSpec, ...] = ()
    segments: SegmentRotation | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, count in self.channels.items():
            if not name.isidentifier() or name in (LATENTS, KNOWN) or count < 1:
                raise UsageError(
                    f"{count} input channels cannot be added as {name!r}; give a name and at least 1", code="bad_value"
                )

    def to(self, spec: DiTSpec) -> DiTSpec:
        """The spec with them. Raises UsageError when it has a stream or a branch of such a name already."""
        for kind, here, more in (
            ("context source", spec.context, self.context),
            ("branch", spec.branches, self.branches),
        ):
            names = [each.name for each in (*here, *more)]
            if twice := [name for place, name in enumerate(names) if name in names[:place]]:
                raise UsageError(
                    f"the model would have two of the {kind} {twice[0]!r}; name the added one otherwise",
                    code="name_taken",
                )
        return replace(
            spec,
            in_channels=spec.in_channels + sum(self.channels.values()),
            context=(*spec.context, *self.context),
            branches=(*spec.branches, *self.branches),
            segments=self.segments or spec.segments,
        )

    def order(self, spec: DiTSpec) -> dict[str, int]:
        """The channels that the widened patch embedding reads, in order, with their number; `spec` is without them."""
        known = {KNOWN: spec.in_channels - spec.out_channels} if spec.in_channels > spec.out_channels else {}
        return {LATENTS: spec.out_channels, **known, **self.channels}

    def own(self, name: str) -> bool:
        """Return whether the parameter with this name belongs to an added stream or branch."""
        streams = any(name.startswith(f"context.{s.name}.") or f".streams.{s.name}." in name for s in self.context)
        return streams or name.startswith(tuple(f"branches.{branch.name}." for branch in self.branches))

    @property
    def besides(self) -> tuple[str, ...]:
        """Patterns of a `LoRASpec` that leave out the layers that are added: these learn whole."""
        streams = [f"!{place}.{item.name}.*" for item in self.context for place in ("context", "streams")]
        return (*streams, *(f"!branches.{branch.name}.*" for branch in self.branches))

    def learns(self, name: str) -> bool:
        """Return whether the parameter with this name learns whole: an added one, or the patch embedding that grew."""
        return self.own(name) or (name == PATCH and bool(self.channels))

    def apply(self, model: DiT) -> DiT:
        """The finished model widened; it shares the weights of `model`, which stays as it was.

        What is new is kept in the dtypes of the rest, for inference.
        """
        wide = on_meta(self.to(model.spec).build)
        for name, layer in model.named_modules():
            if isinstance(layer, PackedLinear):
                wide.set_submodule(name, layer)
        values = dict(model.named_parameters())
        narrow = values[PATCH]
        with torch.device("cpu"), seeded(self.seed):
            started = dict(self._started(wide, model))
        zeros = narrow.new_zeros(len(narrow), sum(self.channels.values()), *narrow.shape[2:])
        values[PATCH] = nn.Parameter(torch.cat([narrow, zeros], dim=1), requires_grad=False)
        for name, value in started.items():
            dtype = torch.float32 if keeps_float32(name) else narrow.dtype
            values[name] = nn.Parameter(value.to(narrow.device, dtype, copy=True), requires_grad=False)
        names = {name for name, _ in wide.named_parameters()}
        if strange := sorted(names ^ values.keys()):
            listed = ", ".join(strange[:LISTED])
            raise UsageError(
                f"{len(strange)} parameters have no counterpart ({listed}); widen before adapting",
                code="adapted_before_widening",
            )
        for name in names:
            owner, _, leaf = name.rpartition(".")
            setattr(wide.get_submodule(owner), leaf, values[name])
        return wide.eval()

    def mark_trainable(self, model: DiT) -> dict[str, nn.Parameter]:
        """Turn on the gradients of what was added to this model, by name; those of all else stay as they are: off,
        in a loaded model, but for adapters.

        Of the patch embedding, only the added channels get a gradient; weight decay would change the others.
        """
        trainable = {name: parameter for name, parameter in model.named_parameters() if self.learns(name)}
        for parameter in trainable.values():
            parameter.requires_grad_(True)
        if PATCH in trainable:
            first = model.spec.in_channels - sum(self.channels.values())
            trainable[PATCH].register_hook(lambda gradient: _without_first(gradient, first))
        return trainable

    def trainable(
        self, model: DiT, lora: LoRASpec | None, generator: torch.Generator, *, name: str
    ) -> tuple[DiT, dict[str, nn.Parameter]]:
        """The widened model with a new adapter `name`, if any, and by name what is trainable in it.

        With an adapter it is a copy that shares all weights. Raises UsageError as `attach` does.
        """
        adapted = model if lora is None else attach(model, lora, name=name, generator=generator)
        matrices = {each: value for each, value in adapted.named_parameters() if f".adapters.{name}." in each}
        return adapted, {**self.mark_trainable(adapted), **matrices}

    def _started(self, wide: DiT, base: DiT) -> Iterator[tuple[str, Tensor]]:
        """Values of the parameters of added streams and branches."""
        dim, eps = wide.spec.dim, wide.spec.eps
        branches = tuple(f"branches.{branch.name}." for branch in self.branches)
        for stream in self.context:
            yield from _named(f"context.{stream.name}", stream.build(dim, eps))
            for name, module in wide.named_modules():
                inside = name.endswith(f".streams.{stream.name}") and not name.startswith(branches)
                if inside and isinstance(module, ContextKeys):
                    yield from _named(name, ContextKeys(dim, eps, stream.gated))
        for branch in self.branches:
            built = dict(_named("", branch.build(wide.spec)))
            copies = branch.copies if isinstance(branch, CopiesWeights) else {}
            for own, value in _copied(base, built, copies):
                built[own] = value[tuple(slice(size) for size in built[own].shape)]
            yield from ((f"branches.{branch.name}.{own}", value) for own, value in built.items())


def with_additions(parts: Parts, additions: Additions | None, bases: tuple[DiTSpec, ...]) -> Parts:
    """The parts with additions to each transformer, of the specs `bases`; as they are when their weights hold them.

    The fingerprint tells additions apart: by their channels, seed, segments, and the names and shapes of what is new.
    """
    if additions is None or parts.transformer_specs != bases:
        return parts

    def fingerprint() -> str:
        new = [item for base in bases for item in on_meta(additions.to(base).build).named_parameters()]
        shapes = [(name, tuple(value.shape)) for name, value in new if additions.own(name)]
        told: tuple[object, ...] = (
            parts.fingerprint(),
            list(additions.order(bases[0]).items()),
            additions.seed,
            shapes,
        )
        if additions.segments is not None:
            told = (*told, additions.segments)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    return replace(
        parts,
        transformers=tuple(partial(_extended, additions, load) for load in parts.transformers),
        transformer_specs=tuple(map(additions.to, bases)),
        fingerprint=fingerprint,
        base=parts,
    )


def _extended(additions: Additions, load: TransformerLoader, dtype: torch.dtype, device: torch.device) -> DiT:
    return additions.apply(load(dtype, device))


def stored_specs(folder: OwnFolder, bases: tuple[DiTSpec, ...], additions: Additions | None) -> tuple[DiTSpec, ...]:
    """Return the specs of a folder of kinoform's own: `bases`, or these with all additions.

    A folder that holds any part of the additions must hold all, as the strict load sees. Raises WeightsError
    when it says that its channels are others, or stand in another order.
    """
    if additions is None:
        return bases
    base, tensors = bases[0], folder.transformers[0].files.tensors
    wide = additions.to(base)
    widened = additions.channels and PATCH in tensors and tensors[PATCH].shape[1:2] == (wide.in_channels,)
    if not widened and not any(additions.own(name) for name in tensors):
        return bases
    order, told = additions.order(base), folder.manifest.made.get("channels")
    if told is not None and (not isinstance(told, Mapping) or list(told.items()) != list(order.items())):
        shown = str(told)[:SHOWN]
        raise WeightsError(
            f"{folder.path} reads the channels {shown}, the recipe gives {order}; use the recipe it is for",
            code="channels_differ",
        )
    return tuple(map(additions.to, bases))


def _named(place: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in module.named_parameters(prefix=place):
        yield name, parameter.detach()


def _copied(base: DiT, built: Iterable[str], copies: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """The model's values by the branch's names; a packed weight is unpacked."""
    for own, name in copies.items():
        if not own.endswith("."):
            yield own, base.get_parameter(name)
            continue
        layers = dict(base.get_submodule(name.removesuffix(".")).named_modules())
        for each in (each for each in built if each.startswith(own)):
            place, _, leaf = each.removeprefix(own).rpartition(".")
            value = getattr(layers.get(place), leaf, None)
            if isinstance(value, Tensor):
                yield each, value.detach()


def _without_first(gradient: Tensor, channels: int) -> Tensor:
    return torch.cat([torch.zeros_like(gradient[:, :channels]), gradient[:, channels:]], dim=1)
