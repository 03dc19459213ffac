"""The device of a training: everything is made on the CPU from seeds, then moved to the device."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.training.distributed import Rank

CPU = torch.device("cpu")


def check_device(device: torch.device) -> None:
    """Raise UsageError when no tensor can be made on the device and read back."""
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as failure:
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
        raise UsageError(
            f"PyTorch cannot compute on the device {str(device)!r} ({reason}); train on cpu", code="device_unsupported"
        ) from failure


def check_compiler(device: torch.device) -> None:
    """Raise UsageError when PyTorch's compiler does not work here, for example for want of a C++ compiler."""
    try:
        torch.compile(torch.square)(torch.ones(2, device=device))
    except Exception as failure:  # its own errors and those of every compiler behind it
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
        raise UsageError(
            f"PyTorch cannot compile for {device.type} on this machine ({reason}); leave out --compile",
            code="compiler_missing",
        ) from failure


def device_of(rank: Rank, device: torch.device) -> torch.device:
    """Return the device of a process: those that share "cuda" take its devices in turn; a numbered device stays."""
    if device.type != "cuda" or device.index is not None or rank.world_size == 1:
        return device
    return torch.device("cuda", rank.index % torch.cuda.device_count())


def apart(module: nn.Module, other: nn.Module) -> nn.Module:
    """Copy a module so that it may be moved or cast alone: what it shares with `other` stays there as it is.

    Until then both share the memory. Parameters that are the module's own stay the same objects, with their hooks.
    """
    shared: dict[int, Any] = {
        id(item): nn.Parameter(item.detach(), requires_grad=item.requires_grad) for item in other.parameters()
    }
    shared |= {id(item): item.detach() for item in other.buffers()}
    own = {id(item): item for item in module.parameters()}
    return deepcopy(module, own | shared)


def moved(tree: Any, device: torch.device) -> Any:
    """Return a tree of dictionaries, lists, tuples, named tuples and dataclasses with its tensors on `device`."""
    return mapped(tree, lambda tensor: tensor.to(device))


def mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return such a tree with its tensors changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {name: mapped(branch, change) for name, branch in tree.items()}
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{item.name: mapped(getattr(tree, item.name), change) for item in fields(tree)})
    if isinstance(tree, list | tuple):
        branches = [mapped(branch, change) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
    return tree
