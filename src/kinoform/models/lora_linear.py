"""A linear layer with changes of its weight: low-rank adapters beside it (LoRA; Hu et al., 2021), and whole ones.

    y = x W^T + b + sum over adapters of  strength * alpha / rank * (x A^T) B^T

W and b keep their canonical names; an adapter's matrices stand beside them as `adapters.NAME.down` (A) and
`adapters.NAME.up` (B). They may have any dtype; the products are made in that of the layer's own. Changes of other
kinds (models/lora_changes.py) stand there by their factors, and the changed weight is made each time the layer runs:
little work beside a product with the tokens of a video, and no memory for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from kinoform.errors import NonFiniteError
from kinoform.models.linear import Linear, named_modules
from kinoform.models.lora_changes import ALL, WeightChange
from kinoform.models.packed import PackedLinear
from kinoform.ops.cpu import linear


class Adapter(WeightChange):
    """One low-rank change: down [rank, in], up [out, rank]."""

    def __init__(self, down: Float[Tensor, "rank in"], up: Float[Tensor, "out rank"], alpha: float) -> None:
        super().__init__(alpha / len(down))
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.alpha = alpha

    @property
    def rank(self) -> int:
        return len(self.down)

    def forward(self, x: Float[Tensor, "*b in"]) -> Float[Tensor, "*b out"]:
        thin = linear(x, self.down.to(x.dtype), None)
        return linear(thin, self.up.to(x.dtype), None) * self.factor

    def raw(self, weight: Float[Tensor, "out *in"], rows: slice = ALL) -> Float32[Tensor, "rows *in"]:
        return (self.up[rows].float() @ self.down.float()).reshape(-1, *weight.shape[1:])

    def change(self) -> Float32[Tensor, "out in"]:
        """Return what it adds to the weight, factor * B A."""
        return (self.up.float() @ self.down.float()) * self.factor

    def size(self) -> float:
        """The Frobenius norm of `change`, by products of rank x rank numbers alone."""
        down, up = (matrix.detach().cpu().double() for matrix in (self.down, self.up))
        square = ((up.T @ up) * (down @ down.T)).sum()
        return square.clamp(min=0).sqrt().item() * abs(self.factor.item())


class Adapted(Linear):
    """A linear layer with changes by name. It holds the very parameters of the layer that it stands for."""

    adapters: nn.ModuleDict
    kept: tuple[Tensor, ...]
    """The base weight while the adapters are merged; in a tuple, so that it is no parameter of the module."""

    def __init__(self, base: Linear) -> None:
        nn.Module.__init__(self)  # nn.Linear would make a weight
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.adapters, self.kept = nn.ModuleDict(), ()

    def forward(self, input: Tensor) -> Tensor:
        counting = [] if self.kept else [change for change in self.named().values() if change.chosen or change.counts]
        whole = [change for change in counting if not isinstance(change, Adapter)]
        if whole:
            result = linear(input.to(self.computes), self.changed(whole).to(self.computes), self.bias)
        else:
            result = super().forward(input)
        for adapter in counting:
            if isinstance(adapter, Adapter):
                changed = result + adapter(input.to(result.dtype))
                result = torch.where(adapter.factor != 0, changed, result) if adapter.chosen else changed
        return result

    def named(self) -> dict[str, WeightChange]:
        return {name: change for name, change in self.adapters.items() if isinstance(change, WeightChange)}

    def changed(self, changes: Sequence[WeightChange]) -> Float32[Tensor, "out in"]:
        """The weight with these changes."""
        weight = self.weight
        return sum((change.added(weight) for change in changes), weight.float())

    @torch.no_grad()
    def merge(self) -> None:
        changes = [change for change in self.named().values() if change.counts]
        merged = self.changed(changes).to(self.weight.dtype)
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
