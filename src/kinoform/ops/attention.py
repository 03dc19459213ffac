"""One attention: softmax(q k^T / sqrt(d)) v over heads."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def attend(
    q: Float[Tensor, "b l heads k"],
    k: Float[Tensor, "b n heads k"],
    v: Float[Tensor, "b n heads k"],
    mask: Bool[Tensor, "b 1 l n"] | None = None,
) -> Float[Tensor, "b l heads k"]:
    """Every query sees every key (Vaswani et al., 2017), or those that `mask` allows (True = may see).

    q and k are rounded to v's dtype, as the official kernel does. PyTorch picks the fastest kernel that
    this machine has; none is required.
    """
    out = F.scaled_dot_product_attention(
        q.to(v.dtype).transpose(1, 2), k.to(v.dtype).transpose(1, 2), v.transpose(1, 2), attn_mask=mask
    )
    return out.transpose(1, 2)
