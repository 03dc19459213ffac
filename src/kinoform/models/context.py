"""Context sources: features of an encoder become the context tokens that cross-attention reads."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.linear import Linear
from kinoform.models.vision import VisionBlock
from kinoform.ops.norm import layer_norm

IMAGE_EPS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class TextContext:
    """Text features [b, n, width], n <= length, through Linear, GELU (tanh), Linear.

    They are padded with zeros up to `length` *before* the layers, and cross-attention does not mask the
    padding: the models were trained so.
    """

    width: int = 4096
    length: int = 512
    name: str = "text"
    gated: bool = False
    concat_to: str | None = None

    def build(self, dim: int, eps: float) -> nn.Module:
        return TextEmbedding(self, dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContext:
    """Features of the image encoder [b, n, width], through norm, Linear, GELU, Linear, norm.

    `positions` is 0, or the number of features that get a learned position (514 in first-last-frame models).
    """

    width: int = 1280
    positions: int = 0
    name: str = "image"
    gated: bool = False
    concat_to: str | None = None

    def build(self, dim: int, eps: float) -> nn.Module:
        return ImageEmbedding(self, dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceEncoderSpec:
    """Blocks of self-attention over the features of reference images, before the transformer's cross-attention.

    Cross-attention adds up what single features say; what only several together say, as a shape does, must be read
    first. Raises UsageError when the heads do not divide the width.
    """

    dim: int = 128
    heads: int = 4
    layers: int = 2
    dim_ffn: int = 256
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise UsageError(
                f"{self.heads} heads do not divide the width {self.dim} of a reference encoder; change either",
                code="spec_not_divisible",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceContext:
    """Features of reference images [b, n, width], through the layers of `ImageContext`, behind a gate.

    The source has k, v and norm of its own in every block; its gate begins at 0, so that a model to which
    it is added begins as the model that it was. Without an `encoder` every feature is embedded by itself.
    """

    width: int
    encoder: ReferenceEncoderSpec | None = None
    name: str = "reference"
    gated: bool = True
    concat_to: str | None = None

    def build(self, dim: int, eps: float) -> nn.Module:
        if self.encoder is None:
            return ImageEmbedding(ImageContext(width=self.width), dim)
        embedding = ImageEmbedding(ImageContext(width=self.encoder.dim), dim)
        return nn.Sequential(ReferenceEncoder(self.encoder, self.width), embedding)


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoWordContext:
    """Features of reference images [b, n, width] as `words` context tokens, appended to those of the prompt.

    A learned query for each reads the features of all images together. The blocks read the tokens as words: by the k,
    v and norm of text, in one softmax with it. Source: textual inversion (Gal et al. 2022), with a network in place of
    a search.
    """

    width: int
    words: int = 2
    encoder: ReferenceEncoderSpec = field(default_factory=ReferenceEncoderSpec)
    name: str = "reference"
    gated: bool = False
    concat_to: str | None = "text"

    def build(self, dim: int, eps: float) -> nn.Module:
        return Resampler(self, dim)


class TextEmbedding(nn.Module):
    """The text MLP of the official model (`text_embedding`)."""

    def __init__(self, spec: TextContext, dim: int) -> None:
        super().__init__()
        self.length = spec.length
        self.layers = nn.Sequential(
            Linear(spec.width, dim), nn.GELU(approximate="tanh"), Linear(dim, dim)
        )  # fmt: skip

    def forward(self, features: Float[Tensor, "b n w"]) -> Float[Tensor, "b m d"]:
        """Raises UsageError for more features than the transformer's context has room for."""
        count = features.shape[1]
        if count > self.length:
            raise UsageError(f"{count} text tokens, but the model reads {self.length}; cut the prompt", code="too_long")
        return self.layers(F.pad(features, (0, 0, 0, self.length - count)))


class ImageEmbedding(nn.Module):
    """The image projection of the official model (`img_emb`): norms in float32 around two layers."""

    def __init__(self, spec: ImageContext, dim: int) -> None:
        super().__init__()
        width = spec.width
        self.positions = nn.Parameter(torch.zeros(1, spec.positions, width)) if spec.positions else None
        self.norm_in = nn.LayerNorm(width, eps=IMAGE_EPS)
        self.layers = nn.Sequential(Linear(width, width), nn.GELU(), Linear(width, dim))
        self.norm_out = nn.LayerNorm(dim, eps=IMAGE_EPS)

    def forward(self, features: Float[Tensor, "b n w"]) -> Float[Tensor, "b n d"]:
        if self.positions is not None:
            features = features + self.positions
        x = layer_norm(features, IMAGE_EPS, self.norm_in.weight, self.norm_in.bias)
        return layer_norm(self.layers(x), IMAGE_EPS, self.norm_out.weight, self.norm_out.bias)


class ReferenceEncoder(nn.Module):
    """Encoder of features of any width, by a layer and the blocks of the image encoder."""

    def __init__(self, spec: ReferenceEncoderSpec, width: int) -> None:
        super().__init__()
        self.eps = spec.eps
        self.norm_in = nn.LayerNorm(width, eps=spec.eps)
        self.enter = Linear(width, spec.dim)
        self.blocks = nn.ModuleList(VisionBlock(spec) for _ in range(spec.layers))
        for layer in self.modules():
            if isinstance(layer, Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "b n w"]) -> Float[Tensor, "b n r"]:
        x = self.enter(layer_norm(features, self.eps, self.norm_in.weight, self.norm_in.bias)).float()
        for block in self.blocks:
            x = block(x)
        return x


class Resampler(nn.Module):
    """Attention of learned queries over encoded features: as many tokens as there are queries."""

    def __init__(self, spec: PseudoWordContext, dim: int) -> None:
        super().__init__()
        width, self.eps = spec.encoder.dim, spec.encoder.eps
        self.reader = ReferenceEncoder(spec.encoder, spec.width)
        self.queries = nn.Parameter(torch.randn(spec.words, width) * width**-0.5)
        self.norm_out = nn.LayerNorm(width, eps=self.eps)
        self.say = Linear(width, dim)
        nn.init.xavier_uniform_(self.say.weight)

    def forward(self, features: Float[Tensor, "b n w"]) -> Float[Tensor, "b words d"]:
        encoded = self.reader(features)
        scores = self.queries.to(encoded) @ encoded.mT
        x = scores.softmax(-1) @ encoded
        return self.say(layer_norm(x, self.eps, self.norm_out.weight, self.norm_out.bias))
