"""LoRA on a finished model, from outside: attached by patterns of layer names, set, merged and unmerged.

What an adapter computes, and what its parameters are called: models/lora_linear.py. A new adapter is float32; one
from a file has the dtype that its layer computes in.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from typing import TypeVar

import torch
from torch import Tensor, nn

from kinoform.errors import NonFiniteError, UsageError, nearest
from kinoform.models.linear import Linear, named_modules
from kinoform.models.lora_changes import WeightChange
from kinoform.models.lora_linear import Adapted, AdaptedPacked, Adapter, device_of, linear_layers
from kinoform.models.lora_parameters import (
    change_parameters,
    changed_parameters,
    own_parameters,
    restore_parameters,
    set_parameters,
)
from kinoform.models.packed import PackedLinear

BLOCKS = ("self_attention.*", "cross_attention.*", "feed_forward.*")
"""Every linear layer of every block: q, k, v, o of both attentions, all context sources, the feed-forward."""

MAX_RANK = 4096
STRONGEST = 100.0

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRASpec:
    """Choice of the linear layers that get an adapter, its rank, and its scale alpha / rank (alpha None: 1).

    A pattern is a shell pattern of layer names that may begin at any dot: "self_attention.*",
    "cross_attention.[qo]", "streams.image.*", "blocks.1?.feed_forward.*". One that begins with "!" takes
    away from what the others choose: "!branches.*".
    """

    patterns: tuple[str, ...] = BLOCKS
    rank: int = 32
    alpha: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MAX_RANK:
            raise UsageError(f"rank {self.rank} is not from 1 to {MAX_RANK}", code="value_out_of_range")
        if self.alpha is not None and not (isfinite(self.alpha) and self.alpha > 0):
            raise UsageError(
                f"alpha {self.alpha} is not a positive number; leave it out for alpha = rank", code="value_out_of_range"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRARanks:
    """Ranks of one LoRA by layer name, without its matrices. At a strength of 0 these are held and not computed.

    `others` are the numbers of all its changes that are no two matrices beside a layer.
    """

    ranks: tuple[tuple[str, int], ...]
    strength: float = 1.0
    others: int = 0


def attach(model: Module, spec: LoRASpec, *, name: str = "lora", generator: torch.Generator) -> Module:
    """Return a copy of the model with a new adapter on every layer that the spec chooses; see `with_adapters`.

    A is Kaiming uniform (bound 1 / sqrt(in)), drawn on the CPU in the order of the model's layers, B is zero:
    where nothing learns, the copy computes what the model computes, bit for bit. Raises UsageError when a
    pattern chooses nothing, and as `with_adapters` does.
    """
    alpha = float(spec.rank) if spec.alpha is None else spec.alpha
    layers, adapters = linear_layers(model), dict[str, Adapter]()
    for place in chosen(model, spec.patterns):
        layer = layers[place]
        down = nn.init.kaiming_uniform_(torch.empty(spec.rank, layer.in_features), a=5**0.5, generator=generator)
        up = torch.zeros(layer.out_features, spec.rank)
        adapters[place] = Adapter(down, up, alpha).to(device_of(layer))
    return with_adapters(model, name, adapters)


def with_adapters(model: Module, name: str, adapters: Mapping[str, WeightChange]) -> Module:
    """A copy of the model that shares all its weights, with these adapters, or changes of other kinds, by layer name.

    The model itself stays as it was. Raises UsageError when `name` is taken or no plain word, a layer is not
    there or of other sizes, or the model is merged.
    """
    return with_changes(model, name, adapters, {})


def with_changes(
    model: Module, name: str, adapters: Mapping[str, WeightChange], deltas: Mapping[str, Tensor]
) -> Module:
    """The same with differences (float32) of parameters that are no weight of a linear layer, by their names."""
    _check_name(model, name)
    found = _sharing(model)
    layers = linear_layers(found)
    for place, adapter in adapters.items():
        if place not in layers:
            raise UsageError(
                f"the model has no linear layer {place!r}; {nearest(place, _groups(layers))}", code="unknown_name"
            )
        layer = layers[place]
        sized = isinstance(adapter, Adapter)
        if sized and (adapter.up.shape[0], adapter.down.shape[1]) != (layer.out_features, layer.in_features):
            raise UsageError(
                f"{place} takes {layer.in_features} numbers and gives {layer.out_features}; "
                f"the adapter takes {adapter.down.shape[1]} and gives {adapter.up.shape[0]}",
                code="adapter_wrong_size",
            )
        if not isinstance(layer, Adapted):
            training = layer.training
            layer = (AdaptedPacked(layer) if isinstance(layer, PackedLinear) else Adapted(layer)).train(training)
            found.set_submodule(place, layer)
        layer.adapters[name] = adapter.train(layer.training)
    change_parameters(found, name, deltas)
    return found


def bare(model: Module) -> Module:
    """Return a copy without adapters that shares all other weights: those that are merged, else the base's."""
    found = _sharing(model)
    for place, layer in _adapted(model).items():
        plain: Linear
        if isinstance(layer, PackedLinear):
            plain = PackedLinear(layer.rows, layer.packing, layer.bias, layer.dtype)
        else:
            plain = Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            plain.weight, plain.bias = layer.weight, layer.bias
        found.set_submodule(place, plain.train(layer.training))
    restore_parameters(found)
    return found


def adapters_of(model: nn.Module) -> dict[str, dict[str, Adapter]]:
    """Return the adapters of a model, each two matrices beside a layer, by name, then by layer."""
    return {
        name: adapters
        for name, changes in changes_of(model).items()
        if (adapters := {place: each for place, each in changes.items() if isinstance(each, Adapter)})
    }


def changes_of(model: nn.Module) -> dict[str, dict[str, WeightChange]]:
    """Return all that changes weights of layers, by name, then by layer; with names that change other things alone."""
    found: dict[str, dict[str, WeightChange]] = {}
    for place, layer in _adapted(model).items():
        for name, change in layer.named().items():
            found.setdefault(name, {})[place] = change
    for changed in changed_parameters(model).values():
        for name in changed.deltas:
            found.setdefault(name, {})
    return found


def set_strength(model: nn.Module, name: str, strength: float) -> None:
    """Set the strength of all that an adapter or a LoRA file changes from here on; at 0 it is not computed at all.

    What `DiT.prepare` made before holds keys and values of the strength before. Raises UsageError for an
    unknown name, a number that is not from -100 to 100, a merged model.
    """
    check_strength(strength)
    _check_unmerged(model)
    held = changes_of(model)
    if name not in held:
        raise UsageError(f"the model has no adapter {name!r}; {nearest(name, held)}", code="unknown_name")
    for change in held[name].values():
        change.strength = strength
    set_parameters(model, name, strength)


def mark_varying(model: nn.Module, name: str) -> None:
    """Say that the strength of an adapter or a LoRA file changes during a run; see `WeightChange.varies`."""
    for change in changes_of(model)[name].values():
        change.varies = True


def check_strength(strength: float) -> None:
    """Raises UsageError."""
    if not abs(strength) <= STRONGEST:
        raise UsageError(
            f"strength {strength} is not a number from {-STRONGEST:g} to {STRONGEST:g}; 1 is as trained",
            code="value_out_of_range",
        )


def merge(model: nn.Module) -> None:
    """Add every change of a layer to its weight, so that the layers cost what they cost without; undone by `unmerge`.

    Sums are float32, rounded once to the weight's dtype. The base weights of these layers stay in memory.
    Raises UsageError when a weight is packed or the model is merged, NonFiniteError when a sum is not finite;
    the model is then as it was.
    """
    _check_unmerged(model)
    layers = _adapted(model)
    if packed := [place for place, layer in layers.items() if isinstance(layer, PackedLinear)]:
        raise UsageError(
            f"{len(packed)} weights stay packed as their file stores them, first {packed[0]}, and nothing can be "
            "merged into them; load the model with keep_packed=False",
            code="weights_packed",
        )
    try:
        for layer in layers.values():
            layer.merge()
    except NonFiniteError:
        unmerge(model)
        raise


def unmerge(model: nn.Module) -> None:
    """Give every merged layer its base weight back, bit for bit."""
    for layer in _adapted(model).values():
        if layer.kept:
            layer.unmerge()


def chosen(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The layers that the patterns of a LoRASpec choose. Raises UsageError when one of them chooses nothing."""
    layers = linear_layers(model)
    found: set[str] = set()
    for pattern in (each for each in patterns if not each.startswith("!")):
        matched = {name for name in layers if _matches(name, pattern)}
        if not matched:
            raise UsageError(
                f"no linear layer is called {pattern!r}; {nearest(pattern, _groups(layers))}",
                code="pattern_matches_nothing",
            )
        found |= matched
    without = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    kept = [name for name in layers if name in found and not any(_matches(name, each) for each in without)]
    if not kept:
        raise UsageError(
            f"the patterns {list(patterns)} choose no layer; name one, for example {BLOCKS[0]!r}",
            code="pattern_matches_nothing",
        )
    return kept


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _groups(layers: Mapping[str, Linear]) -> set[str]:
    """Layer names with all blocks as one."""
    return {re.sub(r"\.\d+\.", ".*.", name) for name in layers}


def _adapted(model: nn.Module) -> dict[str, Adapted]:
    return dict(named_modules(model, Adapted))


def _sharing(model: Module) -> Module:
    """The same tree of modules around the same tensors."""
    kept = [weight for layer in _adapted(model).values() for weight in layer.kept]
    kept += [value for each in changed_parameters(model).values() for value in (each.base, *each.deltas.values())]
    memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers(), *kept)}
    found = copy.deepcopy(model, memo)
    own_parameters(found)
    return found


def _check_name(model: nn.Module, name: str) -> None:
    _check_unmerged(model)
    # Such a name is part of parameter names, and must not look like a part that stays in float32.
    if not re.fullmatch(r"[A-Za-z]\w{0,63}", name) or hasattr(nn.ModuleDict, name):
        raise UsageError(
            f"{name[:80]!r} is no name for an adapter; use up to 64 letters, digits and _", code="bad_value"
        )
    if name in changes_of(model):
        raise UsageError(f"the model has an adapter {name!r} already; choose another name", code="name_taken")


def _check_unmerged(model: nn.Module) -> None:
    if any(layer.kept for layer in _adapted(model).values()):
        raise UsageError("the adapters are merged into the weights; call unmerge first", code="adapters_merged")
