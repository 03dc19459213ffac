"""Changes of a weight, as LoRA files hold them: each is a value that makes a difference for a weight W.

    W' = W + sum over changes of  strength * delta(W)

so that every change follows its strength linearly, and is absent at 0. Low-rank matrices have a form beside the layer,
which never makes the whole matrix (models/lora_linear.py); the others are made from their factors when a layer runs.
Sources: LoHa (Hyeon-Woo et al., "FedPara", 2021) and LoKr as in LyCORIS (Yeh et al., 2023); DoRA (Liu et al., 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

ALL = slice(None)
TINY = 1e-12


class WeightChange(nn.Module):
    """One change of one weight. Its `strength` may be set between two videos, and during one.

    `scale` is alpha / rank where the change has these, else 1.
    """

    factor: Float32[Tensor, ""]
    varies: bool = False
    """True where the strength changes during a run. A compiled layer computes such a change at 0 too, and leaves it out
    afterwards: going without would compile it again."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        # A tensor, or torch.compile would compile again for every new number; no buffer, which a cast would round.
        self.factor = torch.tensor(scale, dtype=torch.float32, device="cpu")
        self.strength = 1.0

    @property
    def strength(self) -> float:
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        self._strength, self.counts = value, value != 0
        self.factor.fill_(value * self.scale)

    @property
    def chosen(self) -> bool:
        """Return whether the difference is computed at 0 too, and chosen by a tensor."""
        return self.varies and torch.compiler.is_compiling()

    def raw(self, weight: Float[Tensor, "out *in"], rows: slice = ALL) -> Float32[Tensor, "rows *in"]:
        """Some rows of the difference for this weight, before `scale` and `strength`."""
        raise NotImplementedError

    def delta(self, weight: Float[Tensor, "out *in"], rows: slice = ALL) -> Float32[Tensor, "rows *in"]:
        """Some rows of the difference at strength 1."""
        return self.raw(weight, rows) * self.scale

    def added(self, weight: Float[Tensor, "out *in"]) -> Float32[Tensor, "out *in"]:
        """The difference at the present strength."""
        return self.raw(weight) * self.factor


class Hadamard(WeightChange):
    """LoHa: the product, number by number, of two low-rank matrices w1a w1b and w2a w2b; with cores `t1`, `t2` of the
    kernel of a convolution, each is the Tucker product of its three."""

    def __init__(
        self, first: Sequence[Tensor], second: Sequence[Tensor], scale: float, cores: Sequence[Tensor] = ()
    ) -> None:
        super().__init__(scale)
        (self.first_a, self.first_b), (self.second_a, self.second_b) = map(_kept, first), map(_kept, second)
        self.cores = nn.ParameterList(map(_kept, cores))

    def raw(self, weight: Float[Tensor, "out *in"], rows: slice = ALL) -> Float32[Tensor, "rows *in"]:
        cores: list[Tensor | None] = [*self.cores] or [None, None]
        pairs = ((self.first_a, self.first_b), (self.second_a, self.second_b))
        one, two = (
            _product(a, b)[rows] if core is None else tucker(core, a, b).flatten(1)[rows]
            for core, (a, b) in zip(cores, pairs, strict=True)
        )
        return (one * two).reshape(-1, *weight.shape[1:])


class Kronecker(WeightChange):
    """LoKr: the Kronecker product of two matrices, each whole or as low-rank factors; the second may have a core."""

    def __init__(self, first: Sequence[Tensor], second: Sequence[Tensor], scale: float) -> None:
        super().__init__(scale)
        self.first, self.second = nn.ParameterList(map(_kept, first)), nn.ParameterList(map(_kept, second))

    def raw(self, weight: Float[Tensor, "out *in"], rows: slice = ALL) -> Float32[Tensor, "rows *in"]:
        first, second = (_joined([*factors]).flatten(1) for factors in (self.first, self.second))
        return torch.kron(first, second)[rows].reshape(-1, *weight.shape[1:])


class WholeDifference(WeightChange):
    """The whole difference, of any parameter."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = _kept(value)

    def raw(self, weight: Float[Tensor, "out *in"], rows: slice = ALL) -> Float32[Tensor, "rows *in"]:
        return self.value.float().reshape(weight.shape)[rows]


class Replacement(WeightChange):
    """A whole parameter in the place of the model's."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = _kept(value)

    def raw(self, weight: Float[Tensor, "out *in"], rows: slice = ALL) -> Float32[Tensor, "rows *in"]:
        return self.value.float().reshape(weight.shape)[rows] - weight[rows].float()


class Decomposed(WeightChange):
    """DoRA: the weight with another change, each row (or column) of it given the length that `magnitude` says.

    As ComfyUI has it, the strength counts the whole difference: m (W + D) / |W + D| - W.
    """

    def __init__(self, inner: WeightChange, magnitude: Tensor, *, columns: bool) -> None:
        super().__init__()
        self.inner, self.magnitude, self.columns = inner, _kept(magnitude.flatten()), columns

    def raw(self, weight: Float[Tensor, "out *in"], rows: slice = ALL) -> Float32[Tensor, "rows *in"]:
        some = ALL if self.columns else rows
        before = weight[some].float()
        changed = before + self.inner.delta(weight, some)
        if self.columns:  # one length for each input, over all else
            lengths = _lengths(changed.transpose(0, 1))
            scales = self.magnitude.float() / lengths.clamp(min=TINY)
            return (changed * scales.view(1, -1, *(1,) * (weight.dim() - 2)) - before)[rows]
        lengths = _lengths(changed)
        scales = self.magnitude.float()[some] / lengths.clamp(min=TINY)
        return changed * scales.view(-1, *(1,) * (weight.dim() - 1)) - before


class Summed(WeightChange):
    """Several changes of one weight in one file."""

    def __init__(self, parts: Sequence[WeightChange]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def raw(self, weight: Float[Tensor, "out *in"], rows: slice = ALL) -> Float32[Tensor, "rows *in"]:
        deltas = [part.delta(weight, rows) for part in self.parts if isinstance(part, WeightChange)]
        return torch.stack(deltas).sum(0)


def tucker(core: Tensor, a: Float[Tensor, "i out"], b: Float[Tensor, "j in"]) -> Float32[Tensor, "out in *kernel"]:
    """The product of a core [i, j, *kernel] with its two matrices."""
    return torch.einsum("ij...,jr,ip->pr...", core.float(), b.float(), a.float())


def _lengths(matrix: Tensor) -> Tensor:
    """Lengths of the rows."""
    return matrix.flatten(1).square().sum(1).sqrt()


def _product(a: Tensor, b: Tensor) -> Tensor:
    return a.float() @ b.float().flatten(1)


def _joined(factors: Sequence[Tensor]) -> Tensor:
    """One whole matrix, the product of two, or of a core and two."""
    if len(factors) == 1:
        return factors[0].float()
    return _product(*factors) if len(factors) == 2 else tucker(*factors).contiguous()


def _kept(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)
