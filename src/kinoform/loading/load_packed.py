"""From a checkpoint to a module whose large matrices stay as the file stores them."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from kinoform.checkpoints.files import Checkpoint
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.packed import PackedStored
from kinoform.errors import WeightsError
from kinoform.families.names import Names
from kinoform.loading.load import Module, load_module, match, on_meta
from kinoform.models.dit import keeps_float32
from kinoform.models.packed import PackedLinear

SAMPLED_ROWS = 64


def load_packed(
    build: Callable[[], Module],
    checkpoint: Checkpoint,
    *,
    names: Names | None = None,
    dtype_of: Callable[[str], torch.dtype],
    device: torch.device,
    unused: Iterable[str] = (),
) -> Module:
    """As `load_module`, but each linear layer that is stored packed becomes a PackedLinear.

    The numbers that it computes are those of `load_module`. What the model keeps in float32 is unpacked,
    and so is everything that is no linear layer. Raises WeightsError as `load_module` does; NaN and
    infinity are looked for in up to 64 rows of a packed matrix.
    """
    whole, ignored = on_meta(build), tuple(unused)
    places = match(whole, checkpoint, names=names, unused=ignored)
    packed = {own: name for own, name in places.items() if _stays(whole, own, checkpoint.tensors[name])}

    def bare() -> Module:
        module = build()
        for own in packed:
            module.get_submodule(_owner(own)).register_parameter("weight", None)
        return module

    rest = {name: stored for name, stored in checkpoint.tensors.items() if name not in packed.values()}
    module = load_module(
        bare, replace(checkpoint, tensors=rest), names=names, dtype_of=dtype_of, device=device, unused=ignored
    )
    for own, name in packed.items():
        stored = checkpoint.tensors[name]
        assert isinstance(stored, PackedStored)
        linear = module.get_submodule(_owner(own))
        assert isinstance(linear, nn.Linear)
        rows = stored.rows()
        _check_rows(stored, name, rows, dtype_of(own))
        layer = PackedLinear(rows.to(device), stored.packing, linear.bias, dtype_of(own))
        module.set_submodule(_owner(own), layer)
    return module.eval()


def _stays(module: nn.Module, own: str, stored: Stored) -> bool:
    linear = isinstance(module.get_submodule(_owner(own)), nn.Linear)
    return linear and isinstance(stored, PackedStored) and not keeps_float32(own)


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _check_rows(stored: PackedStored, name: str, rows: Tensor, dtype: torch.dtype) -> None:
    some = stored.packing.unpack(rows[:: len(rows) // SAMPLED_ROWS | 1])
    if not some.isfinite().all():
        raise WeightsError(
            f"{stored.file}: {name} holds NaN or infinity; the file is damaged, fetch it again",
            code="weights_not_finite",
        )
    if not some.to(dtype).isfinite().all():
        raise WeightsError(
            f"{stored.file}: {name} has values too large for {dtype}; load it as torch.bfloat16",
            code="weights_overflow_dtype",
        )
