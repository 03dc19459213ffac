"""Context streams: how rows from an encoder become rows that cross-attention reads."""

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
class TextStream:
    """Text rows [b, n, width], n <= rows, through Linear, GELU (tanh), Linear.

    They are padded with zero rows up to `rows` *before* the layers, and cross-attention does not mask the
    padding: the models were trained so.
    """

    width: int = 4096
    rows: int = 512
    name: str = "text"
    gated: bool = False
    joins: str | None = None

    def build(self, dim: int, eps: float) -> nn.Module:
        return TextEmbedding(self, dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStream:
    """Image-encoder rows [b, n, width], through norm, Linear, GELU, Linear, norm; learned places if said.

    `positions` is 0, or the number of rows that get a learned offset (514 in first-last-frame models).
    """

    width: int = 1280
    positions: int = 0
    name: str = "image"
    gated: bool = False
    joins: str | None = None

    def build(self, dim: int, eps: float) -> nn.Module:
        return ImageEmbedding(self, dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSpec:
    """Blocks of self-attention in which rows see one another before the transformer's see them.

    Cross-attention adds up what single rows say; what only several together say, as a shape does, must be read first.
    Raises UsageError when the heads do not divide the width.
    """

    dim: int = 128
    heads: int = 4
    layers: int = 2
    dim_ffn: int = 256
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise UsageError(
                f"{self.heads} heads do not divide the width {self.dim} of a reader; change either",
                code="spec_not_divisible",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceStream:
    """Rows of reference images [b, n, width], through the layers of the image stream, behind a gate.

    The stream has k, v and norm of its own in every block; its gate begins at 0, so that a model which gets
    the stream added begins as the model that it was. Without `reader` no row knows of another.
    """

    width: int
    reader: ReaderSpec | None = None
    name: str = "reference"
    gated: bool = True
    joins: str | None = None

    def build(self, dim: int, eps: float) -> nn.Module:
        if self.reader is None:
            return ImageEmbedding(ImageStream(width=self.width), dim)
        return nn.Sequential(Reader(self.reader, self.width), ImageEmbedding(ImageStream(width=self.reader.dim), dim))


@dataclass(frozen=True, slots=True, kw_only=True)
class WordStream:
    """Rows of reference images [b, n, width], read as `words` rows that stand behind those of the prompt.

    Each of these asks the rows of all images together by a learned query. The blocks read them as words: by the k, v
    and norm of text, in one softmax with it. The idea is that of textual inversion (Gal et al. 2022), with a network in
    place of a search.
    """

    width: int
    words: int = 2
    reader: ReaderSpec = field(default_factory=ReaderSpec)
    name: str = "reference"
    gated: bool = False
    joins: str | None = "text"

    def build(self, dim: int, eps: float) -> nn.Module:
        return ImageWords(self, dim)


class TextEmbedding(nn.Module):
    """The text MLP of the official model (`text_embedding`)."""

    def __init__(self, spec: TextStream, dim: int) -> None:
        super().__init__()
        self.rows = spec.rows
        self.layers = nn.Sequential(
            Linear(spec.width, dim), nn.GELU(approximate="tanh"), Linear(dim, dim)
        )  # fmt: skip

    def forward(self, rows: Float[Tensor, "b n w"]) -> Float[Tensor, "b m d"]:
        """Raises UsageError when there are more rows than the stream has room for."""
        if rows.shape[1] > self.rows:
            raise UsageError(
                f"{rows.shape[1]} text rows, but the model reads {self.rows}; cut the prompt", code="too_long"
            )
        return self.layers(F.pad(rows, (0, 0, 0, self.rows - rows.shape[1])))


class ImageEmbedding(nn.Module):
    """The image projection of the official model (`img_emb`): norms in float32 around two layers."""

    def __init__(self, spec: ImageStream, dim: int) -> None:
        super().__init__()
        width = spec.width
        self.positions = nn.Parameter(torch.zeros(1, spec.positions, width)) if spec.positions else None
        self.norm_in = nn.LayerNorm(width, eps=IMAGE_EPS)
        self.layers = nn.Sequential(Linear(width, width), nn.GELU(), Linear(width, dim))
        self.norm_out = nn.LayerNorm(dim, eps=IMAGE_EPS)

    def forward(self, rows: Float[Tensor, "b n w"]) -> Float[Tensor, "b n d"]:
        if self.positions is not None:
            rows = rows + self.positions
        rows = layer_norm(rows, IMAGE_EPS, self.norm_in.weight, self.norm_in.bias)
        return layer_norm(self.layers(rows), IMAGE_EPS, self.norm_out.weight, self.norm_out.bias)


class Reader(nn.Module):
    """Rows of any width to rows of the reader's own, by a layer and the blocks of the image encoder."""

    def __init__(self, spec: ReaderSpec, width: int) -> None:
        super().__init__()
        self.eps = spec.eps
        self.norm_in = nn.LayerNorm(width, eps=spec.eps)
        self.enter = Linear(width, spec.dim)
        self.blocks = nn.ModuleList(VisionBlock(spec) for _ in range(spec.layers))
        for layer in self.modules():
            if isinstance(layer, Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, rows: Float[Tensor, "b n w"]) -> Float[Tensor, "b n r"]:
        rows = self.enter(layer_norm(rows, self.eps, self.norm_in.weight, self.norm_in.bias)).float()
        for block in self.blocks:
            rows = block(rows)
        return rows


class ImageWords(nn.Module):
    """Module that reads images into as many rows as there are queries."""

    def __init__(self, spec: WordStream, dim: int) -> None:
        super().__init__()
        self.reader = Reader(spec.reader, spec.width)
        self.eps = spec.reader.eps
        self.queries = nn.Parameter(torch.randn(spec.words, spec.reader.dim) * spec.reader.dim**-0.5)
        self.norm_out = nn.LayerNorm(spec.reader.dim, eps=spec.reader.eps)
        self.say = Linear(spec.reader.dim, dim)
        nn.init.xavier_uniform_(self.say.weight)

    def forward(self, rows: Float[Tensor, "b n w"]) -> Float[Tensor, "b words d"]:
        read = self.reader(rows)
        asked = self.queries.to(read) @ read.mT
        found = asked.softmax(-1) @ read
        return self.say(layer_norm(found, self.eps, self.norm_out.weight, self.norm_out.bias))
