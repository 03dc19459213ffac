"""Norms with what follows them: the same numbers in fewer passes, with and without gradients."""

import pytest
import torch
from torch import Tensor

from kinoform.models.vae_blocks import NORM_FLOOR, ChannelNorm
from kinoform.ops.norm import layer_norm, modulate
from kinoform.ops.rope import Rotary, rotate
from tests.models.recorded import gap


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [(1, 1, 1), (1, 2, 1), (1, 2, 5), (2, 2, 1), (2, 2, 5), (1, 1, 5)])
def test_modulation_is_a_norm_scaled_and_shifted(rows: tuple[int, int, int]):
    """One row for all tokens of all samples, one a sample, one a token."""
    few, samples, tokens = rows
    x, shift, scale = drawn(1, samples, 5, 8), drawn(2, few, tokens, 8), drawn(3, few, tokens, 8)
    wanted = layer_norm(x.double(), 1e-6).double() * (1 + scale.double()) + shift.double()
    assert gap(modulate(x, 1e-6, shift, scale).double(), wanted) < 1e-6
    given = [t.requires_grad_() for t in (x, shift, scale)]
    modulate(given[0], 1e-6, given[1], given[2]).square().sum().backward()
    plain = [t.detach().double().requires_grad_() for t in given]
    (layer_norm(plain[0], 1e-6) * (1 + plain[2]) + plain[1]).square().sum().backward()
    for ours, theirs in zip(given, plain, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert gap(ours.grad.double(), theirs.grad) < 1e-5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_channels_are_divided_by_their_length(layout: torch.memory_format):
    norm = ChannelNorm(6, 3)
    norm.gamma.data = drawn(1, 6, 1, 1, 1)
    x = drawn(2, 2, 6, 3, 4, 5).contiguous(memory_format=layout)
    length = torch.linalg.vector_norm(x.double(), dim=1, keepdim=True)
    y = norm(x)
    assert gap(y.double(), x.double() / length * 6**0.5 * norm.gamma.double()) < 1e-6
    assert y.is_contiguous(memory_format=layout)


def test_where_all_channels_are_zero_the_norm_and_its_gradient_are_too():
    norm = ChannelNorm(4, 3)
    x = torch.zeros(1, 4, 1, 1, 2)
    x[..., 1] = NORM_FLOOR / 100
    x.requires_grad_()
    y = norm(x)
    assert y[..., 0].abs().max() == 0
    assert torch.allclose(y[..., 1], torch.tensor(0.02), rtol=1e-5), "divided by the floor"
    y.sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_rotation_takes_any_layout_and_dtype():
    x, angles = drawn(1, 2, 5, 3, 9)[..., 1:], drawn(2, 5, 4)
    table = Rotary(angles.cos(), angles.sin())
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = table.cos[:, None], table.sin[:, None]
    wanted = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
    assert torch.allclose(rotate(x, table), wanted, atol=1e-6)
    turned = rotate(x.bfloat16(), table)
    assert turned.dtype == torch.float32
    assert torch.equal(turned, rotate(x.bfloat16().float(), table))
