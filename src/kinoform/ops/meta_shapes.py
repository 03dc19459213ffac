"""Shapes of what operations give on the meta device.

PyTorch derives most shapes there in Python, at 100 microseconds an operation and behind an import of seconds; those of
the operations that networks consist of are therefore derived here, all others by PyTorch. Functions are not checked at
run time, as tests do elsewhere, since one is called for every operation.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# Parameters of functions that are not checked at run time have no types for pyright either.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from math import ceil
from typing import Any, no_type_check

import torch
from torch import Tensor

META = torch.device("meta")
DISTINCT = 2
"""Values that `torch.unique` is taken to find: noise levels of tokens, those of the video and of what is clean."""

aten = torch.ops.aten
empty = partial(torch.empty, device=META)


@no_type_check
def _pointwise(*args: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    """Make a tensor as large as all broadcast, of the dtype they are promoted to, in the layout of one so large."""
    values = [item for item in (*args, *options.values()) if isinstance(item, Tensor | int | float)]
    tensors = [item for item in values if isinstance(item, Tensor)]
    shape = tensors[0].shape
    if any(item.shape != shape for item in tensors):
        shape = torch.broadcast_tensors(*tensors)[0].shape
    if dtype is None:
        dtype = tensors[0].dtype
        if any(not isinstance(item, Tensor) or item.dtype != dtype for item in values):
            dtype = reduce(torch.promote_types, (torch.result_type(values[0], item) for item in values[1:]))
    like = next((item for item in tensors if item.shape == shape), None)
    if like is None or like.is_contiguous() or not _dense(like):
        return empty(shape, dtype=dtype)
    return torch.empty_strided(shape, like.stride(), dtype=dtype, device=META)


@no_type_check
def _dense(x: Tensor) -> bool:
    return sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True)) + 1 == x.numel()


@no_type_check
def _reduced(
    x: Tensor, axes: Sequence[int] | None = None, keep: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    gone = {axis % x.dim() for axis in axes} if axes else set(range(x.dim()))
    shape = [1 if axis in gone else size for axis, size in enumerate(x.shape) if keep or axis not in gone]
    return empty(shape, dtype=dtype or x.dtype)


@no_type_check
def _range(*limits: int | float, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    start, stop, step = (0, *limits, 1) if len(limits) == 1 else (*limits, 1)[:3]
    whole = all(isinstance(item, int) for item in (start, stop, step))
    return empty((max(0, ceil((stop - start) / step)),), dtype=dtype or (torch.int64 if whole else torch.float32))


@no_type_check
def _clone(x: Tensor, *, memory_format: Any = None) -> Tensor:
    return empty(x.shape, dtype=x.dtype) if memory_format is torch.contiguous_format else _pointwise(x)


@no_type_check
def _repeat(x: Tensor, times: Sequence[int]) -> Tensor:
    shape = (*[1] * (len(times) - x.dim()), *x.shape)
    return empty([size * count for size, count in zip(shape, times, strict=True)], dtype=x.dtype)


@no_type_check
def _embedding(weight: Tensor, ids: Tensor, *options: Any) -> Tensor:
    return empty((*ids.shape, weight.shape[1]), dtype=weight.dtype)


@no_type_check
def _resized(x: Tensor, sides: Sequence[int], *scales: Any) -> Tensor:
    return empty((*x.shape[:2], *sides), dtype=x.dtype)


@no_type_check
def _in_place(x: Tensor, *others: Any, **options: Any) -> Tensor:
    return x


@no_type_check
def _addmm(bias: Tensor, x: Tensor, weight: Tensor, **options: Any) -> Tensor:
    return empty((x.shape[0], weight.shape[1]), dtype=x.dtype)


@no_type_check
def _product(x: Tensor, other: Tensor) -> Tensor:
    return empty((*x.shape[:-1], other.shape[-1]), dtype=x.dtype)


@no_type_check
def _layer_norm(x: Tensor, shape: Sequence[int], *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    rows = empty((*x.shape[: x.dim() - len(shape)], *[1] * len(shape)), dtype=torch.float32)
    return empty(x.shape, dtype=x.dtype), rows, empty(rows.shape, dtype=rows.dtype)


@no_type_check
def _cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    tensors = [item for item in tensors if item.shape != (0,)]
    shape = list(tensors[0].shape)
    shape[axis] = sum(item.shape[axis] for item in tensors)
    return empty(shape, dtype=reduce(torch.promote_types, (item.dtype for item in tensors)))


@no_type_check
def _stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    shape.insert(axis if axis >= 0 else axis + len(shape) + 1, len(tensors))
    return empty(shape, dtype=tensors[0].dtype)


@no_type_check
def _convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    transposed: bool, *rest: Any,
) -> Tensor:  # fmt: skip
    if transposed:
        return aten.convolution.default(x, weight, bias, stride, padding, dilation, transposed, *rest)
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    shape = ((size + 2 * edge - gap * (kernel - 1) - 1) // step + 1 for size, kernel, step, edge, gap in sides)
    return empty((x.shape[0], weight.shape[0], *shape), dtype=x.dtype)


@no_type_check
def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    if len(indices) != 1 or indices[0] is None or indices[0].dtype == torch.bool:
        return aten.index.Tensor(x, indices)
    return empty((*indices[0].shape, *x.shape[1:]), dtype=x.dtype)


@no_type_check
def _gather(x: Tensor, axis: int, index: Tensor, **options: Any) -> Tensor:
    return empty(index.shape, dtype=x.dtype)


@no_type_check
def _complex(real: Tensor, imaginary: Tensor) -> Tensor:
    return _pointwise(real, imaginary, dtype=real.dtype.to_complex())


@no_type_check
def _unique(x: Tensor, *options: Any, **more: Any) -> tuple[Tensor, Tensor, Tensor]:
    number = min(DISTINCT, x.numel())
    return empty((number,), dtype=x.dtype), empty(x.shape, dtype=torch.int64), empty((number,), dtype=torch.int64)


SHAPES: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys(
        (
            aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor, aten.pow.Tensor_Scalar,
            aten.pow.Scalar, aten.remainder.Scalar, aten.addcmul.default, aten.rsqrt.default, aten.sqrt.default,
            aten.neg.default, aten.abs.default, aten.exp.default, aten.log.default, aten.cos.default, aten.sin.default,
            aten.silu.default, aten.gelu.default, aten.sigmoid.default, aten.tanh.default, aten.relu.default,
            aten.clamp.default, aten.clamp_min.default, aten.bitwise_not.default, aten.masked_fill.Scalar,
            aten.where.self, aten.zeros_like.default, aten.ones_like.default,
        ),
        _pointwise,
    ),
    **dict.fromkeys(
        (
            aten.eq.Scalar, aten.ne.Scalar, aten.gt.Scalar, aten.ge.Scalar, aten.lt.Scalar, aten.le.Scalar,
            aten.isinf.default,
        ),
        partial(_pointwise, dtype=torch.bool),
    ),
    **dict.fromkeys((aten.mean.dim, aten.sum.dim_IntList), _reduced),
    **dict.fromkeys((aten.any.default, aten.all.default), partial(_reduced, dtype=torch.bool)),
    **dict.fromkeys((aten.silu_.default, aten.mul_.Tensor, aten.add_.Tensor), _in_place),
    **dict.fromkeys((aten.arange.default, aten.arange.start, aten.arange.start_step), _range),
    aten._upsample_nearest_exact2d.default: _resized,
    aten.clone.default: _clone,
    aten.repeat.default: _repeat,
    aten.embedding.default: _embedding,
    aten.addmm.default: _addmm,
    **dict.fromkeys((aten.mm.default, aten.bmm.default), _product),
    aten.native_layer_norm.default: _layer_norm,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.convolution.default: _convolution,
    aten.index.Tensor: _index,
    aten.gather.default: _gather,
    aten.complex.default: _complex,
    aten._unique2.default: _unique,
}  # fmt: skip
