"""An adapter of kinoform as a LoRA file that others read, where it changes layers and adds nothing."""

from collections.abc import Iterator
from pathlib import Path

import torch

from kinoform.checkpoints.write import Outgoing, stored_outgoing
from kinoform.errors import UsageError, WeightsError
from kinoform.families.adapter import DOWN, UP, experts_in
from kinoform.families.lora import LoRADialect
from kinoform.families.names import listed
from kinoform.loading.adapters import AdapterFile
from kinoform.loading.lora import lora_metadata, outgoing_alpha

SHOWN = 80


def lora_of(
    file: AdapterFile, to: str, dialect: LoRADialect | None, dtype: torch.dtype | None
) -> tuple[tuple[Outgoing, ...], dict[str, str]]:
    """Make the tensors of a LoRA with the adapter's changes, scale 1, and its metadata; `dtype` None keeps the numbers.

    Raises UsageError for a target `to` without LoRA files (no `dialect`), WeightsError for an adapter that adds to its
    model, is for several experts, or is damaged.
    """
    if dialect is None:
        raise UsageError(
            f"{file.path} is an adapter, which becomes a LoRA file: give --to comfy or --to diffusers, not {to}",
            code="options_conflict",
        )
    if experts := experts_in(file.tensors):
        raise WeightsError(
            f"{file.path} changes the experts {' and '.join(experts)}, and a LoRA file is for one transformer; it "
            "works as kinoform's adapter only: give it as --model",
            code="adapter_not_lora",
        )
    layers = [name.removesuffix(DOWN) for name in file.tensors if name.endswith(DOWN)]
    matrices = {layer + piece for layer in layers for piece in (DOWN, UP)}
    if added := [name for name in file.tensors if name not in matrices]:
        raise WeightsError(
            f"{file.path} adds {len(added)} tensors to its model ({listed(added)}), for which LoRA files have no "
            "place; it works as kinoform's adapter only: give it as --model",
            code="adapter_not_lora",
        )
    ranks = [_rank(file, layer) for layer in layers]
    tensors = tuple(tensor for layer in layers for tensor in _layer(file, layer, dialect, dtype))
    return tensors, lora_metadata(ranks, ranks, file.claims.base_hash)


def check_options(path: Path, target: Path, *, shards: bool, prefix: str) -> None:
    """Check the options of writing a LoRA file. Raises UsageError for one that it has not."""
    if target.suffix.lower() != ".safetensors":
        raise UsageError(
            f"{path} becomes one LoRA file; give a name that ends in .safetensors: {target.name}.safetensors",
            code="wrong_suffix",
        )
    if shards or prefix:
        option = "--shard-size" if shards else "--prefix"
        raise UsageError(f"{path} becomes a LoRA file, which has no {option}; leave it out", code="options_conflict")


def _rank(file: AdapterFile, layer: str) -> int:
    down, up = file.tensors[layer + DOWN], file.tensors.get(layer + UP)
    if up is None or len(down.shape) != 2 or len(up.shape) != 2 or not 0 < down.shape[0] == up.shape[1]:
        raise WeightsError(
            f"{file.path}: the two matrices of {layer[:SHOWN]} do not fit each other; fetch it again",
            code="weights_damaged",
        )
    return down.shape[0]


def _layer(file: AdapterFile, layer: str, dialect: LoRADialect, dtype: torch.dtype | None) -> Iterator[Outgoing]:
    for ending, piece in ((DOWN, "down"), (UP, "up")):
        yield stored_outgoing(dialect.written(f"{layer}.weight", piece), file.tensors[layer + ending], dtype)
    if dialect.alpha:
        yield outgoing_alpha(dialect, layer, float(_rank(file, layer)))
