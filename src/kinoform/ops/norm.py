"""Normalisations of the transformer, computed in float32 whatever comes in."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def rms_norm(x: Float[Tensor, "*b d"], weight: Float[Tensor, " d"], eps: float) -> Float[Tensor, "*b d"]:
    """Compute x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich, 2019).

    The quotient is formed in float32 and rounded to x's dtype before the product with `weight`, as the
    official code does; a float32 weight therefore gives a float32 result.
    """
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def layer_norm(
    x: Float[Tensor, "*b d"],
    eps: float,
    weight: Float[Tensor, " d"] | None = None,
    bias: Float[Tensor, " d"] | None = None,
) -> Float[Tensor, "*b d"]:
    """Compute (x - mean) / sqrt(variance + eps) in float32, affine when weight and bias are given."""
    wide = x.float()
    scale = None if weight is None else weight.float()
    shift = None if bias is None else bias.float()
    return F.layer_norm(wide, wide.shape[-1:], scale, shift, eps)


def modulate(
    x: Float[Tensor, "b l d"], eps: float, shift: Float[Tensor, "#b #l d"], scale: Float[Tensor, "#b #l d"]
) -> Float[Tensor, "b l d"]:
    """Compute layer_norm(x) * (1 + scale) + shift; where all tokens have the same, as the affine part of the norm."""
    if shift.numel() == scale.numel() == x.shape[-1]:
        return layer_norm(x, eps, 1 + scale.flatten(), shift.flatten())
    return torch.addcmul(shift, layer_norm(x, eps), 1 + scale)
