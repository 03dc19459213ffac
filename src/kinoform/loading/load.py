"""Modules from checkpoints: built without memory, then filled tensor by tensor, each cast once or kept packed.

Strict in both directions: every tensor has its place or is known to be unused, every place its tensor.
"""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from math import prod
from typing import TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from kinoform.checkpoints.files import Checkpoint
from kinoform.checkpoints.formats import PackedStored, Stored
from kinoform.errors import WeightsError
from kinoform.families.family import OWN_NAMES
from kinoform.families.names import Names, listed
from kinoform.models.dit import keeps_float32
from kinoform.models.meta import on_meta
from kinoform.models.packed import PackedLinear
from kinoform.ops.fp8 import widened

WHOLE = 1_000_000
SAMPLES = 4096
SAMPLED_ROWS = 64

Module = TypeVar("Module", bound=nn.Module)


def load_module(
    build: Callable[[], Module],
    checkpoint: Checkpoint,
    *,
    names: Names = OWN_NAMES,
    dtype_of: Callable[[str], torch.dtype],
    device: torch.device,
    unused: Iterable[str] = (),
    keep_packed: bool = False,
) -> Module:
    """The module of `build` with the checkpoint's weights, for inference: eval mode, no gradients.

    `names` translates the file's names, which otherwise are kinoform's own; `dtype_of` gives the dtype of each
    parameter by its own name; `unused` are shell patterns of names, in the file or own, that no model reads. With
    `keep_packed` a linear layer that is stored packed becomes a PackedLinear, which computes the same numbers; all
    else, and what the model keeps in float32, is unpacked. At no time is more than one stored tensor in memory beside
    the module. Raises WeightsError as `match` does, and when values are NaN or infinite (looked for in a sample, see
    `sample`, and in up to 64 rows of a packed matrix), too large for their dtype, or all zero in the whole file.
    """
    module = on_meta(build)
    alive = False
    packed: dict[str, str] = {}
    for own, name in match(module, checkpoint, names=names, unused=unused).items():
        if keep_packed and _can_stay_packed(module, own, checkpoint.tensors[name]):
            packed[own] = name
            continue
        stored = checkpoint.read(name)
        dtype = dtype_of(own)
        alive |= check_values(f"{checkpoint.tensors[name].file}: {name}", sample(stored), dtype)
        owner, _, leaf = own.rpartition(".")
        value = nn.Parameter(_cast(stored, dtype, device), requires_grad=False)
        setattr(module.get_submodule(owner), leaf, value)
        del stored
    for own, name in packed.items():  # behind their biases
        matrix, layer = checkpoint.tensors[name], module.get_submodule(_owner(own))
        assert isinstance(matrix, PackedStored) and isinstance(layer, nn.Linear)
        rows, dtype = matrix.rows(), dtype_of(own)
        some = matrix.packing.unpack(rows[:: len(rows) // SAMPLED_ROWS | 1])
        alive |= check_values(f"{matrix.file}: {name}", some, dtype)
        module.set_submodule(_owner(own), PackedLinear(rows.to(device), matrix.packing, layer.bias, dtype))
    if not alive:
        raise WeightsError(
            f"{checkpoint.path} holds nothing but zeros: its download broke off; fetch it again", code="weights_damaged"
        )
    return module.eval()


def packed_bytes(
    build: Callable[[], nn.Module], checkpoint: Checkpoint, *, names: Names, unused: Iterable[str] = ()
) -> dict[str, int]:
    """Return the bytes of each matrix that `load_module` keeps packed, by its own name; reads headers only."""
    module = on_meta(build)
    found = match(module, checkpoint, names=names, unused=unused)
    stored = {own: checkpoint.tensors[name] for own, name in found.items()}
    return {
        own: item.nbytes
        for own, item in stored.items()
        if isinstance(item, PackedStored) and _can_stay_packed(module, own, item)
    }


def check_beginnings(
    build: Callable[[], nn.Module], checkpoint: Checkpoint, *, names: Names, unused: Iterable[str] = ()
) -> None:
    """Check the first numbers of each tensor of a module, without reading the rest: for weights needed only later.

    Raises WeightsError as `match` does, and for NaN and infinity.
    """
    for name in match(on_meta(build), checkpoint, names=names, unused=unused).values():
        stored = checkpoint.tensors[name]
        if stored.head is not None:
            first = stored.head(SAMPLES)
        elif prod(stored.shape) <= SAMPLES and not isinstance(stored, PackedStored):
            first = stored.read()
        else:
            continue
        check_values(f"{stored.file}: {name}", first, torch.float32)


def match(
    module: nn.Module, checkpoint: Checkpoint, *, names: Names = OWN_NAMES, unused: Iterable[str] = ()
) -> dict[str, str]:
    """Own name -> name in the file, for every parameter; reads headers only.

    Raises WeightsError when tensors are missing, of another shape, not floating point, or left over.
    """
    wanted = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    ignored = tuple(unused)
    found: dict[str, str] = {}
    left: list[str] = []
    for name in checkpoint.tensors:
        own = names.ours(name)
        if own is not None and own in wanted:
            found[own] = name
        elif not any(fnmatchcase(spelled, pattern) for pattern in ignored for spelled in (name, own or name)):
            left.append(name)
    missing = [names.theirs(own) for own in wanted if own not in found]
    _check_complete(checkpoint, missing, left, len(wanted))
    for own, name in found.items():
        stored = checkpoint.tensors[name]
        if stored.shape != wanted[own]:
            raise WeightsError(
                f"{stored.file}: {name} has shape {list(stored.shape)}, the model needs {list(wanted[own])}; "
                "these are weights of a model of another size",
                code="weights_wrong_shape",
            )
        if not stored.dtype.is_floating_point:
            raise WeightsError(
                f"{stored.file}: {name} is {stored.dtype}; get weights that are not quantised",
                code="weights_unsupported_storage",
            )
    return {own: found[own] for own in wanted}


def sample(values: Shaped[Tensor, "..."]) -> Shaped[Tensor, " n"]:
    """Up to a million values whole; of more, about 4096 evenly spaced ones, the first and the last."""
    flat = values.flatten()
    if len(flat) <= WHOLE:
        return flat
    # An odd step, or every sample of a matrix whose width is a power of two would be in one column.
    return torch.cat([flat[:: len(flat) // SAMPLES | 1], flat[-1:]])


def _cast(stored: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Narrow numbers travel to the device as they are."""
    narrow = stored.dtype.itemsize == 1
    return widened(stored.to(device), dtype) if narrow else stored.to(device=device, dtype=dtype)


def _check_complete(checkpoint: Checkpoint, missing: list[str], left: list[str], count: int) -> None:
    faults: list[str] = []
    if missing:
        faults.append(f"lacks {len(missing)} of the model's {count} tensors ({listed(missing)})")
    if left:
        faults.append(f"has {len(left)} tensors that the model does not know ({listed(left)})")
    if faults:
        place = checkpoint.files[0] if len(checkpoint.files) == 1 else checkpoint.path
        raise WeightsError(
            f"{place} {' and '.join(faults)}; these are weights of another model",
            code="weights_incomplete" if not left else "weights_wrong_model" if missing else "weights_unknown_keys",
        )


def check_values(label: str, values: Tensor, dtype: torch.dtype) -> bool:
    """Check that numbers are finite, and so in this dtype; return whether any is not zero.

    Raises WeightsError, which begins with the label.
    """
    wide = values.float()
    if not wide.isfinite().all():
        raise WeightsError(
            f"{label} holds NaN or infinity; the file is damaged, fetch it again", code="weights_not_finite"
        )
    if not wide.to(dtype).isfinite().all():
        raise WeightsError(
            f"{label} has values too large for {dtype}; use --dtype bfloat16", code="weights_overflow_dtype"
        )
    return bool(wide.any())


def _can_stay_packed(module: nn.Module, own: str, stored: Stored) -> bool:
    linear = isinstance(module.get_submodule(_owner(own)), nn.Linear)
    return linear and isinstance(stored, PackedStored) and not keeps_float32(own)


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]
