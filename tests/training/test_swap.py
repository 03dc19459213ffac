"""Blocks that stay in the host's memory: the same gradients, matrices that come when they are needed and go again."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from kinoform.training.recompute import Recompute, recompute_blocks
from kinoform.training.swap import place
from kinoform.types import Conditions
from tests.support.other_device import THERE, another_device
from tests.training.adapted_model import adapted_model

MATRICES = {(24, 24), (64, 24), (24, 64)}


class Fetches(TorchDispatchMode):
    """Names of what comes to the device, in order; `names` are those of tensors by their address."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names, self.seen = names, list[str]()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._to_copy.default and (kwargs or {}).get("device") == THERE:
            self.seen += [self.names[args[0].data_ptr()]] if args[0].data_ptr() in self.names else []
        return func(*args, **(kwargs or {}))


def step(swapped: int, mode: Recompute) -> tuple[list[Tensor], list[str], list[str], int]:
    """Gradients; what came in the forward pass; in the backward pass; and how many matrices autograd kept."""
    module, generator, kept = adapted_model(layers=3), torch.Generator().manual_seed(1), 0
    x, rows = torch.randn(1, 4, 1, 8, 8, generator=generator), torch.randn(1, 8, 16, generator=generator)
    place(module, THERE, swapped)
    recompute_blocks(module, mode)
    here = {name: item for name, item in module.named_parameters() if item.device.type == "cpu"}
    assert len(here) == 10 * swapped

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tuple(tensor.shape) in MATRICES and tensor.device == THERE
        return tensor

    fetches = Fetches({item.data_ptr(): name.removeprefix("model.blocks.") for name, item in here.items()})
    with fetches:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            conditions = Conditions(context={"text": rows.to(THERE)})
            loss = module(x.to(THERE), torch.tensor([0.5]).to(THERE), conditions).square().mean()
        forward, fetches.seen = fetches.seen, []
        loss.backward()
    gradients = [item.grad.cpu() for item in module.parameters() if item.grad is not None]
    return gradients, forward, fetches.seen, kept


@pytest.mark.parametrize("mode", [Recompute.NONE, Recompute.FULL])
def test_matrices_come_for_their_products_and_go_and_nothing_else_changes(mode: Recompute) -> None:
    with another_device():
        plain, swapped, every = (step(count, mode) for count in (0, 2, 3))
    assert len(plain[0]) == 3 * 10 * 2 and all(gradient.any() for gradient in plain[0])
    for result in (swapped, every):
        assert all(torch.equal(own, other) for own, other in zip(result[0], plain[0], strict=True))
    assert plain[1] == plain[2] == []
    layers = {f"{block}.{name}" for block in (0, 1) for name in _matrices()}
    assert len(swapped[1]) == 20 and set(swapped[1]) == layers, "each once"
    assert swapped[1].index("0.feed_forward.2.weight") < swapped[1].index("1.self_attention.q.weight")
    assert swapped[2].index("1.feed_forward.2.weight") < swapped[2].index("0.feed_forward.0.weight")
    assert every[3] == 0
    assert mode is Recompute.FULL or plain[3] > swapped[3] > every[3]


def _matrices() -> list[str]:
    names = [name for name, _ in adapted_model(layers=3).model.blocks[0].named_parameters()]
    return [name for name in names if name.endswith(".weight") and "norm" not in name]
