"""Adapters of a model as a LoRA file that ComfyUI, diffusers and kinoform read."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from kinoform.checkpoints.write import METADATA, Outgoing, write_safetensors
from kinoform.errors import NonFiniteError, UsageError, nearest
from kinoform.families.lora_names import ALPHA, COMFY, DOWN, UP, Form
from kinoform.files import whole
from kinoform.models.lora import adapters_of
from kinoform.models.lora_linear import Adapter

SUFFIX = ".safetensors"


def save_lora(
    path: Path,
    model: nn.Module,
    name: str = "lora",
    *,
    form: Form = COMFY,
    base: str = "",
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> None:
    """Write one adapter of the model, whole or not at all; its strength is not part of it.

    In the form DIFFUSERS, which has no alpha, the second matrix is multiplied by alpha / rank. Metadata: rank,
    alpha (as written), and `base`, the hash of the model it was made on. `dtype` None leaves numbers as they
    are held. Raises UsageError for an unknown adapter and as `whole` does, NonFiniteError for NaN,
    infinity, and values too large for `dtype`.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} does not end in {SUFFIX}; LoRA files are written as that", code="wrong_suffix")
    held = adapters_of(model)
    if name not in held:
        raise UsageError(f"the model has no adapter {name!r}; {nearest(name, held)}", code="unknown_name")
    tensors = [
        _outgoing(form.written(layer, piece), value, dtype)
        for layer, adapter in held[name].items()
        for piece, value in _pieces(adapter, form).items()
    ]
    adapters = held[name].values()
    alphas = [adapter.alpha if form.alpha else adapter.rank for adapter in adapters]
    metadata = lora_metadata([adapter.rank for adapter in adapters], alphas, base)
    with whole(path, force=force) as temporary:
        write_safetensors(temporary, tensors, lambda count: None, metadata)


def lora_metadata(ranks: Iterable[int], alphas: Iterable[int | float], base: str) -> dict[str, str]:
    return {**METADATA, "rank": _all(ranks), "alpha": _all(alphas), "base_model_hash": base}


def outgoing_alpha(form: Form, layer: str, alpha: float) -> Outgoing:
    value = torch.tensor(alpha, dtype=torch.float32)
    return Outgoing(name=form.written(layer, ALPHA), shape=(), dtype=value.dtype, read=lambda: value)


def _pieces(adapter: Adapter, form: Form) -> dict[str, Tensor]:
    down, up = adapter.down.detach().cpu(), adapter.up.detach().cpu()
    if form.alpha:
        return {DOWN: down, UP: up, ALPHA: torch.tensor(adapter.alpha, dtype=torch.float32)}
    scale = adapter.alpha / adapter.rank
    return {DOWN: down, UP: up if scale == 1 else up.float() * scale}


def _outgoing(name: str, value: Tensor, dtype: torch.dtype | None) -> Outgoing:
    if dtype is not None and not name.endswith(f".{ALPHA}"):
        value = value.to(dtype)
    if not value.isfinite().all():
        raise NonFiniteError(
            f"{name} is NaN, infinite or too large for {value.dtype}; nothing was written", code="not_finite"
        )
    return Outgoing(name=name, shape=tuple(value.shape), dtype=value.dtype, read=lambda: value)


def _all(numbers: Iterable[int | float]) -> str:
    """The one number, or each that occurs."""
    return ", ".join(f"{number:g}" for number in sorted(set(numbers)))
