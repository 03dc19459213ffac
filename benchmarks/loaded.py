"""Models as the product has them: written to a file and read back by kinoform's own loader."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import nn

from kinoform.checkpoints.files import open_checkpoint
from kinoform.loading.load import load_module

Module = TypeVar("Module", bound=nn.Module)
FILE = "model.safetensors"


def wide(name: str) -> torch.dtype:
    return torch.float32


def write(module: nn.Module, folder: Path) -> Path:
    """Write the weights under their own names and return the path."""
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / FILE)
    return folder / FILE


def read(build: Callable[[], Module], place: Path, *, dtype_of: Callable[[str], torch.dtype] = wide) -> Module:
    """Read a part as `kinoform.load` does, on the CPU."""
    checkpoint = open_checkpoint(place)
    return load_module(build, checkpoint, dtype_of=dtype_of, device=torch.device("cpu"))


def loaded(build: Callable[[], Module], module: Module, *, dtype_of: Callable[[str], torch.dtype] = wide) -> Module:
    """Load the loader's own copy of a model with these weights."""
    with tempfile.TemporaryDirectory() as folder:
        return read(build, write(module, Path(folder)), dtype_of=dtype_of)
