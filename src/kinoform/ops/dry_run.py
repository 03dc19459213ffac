"""A call on tensors without values: which operations it takes and how many bytes it holds, in milliseconds."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# PyTorch's modes have constructors and exits without types, and so have the operations that they are handed.

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from kinoform.ops.attention import MANY
from kinoform.ops.cpu import multiplies
from kinoform.ops.meta_shapes import META, SHAPES, aten, empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Copies that the kernels of a device make for themselves, for networks in one dtype.

    `parts`: attention takes some queries at a time, for which q and k are set in order (`ops/attention.py`).
    `ordered`: a convolution copies its weights into an order of its own.
    """

    parts: bool
    ordered: bool


def kernels_of(device: str, dtype: torch.dtype) -> Kernels:
    """The kernels of this processor where `device` is cpu. What an accelerator's libraries copy is not known: none."""
    here = device == "cpu"
    return Kernels(parts=here and multiplies(dtype), ordered=here)


def storage_key(tensor: Tensor) -> int:
    """Return what tells the storages of living tensors apart: on the meta device none has an address."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


@no_type_check
class DryRun(TorchDispatchMode):
    """Count what is run inside it. Whatever device is asked for, tensors lie on the meta device.

    `flops` are 2 per multiply-add of products, convolutions and attention, by PyTorch's formulas, under the name of the
    parameter that takes part; those of attention under the name before, as ("NAME", "attention"). `now` are the bytes
    of the tensors alive that were made inside, `peak` the most at any time, `peak_with_copies` the same beside the
    copies of `kernels`. `attended` has the shape of q of each attention. What asks for a value raises, as PyTorch does.
    """

    def __init__(self, kernels: Kernels, names: Mapping[int, str] | None = None) -> None:
        super().__init__()
        self.flops: Counter[tuple[str, str]] = Counter()
        self.now = self.peak = self.peak_with_copies = 0
        self.attended: dict[tuple[int, ...], None] = {}
        self._kernels = kernels
        self._names = dict(names or {})
        self._last = ""
        self._alive: dict[int, Any] = {}
        self._attention = _Attention(self)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say that nothing here is compiled; otherwise PyTorch would import its compiler, which takes seconds."""
        return False

    def __enter__(self) -> DryRun:
        self._attention.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._attention.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": META}
        derive: Callable[..., Any] = SHAPES.get(func, func)
        result: Any = derive(*map(self._without_values, args), **kwargs)
        if not self._makes(func):
            return result
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._made(tensor)
        if count := flop_registry.get(func._overloadpacket):
            self._count(args, int(count(*args, **kwargs, out_val=result)))
            if self._kernels.ordered and func is aten.convolution.default:
                self._beside(args[1].nbytes)
        elif self._names and isinstance(result, Tensor):
            self._name(args, result)
        return result

    def attend(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        """Attention as a fused kernel has it: no scores in memory, the result in the order [b, l, heads, k]."""
        result = torch.empty(*q.shape[:-3], *q.shape[-3:-1][::-1], v.shape[-1], dtype=v.dtype).transpose(-3, -2)
        self.attended[tuple(q.shape)] = None
        self.flops[self._last, "attention"] += 2 * prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        if self._kernels.parts and attn_mask is None and q.shape[-2] * k.shape[-2] >= MANY:
            self._beside(q.nbytes + k.nbytes)
        return result

    @contextmanager
    def counted(self) -> Generator[Counted]:
        """Yield the counts that the block adds to this run, filled in at its end."""
        flops, peaks, start = self.flops, (self.peak, self.peak_with_copies), self.now
        self.flops, self.peak, self.peak_with_copies = Counter(), start, start
        found = Counted(flops=self.flops)
        try:
            yield found
        finally:
            found.peak, found.peak_with_copies = self.peak - start, self.peak_with_copies - start
            flops.update(self.flops)
            self.flops = flops
            self.peak, self.peak_with_copies = max(self.peak, peaks[0]), max(self.peak_with_copies, peaks[1])

    def repeat(self, found: Counted) -> None:
        """Count once more what was counted, without running it; its results are the caller's to make."""
        self.flops.update(found.flops)
        self.peak = max(self.peak, self.now + found.peak)
        self.peak_with_copies = max(self.peak_with_copies, self.now + found.peak_with_copies)

    def _made(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage_key(tensor), storage.nbytes()
        if key in self._alive:
            return
        self._alive[key] = weakref.ref(storage, partial(self._freed, key, size))
        self.now += size
        self.peak = max(self.peak, self.now)
        self._beside(0)

    def _freed(self, key: int, size: int, _: object) -> None:
        del self._alive[key]
        self._names.pop(key, None)
        self.now -= size

    def _beside(self, copies: int) -> None:
        self.peak_with_copies = max(self.peak_with_copies, self.now + copies)

    def _count(self, args: Sequence[Any], flops: int) -> None:
        named = (self._names.get(storage_key(item)) for item in args if isinstance(item, Tensor))
        self._last = next((name for name in named if name is not None), self._last)
        self.flops[self._last, "product"] += flops

    def _name(self, args: Sequence[Any], result: Tensor) -> None:
        """A parameter that was cast or laid out anew keeps its name."""
        if args and isinstance(args[0], Tensor):
            name = self._names.get(storage_key(args[0]))
            if name is not None and sum(isinstance(item, Tensor) for item in args) == 1:
                self._names[storage_key(result)] = name

    @staticmethod
    @cache
    def _makes(func: Any) -> bool:
        """Tell whether an operation gives tensors of its own, neither views of others nor these changed in place."""
        return all(item.alias_info is None for item in func._schema.returns)

    def _without_values(self, value: Any) -> Any:
        """A tensor that holds values, as one made from an array does, by its shape alone."""
        if isinstance(value, Tensor):
            return value if value.is_meta else empty(value.shape, dtype=value.dtype)
        if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
            return [self._without_values(item) for item in value]
        return value


class Counted:
    """Operations of a part of a run, and its peaks above what was alive at its beginning."""

    def __init__(self, *, flops: Counter[tuple[str, str]]) -> None:
        self.flops = flops
        self.peak = self.peak_with_copies = 0

    @property
    def total(self) -> int:
        return sum(self.flops.values())


@no_type_check
class _Attention(TorchFunctionMode):
    """Hands attention to a run before PyTorch takes it apart."""

    def __init__(self, run: DryRun) -> None:
        super().__init__()
        self._run = run

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._run.attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
