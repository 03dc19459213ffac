"""Modules without memory: every parameter has its name and shape, none its numbers."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Module = TypeVar("Module", bound=nn.Module)


def on_meta(build: Callable[[], Module]) -> Module:
    """The module with shapes and no memory. Buffers are not supported: checkpoints do not hold them."""
    with torch.device("meta"), _WithoutDrawing():
        module = build()
    assert not list(module.buffers()), f"{type(module).__name__} has buffers, which no checkpoint fills"
    return module


class _WithoutDrawing(TorchFunctionMode):
    """Embeddings are not drawn: on the meta device that would import 800 modules, seconds of them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given: dict[str, Any] = kwargs or {}
        return given["tensor"] if func is nn.init.normal_ else func(*args, **given)
