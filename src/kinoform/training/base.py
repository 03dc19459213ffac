"""Parts of a module that it does not learn: left out of checkpoints, which know it by a hash."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from kinoform.models.packed import PackedLinear

PROBES = 64
"""Numbers of each tensor that are hashed: a finetune of a model changes all of its weights."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def frozen_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that do not learn and the rows of packed layers, by name."""
    packed = {
        f"{name}.rows" if name else "rows" for name, layer in module.named_modules() if isinstance(layer, PackedLinear)
    }
    frozen = {name: item for name, item in module.named_parameters() if not item.requires_grad}
    return frozen | {name: item for name, item in module.named_buffers() if name in packed}


def base_hash(module: nn.Module) -> str | None:
    """Hash names, shapes, dtypes and some evenly spaced numbers of what does not learn; None where all does.

    It costs a moment where the whole of a large model would cost a minute. The whole is in the fingerprint of a
    training whose stage has `base_hash` in its config.
    """
    frozen = frozen_tensors(module)
    if not frozen:
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(frozen.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_probed(tensor).numpy().tobytes())
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


def _probed(tensor: Tensor) -> Tensor:
    bits = tensor.detach().flatten().view(_BITS[tensor.element_size()])  # fp8 knows no indexing
    if bits.numel() > PROBES:
        index = torch.linspace(0, bits.numel() - 1, PROBES, dtype=torch.float64, device="cpu").long()
        bits = bits[index.to(bits.device)]
    return bits.cpu()
