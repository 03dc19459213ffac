"""Context streams: how rows from an encoder become rows that cross-attention reads."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.linear import Linear
from kinoform.ops.norm import layer_norm

IMAGE_EPS = 1e-5
VIT_H_ROWS = 257


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

    @property
    def usual_rows(self) -> int:
        return self.rows

    def row_products(self, dim: int) -> int:
        return self.width * dim + dim * dim

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

    @property
    def usual_rows(self) -> int:
        """As many as have places, or those of one picture as ViT-H/14 reads it."""
        return self.positions or VIT_H_ROWS

    def row_products(self, dim: int) -> int:
        return self.width * self.width + self.width * dim

    def build(self, dim: int, eps: float) -> nn.Module:
        return ImageEmbedding(self, dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceStream:
    """Rows of reference pictures [b, n, width], through the layers of the image stream, behind a gate.

    The stream has k, v and norm of its own in every block; its gate begins at 0, so that a model which gets
    the stream added begins as the model that it was.
    """

    width: int
    name: str = "reference"
    gated: bool = True

    @property
    def usual_rows(self) -> int:
        """None: without pictures it is left out."""
        return 0

    def row_products(self, dim: int) -> int:
        return ImageStream(width=self.width).row_products(dim)

    def build(self, dim: int, eps: float) -> nn.Module:
        return ImageEmbedding(ImageStream(width=self.width), dim)


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
            raise UsageError(f"{rows.shape[1]} text rows, but the model reads {self.rows}; cut the prompt")
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
