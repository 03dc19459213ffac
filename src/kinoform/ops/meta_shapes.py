"""Shapes of what operations give on the meta device, and the operations that they take.

PyTorch derives most shapes there in Python, at 100 microseconds an operation and behind an import of seconds; those of
the operations that networks consist of are therefore derived here, all others by PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from inspect import unwrap
from math import ceil
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.utils.flop_counter import addmm_flop, bmm_flop, conv_flop_count, mm_flop

META = torch.device("meta")
DISTINCT = 2
"""Values that `torch.unique` is taken to find: noise levels of tokens, those of the video and of what is clean."""

aten = torch.ops.aten


@no_type_check
def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=META)


@no_type_check
def _pointwise(*args: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    """As large as all tensors broadcast, in the dtype to which they are promoted, in the layout of one so large."""
    values = [each for each in (*args, *options.values()) if isinstance(each, Tensor | int | float)]
    tensors = [each for each in values if isinstance(each, Tensor)]
    shape = tensors[0].shape
    if any(each.shape != shape for each in tensors):
        shape = reduce(_broadcast, (each.shape for each in tensors))
    if dtype is None:
        dtype = tensors[0].dtype
        if any(not isinstance(each, Tensor) or each.dtype != dtype for each in values):
            dtype = _promoted(values)
    like = next((each for each in tensors if each.shape == shape), None)
    if like is None or like.is_contiguous() or not _dense(like):
        return empty(shape, dtype)
    return torch.empty_strided(shape, like.stride(), dtype=dtype, device=META)


@no_type_check
def _dense(x: Tensor) -> bool:
    return sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True)) + 1 == x.numel()


@no_type_check
def _broadcast(one: Sequence[int], other: Sequence[int]) -> torch.Size:
    """The same as `torch.broadcast_shapes`, which imports PyTorch's compiler."""
    short, long = sorted((one, other), key=len)
    padded = (*[1] * (len(long) - len(short)), *short)
    if any(a != b and 1 not in (a, b) for a, b in zip(padded, long, strict=True)):
        raise RuntimeError(f"shapes {tuple(one)} and {tuple(other)} cannot be broadcast")
    return torch.Size(b if a == 1 else a for a, b in zip(padded, long, strict=True))


@no_type_check
def _promoted(values: Sequence[Tensor | int | float]) -> torch.dtype:
    wide = reduce(
        lambda one, other: empty((1,) * max(one.dim(), getattr(other, "dim", int)()), torch.result_type(one, other)),
        values[1:],
        values[0] if isinstance(values[0], Tensor) else torch.empty((), device=META),
    )
    return wide.dtype


@no_type_check
def _truth(*args: Any, **options: Any) -> Tensor:
    return _pointwise(*args, dtype=torch.bool)


@no_type_check
def _chosen(condition: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return _pointwise(condition, one, other, dtype=torch.result_type(one, other))


@no_type_check
def _filled(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    return _pointwise(x, mask, dtype=x.dtype)


@no_type_check
def _reduced(
    x: Tensor, axes: Sequence[int] | None = None, keep: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    gone = {axis % x.dim() for axis in axes} if axes else set(range(x.dim()))
    shape = [1 if axis in gone else size for axis, size in enumerate(x.shape) if keep or axis not in gone]
    return empty(shape, dtype or x.dtype)


@no_type_check
def _range(*limits: int | float, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    start, stop, step = (0, *limits, 1) if len(limits) == 1 else (*limits, 1)[:3]
    whole = all(isinstance(each, int) for each in (start, stop, step))
    return empty((max(0, ceil((stop - start) / step)),), dtype or (torch.int64 if whole else torch.float32))


@no_type_check
def _full(shape: Sequence[int], *value: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    return empty(shape, dtype or torch.float32)


@no_type_check
def _new(x: Tensor, shape: Sequence[int], *value: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    return empty(shape, dtype or x.dtype)


@no_type_check
def _like(x: Tensor, *, dtype: torch.dtype | None = None, memory_format: Any = None, **options: Any) -> Tensor:
    return (
        _pointwise(x, dtype=dtype or x.dtype)
        if memory_format is not torch.contiguous_format
        else empty(x.shape, x.dtype)
    )


@no_type_check
def _repeat(x: Tensor, times: Sequence[int]) -> Tensor:
    shape = (*[1] * (len(times) - x.dim()), *x.shape)
    return empty([size * count for size, count in zip(shape, times, strict=True)], x.dtype)


@no_type_check
def _embedding(weight: Tensor, ids: Tensor, *options: Any) -> Tensor:
    return empty((*ids.shape, weight.shape[1]), weight.dtype)


@no_type_check
def _resized(x: Tensor, sides: Sequence[int], *scales: Any) -> Tensor:
    return empty((*x.shape[:2], *sides), x.dtype)


@no_type_check
def _in_place(x: Tensor, *others: Any, **options: Any) -> Tensor:
    return x


@no_type_check
def _any(x: Tensor) -> Tensor:
    return empty((), torch.bool)


@no_type_check
def _addmm(bias: Tensor, x: Tensor, weight: Tensor, **options: Any) -> Tensor:
    return empty((x.shape[0], weight.shape[1]), x.dtype)


@no_type_check
def _mm(x: Tensor, weight: Tensor) -> Tensor:
    return empty((x.shape[0], weight.shape[1]), x.dtype)


@no_type_check
def _bmm(x: Tensor, other: Tensor) -> Tensor:
    return empty((*x.shape[:2], other.shape[2]), x.dtype)


@no_type_check
def _layer_norm(x: Tensor, shape: Sequence[int], *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    rows = empty((*x.shape[: x.dim() - len(shape)], *[1] * len(shape)), torch.float32)
    return empty(x.shape, x.dtype), rows, empty(rows.shape, rows.dtype)


@no_type_check
def _cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    tensors = [each for each in tensors if each.shape != (0,)]
    shape = list(tensors[0].shape)
    shape[axis] = sum(each.shape[axis] for each in tensors)
    return empty(shape, reduce(torch.promote_types, (each.dtype for each in tensors)))


@no_type_check
def _stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    shape.insert(axis if axis >= 0 else axis + len(shape) + 1, len(tensors))
    return empty(shape, tensors[0].dtype)


@no_type_check
def _convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    transposed: bool, *rest: Any,
) -> Tensor:  # fmt: skip
    if transposed:
        return aten.convolution.default(x, weight, bias, stride, padding, dilation, transposed, *rest)
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    shape = ((size + 2 * edge - gap * (kernel - 1) - 1) // step + 1 for size, kernel, step, edge, gap in sides)
    return empty((x.shape[0], weight.shape[0], *shape), x.dtype)


@no_type_check
def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    if len(indices) != 1 or indices[0] is None or indices[0].dtype == torch.bool:
        return aten.index.Tensor(x, indices)
    return empty((*indices[0].shape, *x.shape[1:]), x.dtype)


@no_type_check
def _gather(x: Tensor, axis: int, index: Tensor, **options: Any) -> Tensor:
    return empty(index.shape, x.dtype)


@no_type_check
def _complex(real: Tensor, imaginary: Tensor) -> Tensor:
    return _pointwise(real, imaginary, dtype=real.dtype.to_complex())


@no_type_check
def _unique(x: Tensor, *options: Any, **more: Any) -> tuple[Tensor, Tensor, Tensor]:
    number = min(DISTINCT, x.numel())
    return empty((number,), x.dtype), empty(x.shape, torch.int64), empty((number,), torch.int64)


FLOPS: Mapping[Any, Callable[..., int]] = {
    aten.mm.default: lambda x, weight, **_: unwrap(mm_flop)(x.shape, weight.shape),
    aten.addmm.default: lambda bias, x, weight, **_: unwrap(addmm_flop)(bias.shape, x.shape, weight.shape),
    aten.bmm.default: lambda x, other, **_: unwrap(bmm_flop)(x.shape, other.shape),
    aten.convolution.default: lambda x, weight, *rest, out_val: conv_flop_count(
        x.shape, weight.shape, out_val.shape, transposed=rest[4]
    ),
}
"""PyTorch's formulas for the most frequent operations, without their unpacking of arguments."""

SHAPES: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys(
        (
            aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor, aten.pow.Tensor_Scalar,
            aten.rsqrt.default, aten.sqrt.default, aten.neg.default, aten.silu.default, aten.gelu.default,
            aten.sigmoid.default, aten.tanh.default, aten.relu.default, aten.cos.default, aten.sin.default,
            aten.exp.default, aten.log.default, aten.abs.default, aten.clamp.default, aten.clamp_min.default,
            aten.clamp_max.default, aten.addcmul.default, aten.pow.Scalar, aten.minimum.default,
            aten.maximum.default, aten.rsub.Scalar, aten.floor.default, aten.reciprocal.default,
        ),
        _pointwise,
    ),
    **dict.fromkeys(
        (
            aten.eq.Scalar, aten.ne.Scalar, aten.gt.Scalar, aten.ge.Scalar, aten.lt.Scalar, aten.le.Scalar,
            aten.eq.Tensor, aten.ne.Tensor, aten.gt.Tensor, aten.ge.Tensor, aten.lt.Tensor, aten.le.Tensor,
            aten.logical_not.default, aten.isinf.default, aten.isfinite.default, aten.isnan.default,
        ),
        _truth,
    ),
    **dict.fromkeys((aten.mean.dim, aten.sum.dim_IntList), _reduced),
    **dict.fromkeys((aten.zeros.default, aten.ones.default, aten.full.default), _full),
    **dict.fromkeys(
        (aten.new_zeros.default, aten.new_empty.default, aten.new_ones.default, aten.new_full.default), _new
    ),
    **dict.fromkeys(
        (aten.clone.default, aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default), _like
    ),
    **dict.fromkeys(
        (aten.silu_.default, aten.mul_.Tensor, aten.add_.Tensor, aten.div_.Tensor, aten.sub_.Tensor), _in_place
    ),
    aten._upsample_nearest_exact2d.default: _resized,
    aten.repeat.default: _repeat,
    aten.embedding.default: _embedding,
    **dict.fromkeys((aten.arange.default, aten.arange.start, aten.arange.start_step), _range),
    **dict.fromkeys((aten.any.default, aten.all.default), _any),
    aten.where.self: _chosen,
    aten.masked_fill.Scalar: _filled,
    aten.bitwise_not.default: _pointwise,
    aten.addmm.default: _addmm,
    aten.mm.default: _mm,
    aten.bmm.default: _bmm,
    aten.native_layer_norm.default: _layer_norm,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.convolution.default: _convolution,
    aten.index.Tensor: _index,
    aten.gather.default: _gather,
    aten.complex.default: _complex,
    aten._unique2.default: _unique,
}  # fmt: skip
