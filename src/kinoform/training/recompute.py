"""Gradient checkpointing: blocks that compute again in the backward pass what they would have to keep for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from kinoform.models.protocols import Block, KeysValues, RunsBlocks, Stream

_ATTENTION = frozenset(
    getattr(torch.ops.aten, name).default
    for name in (
        "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_flash_attention_for_cpu",
    )
)  # fmt: skip
"""PyTorch's kernels of attention. On a CPU attention to few keys is made of matrix products, which are done again."""


class Recompute(Enum):
    """Share of a block that is computed twice instead of kept: nothing, all, or all but attention.

    Without it a block keeps everything that its gradient needs; with FULL only its input, for a third more operations;
    with SELECTIVE also the results of attention, the costliest part of a long video.
    """

    NONE = "none"
    FULL = "full"
    SELECTIVE = "selective"


def recompute_blocks(module: nn.Module, mode: Recompute) -> None:
    """Have all blocks in a module recompute, those of branches too; the gradients are the same."""
    for runner in module.modules():
        if isinstance(runner, RunsBlocks) and mode is not Recompute.NONE:
            runner.around = partial(RecomputedBlock, selective=mode is Recompute.SELECTIVE)


@dataclass(frozen=True, slots=True)
class RecomputedBlock:
    """A block that is run twice: once for its result, once more for its gradient."""

    block: Block
    selective: bool

    def keys(self, context: Mapping[str, Tensor]) -> KeysValues:
        return self.block.keys(context)

    def __call__(self, stream: Stream, keys: KeysValues) -> Stream:
        return self._run("__call__", stream, keys)

    def before_context(self, stream: Stream) -> Stream:
        return self._run("before_context", stream)

    def after_context(self, stream: Stream, keys: KeysValues) -> Stream:
        return self._run("after_context", stream, keys)

    def _run(self, part: str, *inputs: Any) -> Stream:
        # The weights of now: where a stage lends others for a call, the module has its own again in the backward pass.
        called = _Part(cast(nn.Module, self.block), part)
        weights = {**dict(called.named_parameters()), **dict(called.named_buffers())}
        run: Callable[..., Stream] = partial(functional_call, called)
        if not self.selective:
            return cast(Stream, checkpoint(run, weights, inputs, use_reentrant=False))
        kept = partial(create_selective_checkpoint_contexts, _policy)
        return cast(Stream, checkpoint(run, weights, inputs, use_reentrant=False, context_fn=kept))


class _Part(nn.Module):
    """One of a block's functions, as a module that can be lent weights."""

    def __init__(self, block: nn.Module, part: str) -> None:
        super().__init__()
        self.block, self._part = block, part

    def forward(self, *inputs: Any) -> Stream:
        return getattr(self.block, self._part)(*inputs)


def _policy(context: object, function: object, *inputs: object, **settings: object) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if function in _ATTENTION else CheckpointPolicy.PREFER_RECOMPUTE
