"""A device that is not there: its tensors compute on the CPU, and refuse what Apple's GPUs refuse by design.

That is: float64 and complex128, tensors of two devices in one operation (but for single numbers), a generator of
another device, and reading values without moving them first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

THERE = torch.device("meta", 1)
"""PyTorch does nothing for a device of this type unless it is there; without a number it is not this device."""

CPU = torch.device("cpu")
REFUSED = (torch.float64, torch.complex128)
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
ATTENTION_CHOICE = torch.ops.aten._fused_sdp_choice.default


class There(Tensor):
    """A tensor on that device."""

    _here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        if here.dtype in REFUSED:
            raise TypeError(f"cannot have a tensor of {here.dtype} on this device")
        with torch.inference_mode(False):  # PyTorch has no views of such a tensor in that mode
            made = Tensor._make_wrapper_subclass(
                cls,
                here.shape,
                strides=here.stride(),
                storage_offset=here.storage_offset(),
                dtype=here.dtype,
                device=THERE,
            )
        made._here = here
        return made

    def __init__(self, here: Tensor) -> None: ...

    def __repr__(self, **_: object) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"There({self._here!r})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Watched(TorchDispatchMode):
    """Functions that make tensors on the device without a tensor to begin from, and what is moved there."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Tensors(TorchFunctionMode):
    """`torch.tensor`, which tells no dispatch mode of the device."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.tensor and given.get("device") == THERE:
            return func(*args, **{**given, "device": CPU}).to(THERE)
        return func(*args, **given)


@contextmanager
def another_device() -> Iterator[torch.device]:
    """The device, simulated within the block."""
    with _Watched(), _Tensors():
        yield THERE


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = tree_leaves((args, kwargs))
    asked = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    there = any(isinstance(leaf, There) for leaf in leaves)
    _check_alike(func, leaves, there, asked)
    if func is ATTENTION_CHOICE:
        return SDPBackend.MATH.value
    found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if func._schema.is_mutable:
        return args[0] if isinstance(found, Tensor) else found
    return tree_map(_there, found) if asked == THERE or (there and asked is None) else found


def _check_alike(func: Any, leaves: list[Any], there: bool, asked: torch.device | None) -> None:
    others = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, There) and x.dim()]
    if there and others and func not in MOVES:
        raise RuntimeError(f"{func}: tensors of two devices")
    if (there or asked == THERE) and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"{func}: a generator of another device")


def _here(x: Any) -> Any:
    if isinstance(x, There):
        return x._here
    return CPU if isinstance(x, torch.device) and x == THERE else x


def _there(x: Any) -> Any:
    """Make conjugate or negative what is so by a mark alone: the mark does not show on the outside."""
    return There(x.resolve_conj().resolve_neg()) if isinstance(x, Tensor) and not isinstance(x, There) else x
