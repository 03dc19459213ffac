"""Auxiliary loss of a probe in the middle of a transformer, which predicts from each token what it shows.

After Yu et al. 2024, "Representation Alignment for Generation", with the attributes of the scene in the place of a
pretrained encoder's features: the denoising loss alone teaches slowly which object a token belongs to. The probe is
dropped after the training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from kinoform.mini.training.dataset import Videos
from kinoform.models.protocols import InContextTokens, Stream
from kinoform.ops.norm import layer_norm
from kinoform.ops.patch import Patch
from kinoform.world.motions import MOTIONS
from kinoform.world.palette import BACKGROUND_COLOURS
from kinoform.world.portrait import is_off_palette
from kinoform.world.render import coverage
from kinoform.world.scene import Scene, Thing
from kinoform.world.shapes import SHAPES

if TYPE_CHECKING:
    from kinoform.models.dit import DiTSpec
    from kinoform.types import Grid

CELL = 4
"""Side in pixels of the cells whose cover is predicted."""

CHOICES = (len(BACKGROUND_COLOURS), len(BACKGROUND_COLOURS), len(SHAPES), len(MOTIONS))
"""Numbers of classes: the background's colour, for every token; the object's colour, shape and motion, where one is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLoss:
    """Loss of a probe: the block that is read (`layer`, from 0), and weights against the denoising loss.

    `cover` weighs the mean squared error of the share of each cell that objects cover, `answers` the
    cross-entropy of each question; an object is there where it covers more than `present` of a token.
    """

    layer: int = 2
    cover: float = 4.0
    answers: float = 0.3
    present: float = 0.05


class ProbeTargets(NamedTuple):
    """Targets of each token: the cover of its cells, and the indices of its classes in CHOICES; -1 has no loss."""

    cover: Float[Tensor, "b l cells"]
    answers: Int[Tensor, "b l questions"]


def probe_targets(scenes: list[Scene], videos: Videos, stride: Patch, patch: Patch, present: float) -> ProbeTargets:
    """Compute the targets of the tokens into which `stride` (of the codec) and `patch` (of the model) cut videos."""
    targets = [_targets(scene, videos, stride, patch, present) for scene in scenes]
    return ProbeTargets(
        cover=torch.from_numpy(np.stack([cover for cover, _ in targets])),
        answers=torch.from_numpy(np.stack([answers for _, answers in targets])),
    )


def _targets(
    scene: Scene, videos: Videos, stride: Patch, patch: Patch, present: float
) -> tuple[Float[np.ndarray, "l cells"], Int[np.ndarray, "l questions"]]:
    size = {"height": videos.height // CELL, "width": videos.width // CELL}
    covers = coverage(scene, num_frames=videos.num_frames, **size)
    still = np.repeat(covers[:, :1], stride[0] - 1, axis=1)  # as the codec sees the first frame
    tokens = rearrange(
        np.concatenate([still, covers], axis=1),
        "n (f t) (h a) (w b) -> n (f h w) (a b) t",
        t=stride[0] * patch[0], a=stride[1] * patch[1] // CELL, b=stride[2] * patch[2] // CELL,
    ).mean(-1)  # fmt: skip
    shares = tokens.mean(-1)
    answers = _answers(scene)[shares.argmax(0)]
    answers[shares.max(0) <= present, 1:] = -1
    return tokens.max(0), answers


def _answers(scene: Scene) -> Int[np.ndarray, "n questions"]:
    ground = BACKGROUND_COLOURS.index(scene.story.background.colour)
    return np.array([(ground, *_thing_answers(thing)) for thing in scene.things])


def _thing_answers(thing: Thing) -> tuple[int, int, int]:
    """Return the classes of an object; -1, which counts in no loss, for a colour that no word names."""
    subject = thing.subject
    colour = -1 if is_off_palette(thing) else BACKGROUND_COLOURS.index(subject.colour)
    return colour, SHAPES.index(subject.shape), MOTIONS.index(subject.motion)


class ProbeHead(nn.Module):
    """One linear layer that reads all answers off a token."""

    def __init__(self, dim: int, stride: Patch, patch: Patch, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.cells = stride[1] * patch[1] * stride[2] * patch[2] // CELL**2
        self.linear = nn.Linear(dim, self.cells + sum(CHOICES))

    def forward(self, tokens: Float[Tensor, "b l d"], targets: ProbeTargets, spec: ProbeLoss) -> Float[Tensor, ""]:
        """Compute the weighted sum of all errors, each a mean over all tokens."""
        cover, *scores = self.linear(layer_norm(tokens, self.eps)).split((self.cells, *CHOICES), dim=-1)
        loss = spec.cover * (cover - targets.cover).square().mean()
        for index, score in enumerate(scores):
            wrong = F.cross_entropy(
                score.flatten(0, 1), targets.answers[..., index].flatten(), ignore_index=-1, reduction="sum"
            )
            loss = loss + spec.answers * wrong / targets.answers[..., index].numel()
        return loss


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTap:
    """A branch without weights that puts the tokens behind one block into the list that is its payload."""

    layer: int
    name: str = "tap"

    def build(self, spec: DiTSpec) -> nn.Module:
        return _FeatureTap(self.layer)


class _FeatureTap(nn.Module):
    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def prepare(self, payload: list[Tensor], context: Mapping[str, Tensor], grid: Grid) -> list[Tensor]:
        return payload

    def open(self, stream: Stream, payload: list[Tensor]) -> tuple[InContextTokens | None, Any]:
        return None, payload

    def after_block(self, layer: int, stream: Stream, state: list[Tensor]) -> tuple[Stream, Any]:
        if layer == self.layer:
            state.append(stream.tokens)
        return stream, state

    def close(self, stream: Stream, state: list[Tensor]) -> Stream:
        return stream
