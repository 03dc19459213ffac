"""Starting values from a generator that is passed by hand, for modules that take none when they are built.

PyTorch's layers draw from the generators of the process. To seed those, as torch.manual_seed does, would change what
the caller's own program draws afterwards, on every device.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DRAWING: frozenset[Callable[..., Any]] = frozenset(
    (
        torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.multinomial,
        Tensor.uniform_, Tensor.normal_, Tensor.bernoulli_, Tensor.random_, Tensor.exponential_, Tensor.cauchy_,
        Tensor.log_normal_, Tensor.geometric_,
        nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_,
    )
)  # fmt: skip
LIKE: dict[Callable[..., Any], Callable[..., Tensor]] = {
    torch.rand_like: Tensor.uniform_,
    torch.randn_like: Tensor.normal_,
}
"""Functions that take no generator, and what fills a tensor as they do."""


class DrawnFrom(TorchFunctionMode):
    """Context in which draws without a generator come from this one, in the order in which they are drawn.

    A generator with a seed gives what torch.manual_seed with that seed would give.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in LIKE:
            return LIKE[func](torch.empty_like(*args, **given), generator=self.generator)
        if func in DRAWING and given.get("generator") is None:
            given["generator"] = self.generator
        return func(*args, **given)


def seeded(seed: int) -> DrawnFrom:
    """Return a context within which weights and noise are drawn as after `torch.manual_seed(seed)`.

    The global generators stay as they are.
    """
    return DrawnFrom(torch.Generator().manual_seed(seed))
