"""One attention: softmax(q k^T / sqrt(d)) v over heads."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from kinoform.ops.cpu import chooses, learns, linear, multiplies
from kinoform.ops.learning_attention import LearningAttention

FEW = 2**19
"""Scores of a head up to which a training batch in less than float32 holds all of them."""
LONG, WIDE = 512, 64
"""Queries, and width of a head, from which on learning by parts of the scores pays."""
MANY = 2**16
"""Scores of a head from which on its own matrix products pay."""
PART = 512
"""Bytes of one column of the scores held at a time: 256 queries in bfloat16, 128 in float32."""


def attend(
    q: Float[Tensor, "b l heads k"],
    k: Float[Tensor, "b n heads k"],
    v: Float[Tensor, "b n heads k"],
    mask: Bool[Tensor, "b 1 l n"] | None = None,
) -> Float[Tensor, "b l heads k"]:
    """Attend from every query to every key (Vaswani et al., 2017), or to those that `mask` allows (True).

    q and k are rounded to v's dtype, as the official kernel does. PyTorch picks the fastest kernel that
    this machine has, except on a CPU, where matrix products are faster than its fused kernel.
    """
    q, k, v = (_innermost(x.to(v.dtype)).transpose(1, 2) for x in (q, k, v))
    if v.device.type == "cpu" and mask is None:
        scores, fast = q.shape[2] * k.shape[2], chooses() and multiplies(v.dtype)
        if learns(q, k, v):
            if v.dtype != torch.float32 and scores <= FEW:
                return _products(q, k, v).transpose(1, 2)
            if fast and q.shape[2] >= LONG and q.shape[3] >= WIDE:
                return _learning(q, k, v).transpose(1, 2)
        elif fast and scores >= MANY:
            return _parts(q, k, v).transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def _innermost(x: Float[Tensor, "b n heads k"]) -> Float[Tensor, "b n heads k"]:
    """A head's columns side by side: where they are not, PyTorch takes the kernel that holds all scores in memory."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _learning(
    q: Float[Tensor, "b heads l k"], k: Float[Tensor, "b heads n k"], v: Float[Tensor, "b heads n k"]
) -> Float[Tensor, "b heads l k"]:
    return cast(Tensor, LearningAttention.apply(q, k, v))  # pyright: ignore[reportUnknownMemberType]


def _products(
    q: Float[Tensor, "b heads l k"], k: Float[Tensor, "b heads n k"], v: Float[Tensor, "b heads n k"]
) -> Tensor:
    """The same by two matrix products, all scores in memory: with gradients in bfloat16 on a CPU four times
    faster than PyTorch's fused kernel."""
    scores = (q.contiguous() * q.shape[-1] ** -0.5) @ k.contiguous().transpose(-1, -2)
    return scores.softmax(-1) @ v.contiguous()


def _parts(
    q: Float[Tensor, "b heads l k"], k: Float[Tensor, "b heads n k"], v: Float[Tensor, "b heads n k"]
) -> Float[Tensor, "b heads l k"]:
    """The same by two matrix products for some queries of one head at a time, so that their scores stay in
    the cache: without gradients three times faster in bfloat16, whose scores it rounds, and 1.7 in float32."""
    result = torch.empty_like(q.transpose(1, 2)).transpose(1, 2)
    q, k, rows = q * q.shape[-1] ** -0.5, k.contiguous(), PART // v.element_size()
    for sample in range(len(q)):
        for queries, keys, values, seen in zip(q[sample], k[sample], v[sample], result[sample], strict=True):
            columns = values.T.contiguous()
            for some, target in zip(torch.split(queries, rows), torch.split(seen, rows), strict=True):
                target.copy_(linear(linear(some, keys, None).softmax(-1), columns, None))
    return result
