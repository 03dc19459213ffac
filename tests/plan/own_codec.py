"""A codec of another kind, that tells nothing of what it takes: a module, or none."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kinoform.models.codec import Codec, Identity


class Weighted(nn.Module):
    """A codec with six parameters."""

    channels = 3
    stride = (1, 1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3, bias=False)

    def encode(self, pixels: Tensor, history: Any = None) -> tuple[Tensor, Any]:
        return pixels, ()

    def decode(self, latents: Tensor, history: Any = None) -> tuple[Tensor, Any]:
        return latents, ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCodec:
    module: bool = False
    channels: int = 3
    stride: tuple[int, int, int] = (1, 1, 1)
    weightless: bool = False

    def build(self) -> Codec:
        return Weighted() if self.module else Identity()
