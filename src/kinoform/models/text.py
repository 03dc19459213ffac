"""The umT5 text encoder: a T5 encoder in which every layer has its own table of relative positions."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.linear import Linear
from kinoform.models.norm import RMSNorm
from kinoform.models.tokenizer import Tokenizer, Tokens

EPSILON = 1e-6
HALF_HEADROOM = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """Sizes of a text encoder; the defaults are umT5-XXL. `length` is the token limit of a prompt.

    Raises UsageError when the heads do not divide `dim_attention`, or when `buckets` is not a multiple of
    4 below 4 * `max_distance` (half of them per direction, half of those one distance wide).
    """

    vocab: int = 256384
    dim: int = 4096
    dim_attention: int = 4096
    dim_ffn: int = 10240
    heads: int = 64
    layers: int = 24
    buckets: int = 32
    max_distance: int = 128
    length: int = 512

    def __post_init__(self) -> None:
        if self.dim_attention % self.heads:
            raise UsageError(
                f"dim_attention={self.dim_attention} is not a multiple of heads={self.heads}; change either",
                code="spec_not_divisible",
            )
        if self.buckets % 4 or not 4 <= self.buckets < 4 * self.max_distance:
            raise UsageError(
                f"buckets={self.buckets} must be a multiple of 4, at least 4 and below 4 * max_distance, "
                f"here {4 * self.max_distance}",
                code="spec_inconsistent",
            )

    def build(self) -> "TextEncoder":
        return TextEncoder(self)


UMT5_XXL = TextSpec()


class TextEncoder(nn.Module):
    """Encoder of token ids to text features (Raffel et al., 2020; umT5: Chung et al., 2023).

    No position is added to the embedding, which is not scaled either: order enters through the biases.
    """

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.spec = spec
        self.token_embedding = nn.Embedding(spec.vocab, spec.dim)
        self.blocks = nn.ModuleList(TextEncoderBlock(spec) for _ in range(spec.layers))
        self.norm = RMSNorm(spec.dim, EPSILON)

    def forward(
        self, ids: Int[Tensor, "b n"], mask: Int[Tensor, "b n"] | Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n d"]:
        """Return a feature for every id, in the dtype of the weights, about unit variance.

        `mask` is nonzero at true tokens. Features of padding are computed too and mean nothing; see `encode`.
        """
        x = self.token_embedding(ids)
        buckets = relative_buckets(ids.shape[1], self.spec).to(ids.device)
        hidden = rearrange(mask == 0, "b n -> b 1 1 n")
        for block in self.blocks:
            x = block(x, buckets, hidden)
        return self.norm(x)


class TextEncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.norm1 = RMSNorm(spec.dim, EPSILON)
        self.attention = Attention(spec)
        self.norm2 = RMSNorm(spec.dim, EPSILON)
        self.feed_forward = FeedForward(spec.dim, spec.dim_ffn)
        self.position_bias = nn.Embedding(spec.buckets, spec.heads)

    def forward(
        self, x: Float[Tensor, "b n d"], buckets: Int[Tensor, "n n"], hidden: Bool[Tensor, "b 1 1 n"]
    ) -> Float[Tensor, "b n d"]:
        bias = rearrange(self.position_bias(buckets), "q k heads -> 1 heads q k")
        # Finite, not -inf: where nothing is true the official code attends to all padding alike.
        bias = bias.masked_fill(hidden, torch.finfo(bias.dtype).min).contiguous()
        x = keep_finite(x + self.attention(self.norm1(x), bias))
        return keep_finite(x + self.feed_forward(self.norm2(x)))


class Attention(nn.Module):
    """softmax(q k^T + bias) v. T5 folds 1/sqrt(d) into its initialisation, so no scale stands here.

    The scores are formed and normalised in float32 inside PyTorch's kernel. The official code rounds them
    to the dtype of the weights before its float32 softmax; in float32 the two are the same.
    """

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.q = Linear(spec.dim, spec.dim_attention, bias=False)
        self.k = Linear(spec.dim, spec.dim_attention, bias=False)
        self.v = Linear(spec.dim, spec.dim_attention, bias=False)
        self.o = Linear(spec.dim_attention, spec.dim, bias=False)

    def forward(self, x: Float[Tensor, "b n d"], bias: Float[Tensor, "b heads n n"]) -> Float[Tensor, "b n d"]:
        q, k, v = (
            rearrange(project(x), "b n (heads c) -> b heads n c", heads=self.heads)
            for project in (self.q, self.k, self.v)
        )
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(rearrange(seen, "b heads n c -> b n (heads c)"))


class FeedForward(nn.Module):
    """down(up(x) * gelu(gate(x))), gelu in its tanh form (Shazeer, 2020)."""

    def __init__(self, dim: int, dim_ffn: int) -> None:
        super().__init__()
        self.gate = Linear(dim, dim_ffn, bias=False)
        self.up = Linear(dim, dim_ffn, bias=False)
        self.down = Linear(dim_ffn, dim, bias=False)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.down(self.up(x) * F.gelu(self.gate(x), approximate="tanh"))


def relative_buckets(length: int, spec: TextSpec) -> Int[Tensor, "n n"]:
    """The row of the bias table for each (query, key), on the CPU.

    With r = key - query and m = buckets / 4: 2m if r > 0, plus |r| if |r| < m, else
    min(2m - 1, m + floor(m ln(|r|/m) / ln(max_distance/m))).
    """
    exact = spec.buckets // 4
    offset = torch.arange(1 - length, length, device="cpu")  # [2n-1]
    distance = offset.abs()
    # Computed on the CPU whatever the device: 16, 32 and 64 lie on the edge of a bucket, where another
    # device's rounding of the logarithm could choose the one below.
    far = (distance.clamp(min=exact).float() / exact).log() / math.log(spec.max_distance / exact) * exact
    bucket = torch.where(distance < exact, distance, (exact + far.long()).clamp(max=2 * exact - 1))
    bucket = bucket + 2 * exact * (offset > 0)
    place = torch.arange(length, device="cpu")
    return bucket[place[None, :] - place[:, None] + length - 1]


def keep_finite(x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """Clamp float16 that has overflowed to 1000 below the largest number; other dtypes pass untouched."""
    if x.dtype != torch.float16:
        return x
    limit = torch.finfo(x.dtype).max - HALF_HEADROOM
    return torch.where(x.isinf().any(), x.clamp(-limit, limit), x)


@torch.no_grad()
def initialise(encoder: TextEncoder, generator: torch.Generator) -> None:
    """Fill every weight as umT5 starts its training; drawn on the generator's device, then moved.

    Standard deviations: token_embedding 1, q (dim dim_attention)^-1/2, k v gate up dim^-1/2,
    o dim_attention^-1/2, down dim_ffn^-1/2, position_bias (2 buckets heads)^-1/2; norms are 1.
    """
    spec = encoder.spec

    def draw(module: nn.Embedding | nn.Linear, variance: float) -> None:
        values = torch.randn(module.weight.shape, generator=generator, device=generator.device)
        module.weight.copy_(values * math.sqrt(variance))

    draw(encoder.token_embedding, 1.0)
    encoder.norm.weight.fill_(1)
    for block in encoder.blocks:
        assert isinstance(block, TextEncoderBlock)
        attention, feed_forward = block.attention, block.feed_forward
        draw(attention.q, 1 / (spec.dim * spec.dim_attention))
        for layer in (attention.k, attention.v, feed_forward.gate, feed_forward.up):
            draw(layer, 1 / spec.dim)
        draw(attention.o, 1 / spec.dim_attention)
        draw(feed_forward.down, 1 / spec.dim_ffn)
        draw(block.position_bias, 1 / (2 * spec.buckets * spec.heads))
        block.norm1.weight.fill_(1)
        block.norm2.weight.fill_(1)


@torch.no_grad()
def text_features(tokenizer: Tokenizer, encoder: TextEncoder, prompts: Sequence[str]) -> Float[Tensor, "b n d"]:
    """Return the features of each prompt, exactly zero after its true length, as the official pipeline hands them on.

    Warns, once a prompt, of tokens beyond the encoder's limit, which are cut off, and of unknown words.
    """
    features: list[Tensor] = []
    for prompt in prompts:  # one at a time: a prompt's features must not depend on what else is asked for
        features.append(encode(encoder, _tokens(tokenizer, prompt, encoder.spec.length)))
    return torch.cat(features)


def _tokens(tokenizer: Tokenizer, prompt: str, length: int) -> Tokens:
    tokens = tokenizer([prompt], length)
    start = prompt if len(prompt) <= 40 else prompt[:40] + "..."
    if lost := tokens.lost[0]:
        warnings.warn(f"the prompt {start!r} is cut at {length} tokens; {lost} are lost", stacklevel=3)
    if unknown := tokens.unknown[0]:
        warnings.warn(f"words the model does not know: {', '.join(unknown)}", stacklevel=3)
    return tokens


def encode(encoder: TextEncoder, tokens: Tokens) -> Float[Tensor, "b n d"]:
    """Return the text features that the transformer reads: zero after a prompt's true length.

    Only as many columns as the longest prompt has are computed, since no true token sees padding; the result
    is padded to the columns of `tokens`. It lies on the encoder's device, in the dtype of its weights.
    """
    device = encoder.token_embedding.weight.device
    longest = int(tokens.mask.any(dim=0).sum())
    mask = tokens.mask[:, :longest].to(device)
    features = encoder(tokens.ids[:, :longest].to(device), mask).masked_fill(~mask[..., None], 0)
    return F.pad(features, (0, 0, 0, tokens.ids.shape[1] - longest))
