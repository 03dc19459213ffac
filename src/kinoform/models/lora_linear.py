"""A linear layer with low-rank adapters beside its weight (LoRA; Hu et al., 2021).

    y = x W^T + b + sum over adapters of  strength * alpha / rank * (x A^T) B^T

W and b keep their canonical names; an adapter's matrices stand beside them as `adapters.NAME.down` (A) and
`adapters.NAME.up` (B). They may have any dtype; the products are made in that of the layer's own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from kinoform.errors import NonFiniteError
from kinoform.models.linear import Linear, named_modules
from kinoform.models.packed import PackedLinear
from kinoform.ops.cpu import linear


class Adapter(nn.Module):
    """One low-rank change: down [rank, in], up [out, rank]. Its `strength` may be set between two videos."""

    factor: Float32[Tensor, ""]

    def __init__(self, down: Float[Tensor, "rank in"], up: Float[Tensor, "out rank"], alpha: float) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.alpha = alpha
        self.strength = 1.0

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def strength(self) -> float:
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        self._strength, self.counts = value, value != 0
        # A tensor, or torch.compile would compile again for every new number; no buffer, which a cast would round.
        self.factor = torch.tensor(value * self.alpha / self.rank, dtype=torch.float32, device="cpu")

    def forward(self, x: Float[Tensor, "*b in"]) -> Float[Tensor, "*b out"]:
        thin = linear(x, self.down.to(x.dtype), None)
        return linear(thin, self.up.to(x.dtype), None) * self.factor

    def change(self) -> Float32[Tensor, "out in"]:
        """Return what it adds to the weight, factor * B A."""
        return (self.up.float() @ self.down.float()) * self.factor

    def size(self) -> float:
        """The Frobenius norm of `change`, by products of rank x rank numbers alone."""
        down, up = (matrix.detach().cpu().double() for matrix in (self.down, self.up))
        square = ((up.T @ up) * (down @ down.T)).sum()
        return square.clamp(min=0).sqrt().item() * abs(self.factor.item())


class Adapted(Linear):
    """A linear layer with adapters by name. It holds the very parameters of the layer that it stands for."""

    adapters: nn.ModuleDict
    kept: tuple[Tensor, ...]
    """The base weight while the adapters are merged; in a tuple, so that it is no parameter of the module."""

    def __init__(self, base: Linear) -> None:
        nn.Module.__init__(self)  # nn.Linear would make a weight
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.adapters, self.kept = nn.ModuleDict(), ()

    def forward(self, input: Tensor) -> Tensor:
        result = super().forward(input)
        if not self.kept:
            for adapter in self.named().values():
                if adapter.counts:
                    result = result + adapter(input.to(result.dtype))
        return result

    def named(self) -> dict[str, Adapter]:
        return {name: adapter for name, adapter in self.adapters.items() if isinstance(adapter, Adapter)}

    @torch.no_grad()
    def merge(self) -> None:
        changes = [adapter.change() for adapter in self.named().values() if adapter.counts]
        merged = sum(changes, self.weight.float()).to(self.weight.dtype)
        if not merged.isfinite().all():
            raise NonFiniteError(
                f"a merged weight is NaN or too large for {merged.dtype}; lower the strength", code="not_finite"
            )
        self.kept = (self.weight,)
        self.weight = nn.Parameter(merged, requires_grad=self.weight.requires_grad)

    def unmerge(self) -> None:
        (base,) = self.kept
        base.data = base.data.to(self.weight.device)
        self.weight, self.kept = base, ()


class AdaptedPacked(Adapted, PackedLinear):
    """The same beside a weight that stays packed; nothing can be merged into it."""

    def __init__(self, base: PackedLinear) -> None:
        PackedLinear.__init__(self, base.rows, base.packing, base.bias, base.dtype)
        self.adapters, self.kept = nn.ModuleDict(), ()


def linear_layers(model: nn.Module) -> dict[str, Linear]:
    """The layers that may have adapters, by canonical name, in the order of the model."""
    kinds = (Linear, PackedLinear, Adapted, AdaptedPacked)
    return {name: layer for name, layer in named_modules(model, Linear) if type(layer) in kinds}


def device_of(layer: Linear) -> torch.device:
    return layer.rows.device if isinstance(layer, PackedLinear) else layer.weight.device


def dtype_of(layer: Linear) -> torch.dtype:
    """Return the dtype that the layer computes in."""
    return layer.dtype if isinstance(layer, PackedLinear) else layer.weight.dtype
