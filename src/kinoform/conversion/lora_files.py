"""LoRA files in another format: of LoRA files in any dialect, and of adapters that change layers and add nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kinoform.checkpoints.files import Checkpoint
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.write import Outgoing, stored_outgoing
from kinoform.errors import UsageError, WeightsError, nearest
from kinoform.families.adapter import DOWN as ADAPTER_DOWN
from kinoform.families.adapter import UP as ADAPTER_UP
from kinoform.families.adapter import experts_in
from kinoform.families.lora import ALPHA, DOWN, LORA_FORMATS, MAGNITUDE, UP, LoRADialect, lora_sizes
from kinoform.families.lora_config import checked_alpha, peft_config
from kinoform.families.lora_names import wan_names
from kinoform.families.names import listed
from kinoform.loading.adapters import AdapterFile
from kinoform.loading.lora import lora_metadata, outgoing_alpha
from kinoform.loading.lora_file import read_names

SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingLoRA:
    """The tensors of a LoRA file that is written, and its metadata."""

    tensors: tuple[Outgoing, ...]
    metadata: Mapping[str, str]


def lora_format(name: str) -> LoRADialect:
    """Find a format. Raises UsageError for a name that none has."""
    known = {dialect.name: dialect for dialect in LORA_FORMATS}
    if name not in known:
        raise UsageError(f"no format {name!r} of LoRA files; {nearest(name, known)}", code="unknown_name")
    return known[name]


def lora_of_adapter(file: AdapterFile, dialect: LoRADialect, dtype: torch.dtype | None) -> OutgoingLoRA:
    """Make the tensors of a LoRA with the adapter's changes, scale 1; `dtype` None keeps the numbers.

    Raises WeightsError for an adapter that adds to its model, is for several experts, or is damaged.
    """
    if experts := experts_in(file.tensors):
        raise WeightsError(
            f"{file.path} changes the experts {' and '.join(experts)}, and a LoRA file is for one transformer; it "
            "works as kinoform's adapter only: give it as --model",
            code="adapter_not_lora",
        )
    layers = [name.removesuffix(ADAPTER_DOWN) for name in file.tensors if name.endswith(ADAPTER_DOWN)]
    matrices = {layer + piece for layer in layers for piece in (ADAPTER_DOWN, ADAPTER_UP)}
    if added := [name for name in file.tensors if name not in matrices]:
        raise WeightsError(
            f"{file.path} adds {len(added)} tensors to its model ({listed(added)}), for which LoRA files have no "
            "place; it works as kinoform's adapter only: give it as --model",
            code="adapter_not_lora",
        )
    ranks = [_rank(file, layer) for layer in layers]
    tensors = tuple(tensor for layer in layers for tensor in _layer(file, layer, dialect, dtype))
    return OutgoingLoRA(tensors=tensors, metadata=lora_metadata(ranks, ranks, file.claims.base_hash))


def lora_of_lora(path: Path, checkpoint: Checkpoint, dialect: LoRADialect, dtype: torch.dtype | None) -> OutgoingLoRA:
    """Make the same changes in another format; what is of no Wan transformer is an error, since it would be lost.

    Where the scale has no place of its own it is multiplied into the second matrix. Raises WeightsError for unknown
    names, two experts in one file, and kinds of changes that the format has no place for.
    """
    sizes = lora_sizes(checkpoint.tensors)
    names = wan_names(sizes.get("layers", 1))
    held = read_names(path, checkpoint.tensors, names)
    said = peft_config(path, checkpoint.metadata)
    tensors: list[Outgoing] = []
    ranks: list[int] = []
    alphas: list[float] = []
    for parameter, (module, pieces) in held.items():
        scaled = next((role for role in (DOWN, "hada_w1_b", "lokr_w1_b", "lokr_w2_b") if role in pieces), None)
        if scaled is not None and pieces[scaled].shape:
            rank = pieces[scaled].shape[0]
            alpha = _alpha(path, module, pieces[ALPHA]) if ALPHA in pieces else said and said.of(module, rank)
            found = float(alpha or rank)
            ranks.append(rank)
            alphas.append(found if dialect.alpha else rank)
            if dialect.alpha:
                tensors.append(outgoing_alpha(dialect, parameter.removesuffix(".weight"), found))
            elif UP in pieces and found != rank:
                pieces = {**pieces, UP: _times(pieces[UP], found / rank)}
        for role, stored in pieces.items():
            if role != ALPHA:
                as_rows = _as_column(stored) if role == MAGNITUDE else stored
                tensors.append(stored_outgoing(dialect.written(parameter, role), as_rows, dtype))
    return OutgoingLoRA(
        tensors=tuple(tensors), metadata=lora_metadata(ranks, alphas, checkpoint.metadata.get("base_model_hash", ""))
    )


def check_target(path: Path, target: Path) -> None:
    """Raises UsageError for a name that no LoRA file has."""
    if target.suffix.lower() != ".safetensors":
        raise UsageError(
            f"{path} becomes one LoRA file; give a name that ends in .safetensors: {target.name}.safetensors",
            code="wrong_suffix",
        )


def _rank(file: AdapterFile, layer: str) -> int:
    down, up = file.tensors[layer + ADAPTER_DOWN], file.tensors.get(layer + ADAPTER_UP)
    if up is None or len(down.shape) != 2 or len(up.shape) != 2 or not 0 < down.shape[0] == up.shape[1]:
        raise WeightsError(
            f"{file.path}: the two matrices of {layer[:SHOWN]} do not fit each other; fetch it again",
            code="weights_damaged",
        )
    return down.shape[0]


def _layer(file: AdapterFile, layer: str, dialect: LoRADialect, dtype: torch.dtype | None) -> Iterator[Outgoing]:
    for ending, piece in ((ADAPTER_DOWN, DOWN), (ADAPTER_UP, UP)):
        yield stored_outgoing(dialect.written(f"{layer}.weight", piece), file.tensors[layer + ending], dtype)
    if dialect.alpha:
        yield outgoing_alpha(dialect, layer, float(_rank(file, layer)))


def _alpha(path: Path, module: str, stored: Stored) -> float:
    return checked_alpha(path, f"alpha of {module}", stored.read().double().flatten()[0].item())


def _times(stored: Stored, scale: float) -> Stored:
    def read() -> Tensor:
        return stored.read().float() * scale

    return Stored(shape=stored.shape, dtype=torch.float32, file=stored.file, read=read)


def _as_column(stored: Stored) -> Stored:
    """Lengths of rows as [out, 1], which readers of `.dora_scale` need."""
    if len(stored.shape) != 1:
        return stored
    return Stored(shape=(*stored.shape, 1), dtype=stored.dtype, file=stored.file, read=partial(_column, stored))


def _column(stored: Stored) -> Tensor:
    return stored.read()[:, None]
