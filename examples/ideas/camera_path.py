"""An idea in one file, with an input of its own: a camera path steers what is made, as input channels that are added.

    kinoform generate "a red ball moves left" --recipe camera_path:recipe --input camera_path=path.txt

From this folder; from the root of the repository it is `--recipe examples.ideas.camera_path:recipe`. In Python it is
`kinoform.load("mini", recipe="camera_path:recipe")("a red ball moves left", camera_path="path.txt")`.

The file has a line for each frame: pan, tilt and zoom, numbers from -1 to 1; `#` begins a comment. The video carries
the file's name and hash, and `kinoform rerun --recipe camera_path:recipe --model mini` makes it again. Without a path,
and as long as nothing has been trained, the videos are those of the model itself: the added slice of the patch
embedding is zero. `recipe` widens the embedded model, `wan` the 1.3B one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.api import (
    Additions,
    ConditionerOutput,
    EncodeCost,
    Encoders,
    FileKind,
    InputField,
    InputFile,
    Inputs,
    LoRASpec,
    Recipe,
    Units,
    UsageError,
    VideoSize,
    latent_size,
    t2v_1_3b,
)
from kinoform.mini import mini

NAME = "camera"
AXES = ("pan", "tilt", "zoom")
LEARNS = ("patch_embedding.weight",)
"""Parameters, as shell patterns; `Additions.mark_trainable` leaves the channels of the base without gradient."""

ADAPTERS = LoRASpec(patterns=("self_attention.*", "feed_forward.*"), rank=16)

CAMERA_PATH: InputField[InputFile | None] = InputField(
    name="camera_path",
    kind=FileKind(largest=2**20),
    help="A text file with a line for each frame: pan, tilt and zoom, from -1 to 1.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPath:
    """A channel for each axis: its mean over the frames of a latent frame, the same everywhere in it."""

    @property
    def inputs(self) -> tuple[InputField[Any], ...]:
        return (CAMERA_PATH,)

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        return asked

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        """Raises UsageError for a file that is no path, or of another number of frames."""
        file = inputs[CAMERA_PATH]
        if file is not None and len(numbers_of(file)) != video.num_frames:
            raise UsageError(
                f"{file.name} has {len(numbers_of(file))} lines, and {video.num_frames} frames are to be made; "
                "write a line for each",
                code="camera_path_length",
            )

    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, image_tokens: int) -> EncodeCost:
        return EncodeCost()

    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        codec, file = encoders.codec(), inputs[CAMERA_PATH]
        frames, height, width = latent_size(codec, video.num_frames, video.height, video.width)
        if file is None:
            path = torch.zeros(len(AXES), frames)
        else:
            path = by_latent_frame(torch.tensor(numbers_of(file)), codec.stride[0])
        channels = path[None, :, :, None, None].expand(-1, -1, -1, height, width)
        return ConditionerOutput(channels=channels.contiguous().to(encoders.device))


def numbers_of(file: InputFile) -> list[list[float]]:
    """Return pan, tilt and zoom of each frame. Raises UsageError, naming the line, for anything else."""
    found = []
    for number, line in enumerate(file.text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) != len(AXES) or not all(math.isfinite(value) and abs(value) <= 1 for value in values):
            raise UsageError(
                f"line {number} of {file.name} is not {', '.join(AXES)}; write three numbers from -1 to 1",
                code="camera_path_line",
            )
        found.append(values)
    return found


def by_latent_frame(path: Float[Tensor, "frames axes"], time: int) -> Float[Tensor, "axes latent"]:
    """Return the mean over the frames of each latent frame: the first alone, then `time` frames at once."""
    rest = path[1:].unflatten(0, (-1, time)).mean(dim=1) if len(path) > 1 else path[:0]
    return torch.cat([path[:1], rest]).T


def put_onto(base: Recipe) -> Recipe:
    """Return any model with a channel more for each axis."""
    added = Additions(channels={NAME: len(AXES)})
    return replace(base, name=f"{base.name}-{NAME}", conditioners=(*base.conditioners, CameraPath()), additions=added)


def recipe() -> Recipe:
    return put_onto(mini())


def wan() -> Recipe:
    return put_onto(t2v_1_3b())
