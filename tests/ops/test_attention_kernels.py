"""No attention is left to the kernel that holds all scores in memory, where PyTorch has one that does not."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kinoform.models.attention.factorized import within_frames, within_places
from kinoform.models.attention.full import everywhere
from kinoform.models.text import TextSpec
from kinoform.models.vae_blocks import FrameAttention, Memory
from kinoform.models.vision import VisionSpec
from kinoform.ops.attention import attend
from kinoform.types import Grid


@pytest.fixture(autouse=True)
def fused(monkeypatch: pytest.MonkeyPatch):
    """PyTorch's fused kernel alone, as where matrix products do not pay; it refuses what it cannot run."""
    monkeypatch.setattr("kinoform.ops.attention.multiplies", lambda dtype: False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        yield


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_frames_of_the_autoencoder():
    FrameAttention(4)(drawn(1, 4, 2, 64, 64), Memory(None))


def test_text():
    encoder = TextSpec(vocab=8, dim=16, dim_attention=16, dim_ffn=16, heads=2, layers=1, length=8).build()
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    encoder(torch.zeros(2, 4, dtype=torch.long), mask)


def test_images():
    VisionSpec(image=28, patch=14, dim=16, heads=2, layers=2, dim_ffn=16).build()(drawn(1, 3, 28, 28))


@pytest.mark.parametrize("scheme", [everywhere, within_frames, within_places])
@pytest.mark.parametrize("guests", [0, 3])
def test_schemes(scheme: object, guests: int):
    assert callable(scheme)
    scheme(*(drawn(1, 24 + guests, 2, 8) for _ in range(3)), Grid(frames=4, height=2, width=3))


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 2, 1), (3, 2, 1, 0)])
def test_any_layout(axes: tuple[int, int, int, int]):
    """Also one in which a head's columns lie apart; the numbers are those of a copy in order."""
    q, k, v = (drawn(*(torch.Size((1, 40, 2, 8))[axis] for axis in axes)) for _ in range(3))
    back = tuple(axes.index(axis) for axis in range(4))
    q, k, v = (x.permute(back) for x in (q, k, v))
    assert torch.equal(attend(q, k, v), attend(q.contiguous(), k.contiguous(), v.contiguous()))
