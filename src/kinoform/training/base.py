"""Parts of a module that it does not learn: left out of checkpoints, which know it by a hash."""

from __future__ import annotations

import hashlib
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor, nn

from kinoform.models.packed import PackedLinear

PROBES = 64
"""Numbers of each tensor that are hashed: a finetune of a model changes all of its weights."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def frozen_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that do not learn and the rows of packed layers, by name."""
    packed = _packed(module)
    frozen = {name: item for name, item in module.named_parameters() if not item.requires_grad}
    return frozen | {name: item for name, item in module.named_buffers() if name in packed}


def base_hash(module: nn.Module) -> str | None:
    """Hash names, shapes, dtypes and some evenly spaced numbers of what does not learn; None where all does.

    It costs a moment where the whole of a large model would cost a minute. The whole is in the fingerprint of a
    training whose stage has `base_hash` in its config. A matrix that stays packed counts as it is unpacked.
    """
    frozen, packed = frozen_tensors(module), _packed(module)
    if not frozen:
        return None
    probed = {name: _probe(tensor) for name, tensor in frozen.items() if name not in packed}
    probed |= {f"{name.removesuffix('rows')}weight": _probe_of_packed(layer) for name, layer in packed.items()}
    digest = hashlib.sha256()
    for name, (shape, numbers) in sorted(probed.items()):
        digest.update(f"{name} {shape} {numbers.dtype}".encode())
        digest.update(_bits(numbers).cpu().numpy().tobytes())
    return digest.hexdigest()


def learnt_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module without what it does not learn."""
    frozen = frozen_tensors(module)
    return {name: item for name, item in module.state_dict().items() if name not in frozen}


def load_learnt(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Take over a state of `learnt_state`, or a whole one. Raises RuntimeError where one of what learns is missing."""
    result = module.load_state_dict(state, strict=False)
    missing = set(result.missing_keys) - frozen_tensors(module).keys()
    if missing or result.unexpected_keys:
        raise RuntimeError(f"missing {sorted(missing)}, unexpected {sorted(result.unexpected_keys)}")


def _packed(module: nn.Module) -> dict[str, PackedLinear]:
    """Return packed layers by the names of their rows."""
    layers = module.named_modules()
    return {f"{name}.rows" if name else "rows": layer for name, layer in layers if isinstance(layer, PackedLinear)}


_Probe: TypeAlias = tuple[tuple[int, ...], Tensor]
"""Shape of a tensor, and some of its numbers."""


def _probe(tensor: Tensor) -> _Probe:
    flat = tensor.detach().flatten()
    if flat.numel() <= PROBES:
        return tuple(tensor.shape), flat
    return tuple(tensor.shape), _bits(flat)[_places(flat.numel()).to(flat.device)].view(flat.dtype)


def _probe_of_packed(layer: PackedLinear) -> _Probe:
    """Unpack no more than the rows that the numbers are in."""
    shape = layer.out_features, layer.in_features
    places = _places(prod(shape)) if prod(shape) > PROBES else torch.arange(prod(shape), device="cpu")
    rows = layer.packing.unpack(layer.rows[(places // shape[1]).to(layer.rows.device)]).to(layer.dtype)
    return shape, rows.cpu()[torch.arange(len(places), device="cpu"), places % shape[1]]


def _places(count: int) -> Tensor:
    return torch.linspace(0, count - 1, PROBES, dtype=torch.float64, device="cpu").long()


def _bits(numbers: Tensor) -> Tensor:
    """Return numbers as integers of their size: fp8 knows no indexing, bfloat16 no NumPy."""
    return numbers.contiguous().view(_BITS[numbers.element_size()])
