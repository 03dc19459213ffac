"""Recipes that put input channels onto the tiny model, which nothing fills but zeros."""

from dataclasses import dataclass, replace

import torch

from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import ConditionerOutput, Encoders, Units, VideoSize
from kinoform.loading.additions import Additions
from kinoform.models.codec import latent_size
from kinoform.recipe import Recipe
from kinoform.recipes.wan21 import t2v_1_3b
from tests.support.tiny_recipe import tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeros:
    """So many channels of nothing; no input is read."""

    channels: int

    @property
    def inputs(self) -> tuple[InputField[object], ...]:
        return ()

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        return asked

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Nothing can be wrong."""

    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        sides = latent_size(encoders.codec(), video.num_frames, video.height, video.width)
        return ConditionerOutput(channels=torch.zeros(1, self.channels, *sides, device=encoders.device))


def depth_then_pose() -> Recipe:
    return _widened(depth=2, pose=1)


def pose_then_depth() -> Recipe:
    return _widened(pose=1, depth=2)


def as_embedded() -> Recipe:
    """As `depth_then_pose`, called like an embedded model with an adapter."""
    return replace(depth_then_pose(), name="tiny:depth")


def of_released() -> Recipe:
    """The same for a released model."""
    return replace(t2v_1_3b(), conditioners=(Zeros(channels=2),), additions=Additions(channels={"depth": 2}))


def _widened(**channels: int) -> Recipe:
    added = Additions(channels=channels, seed=5)
    conditioner = Zeros(channels=sum(channels.values()))
    return replace(tiny(), name="tiny-widened", conditioners=(conditioner,), additions=added)
