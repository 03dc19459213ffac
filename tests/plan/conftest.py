"""What tests of plans share."""

import pytest
import torch.nn.functional as F
from torch import Tensor

from kinoform.ops import cpu


@pytest.fixture
def countable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain products alone, since a machine's own kernels and fused attention are not counted in inference mode."""

    def attention(q: Tensor, k: Tensor, v: Tensor, **masks: object) -> Tensor:
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v

    monkeypatch.setattr(cpu, "_onednn", lambda: None)
    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
