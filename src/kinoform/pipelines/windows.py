"""Windows over a long video: spans of latent frames that are made one after the other, each knowing what came before.

A window has the length that the model was trained with. Its first latent frame, the anchor, is the first of the whole
video, which alone stands for a single frame, as the first latent frame of a causal autoencoder does; behind it come the
last latent frames of the window before, and then new ones (docs/long_videos.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import ConditionerOutput, InpaintingConstraint
from kinoform.conditions.standard_inputs import FRAMES, MASK, VIDEO
from kinoform.errors import UsageError
from kinoform.models.codec import CodecSpec
from kinoform.numbers import settle, whole
from kinoform.types import Latents, Level

OVERLAP_DIVISOR, MIN_OVERLAP = 5, 2
"""Latent frames that a window takes over from the one before, by default: a fifth of its own, at least two."""

SHORTEST_ANCHORED = 2
"""Latent frames of a window that has no room for an anchor, and knows the frame before it alone."""

MIN_WINDOW, MAX_WINDOW = 2, 100_000
"""Smallest and largest number of frames of a window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows of a video longer than what a model makes at once.

    `frames` are made at once, the last `overlap` of the window before among them, in whole latent frames; by default a
    fifth, and two latent frames at least. With `anchor` the first latent frame of the video stands before them in each
    window; without, a window knows only the frames before it. Raises UsageError for numbers out of range.
    """

    frames: int
    overlap: int | None = None
    anchor: bool = True

    def __post_init__(self) -> None:
        settle(self, frames=whole("the frames of a window", self.frames, MIN_WINDOW, MAX_WINDOW))
        if self.overlap is not None:
            settle(self, overlap=whole("the overlap of windows", self.overlap, 1, self.frames - 1))
        if not isinstance(self.anchor, bool):
            raise UsageError(f"the anchor of windows must be True or False, not {self.anchor!r}", code="wrong_type")

    def settled(self, time: int) -> Windows:
        """Return the same windows with the usual overlap, where none is said, for latent frames of `time` frames."""
        if self.overlap is not None:
            return self
        length = latent_frames_of(self.frames, time)
        room = max(1, length - self.anchor - 1)
        overlap = time * min(max(MIN_OVERLAP, length // OVERLAP_DIVISOR), room)
        return replace(self, overlap=min(overlap, self.frames - 1))

    def as_json(self) -> dict[str, object]:
        """Return plain values, as they stand in the parameters of a video."""
        return {"frames": self.frames, "overlap": self.overlap, "anchor": self.anchor}


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentWindow:
    """Window of `length` latent frames, of which those from `start` up to `stop` of the video are new.

    The `known` latent frames before `start` stand before them, and the first of the video before these where the window
    is `anchored`. What is made beyond `stop` is dropped. `prompt` is that of the new frames.
    """

    length: int
    start: int
    stop: int
    known: int
    anchored: bool
    prompt: str

    @property
    def given(self) -> int:
        """Return the number of latent frames that are given."""
        return self.known + self.anchored

    def new(self, latents: Latents) -> Float[Tensor, "b c new h w"]:
        """Return the latent frames of the window that go into the video."""
        return latents[:, :, self.given : self.given + self.stop - self.start]

    def carrying(self, given: ConditionerOutput, made: Float[Tensor, "b c made h w"]) -> ConditionerOutput:
        """Return conditions under which the window's first latent frames stay those of the video made so far."""
        if not self.given:
            return given
        first = [made[:, :, :1]] if self.anchored else []
        known = torch.cat([*first, made[:, :, self.start - self.known : self.start]], dim=2)
        b, c, _, h, w = known.shape
        blank = known.new_zeros(b, c, self.length - self.given, h, w)
        mask = torch.arange(self.length, device=known.device) < self.given
        own = given.constraints.inpainting
        carried = CarriedFrames(latents=torch.cat([known, blank], dim=2), mask=mask[None, None, :, None, None], own=own)
        return replace(given, constraints=replace(given.constraints, inpainting=carried))


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedFrames(InpaintingConstraint):
    """Latent frames carried over from the window before; what the model's inputs keep, `own`, comes first."""

    own: InpaintingConstraint | None = None

    def impose(self, x: Latents, level: Level, noise: Latents) -> Latents:
        carried = InpaintingConstraint.impose(self, x, level, noise)
        return carried if self.own is None else self.own.impose(carried, level, noise)


def usual_windows(num_frames: int, inputs: Inputs) -> Windows | None:
    """Return windows of as many frames as a model makes by itself; None for one of images, and for inputs that say what
    happens when, with which a video is made at once.
    """
    lasting = VIDEO not in inputs and MASK not in inputs and all(number == 0 for number in inputs[FRAMES])
    return Windows(frames=num_frames) if num_frames > 1 and lasting else None


def windows_of(
    windows: Windows, prompts: tuple[tuple[int, str], ...], *, latent_frames: int, codec: CodecSpec
) -> tuple[LatentWindow, ...]:
    """Return the windows of a video of so many latent frames, in turn.

    `prompts` are those of the video, each with the latent frame where it begins, the first at 0. No window goes over
    such a border; the fewer frames of it are new, the more are known. Raises UsageError for a prompt that has no latent
    frame, and for windows without room for new ones.
    """
    time = codec.stride[0]
    length = latent_frames_of(windows.frames, time)
    anchor = windows.anchor and length > SHORTEST_ANCHORED
    least = -(-(windows.settled(time).overlap or 1) // time)
    room = length - least - anchor
    if room < 1:
        raise UsageError(
            f"windows of {windows.frames} frames that overlap by {least * time} have no room for new ones; "
            f"make them longer, or let them overlap by less",
            code="windows_too_short",
        )
    borders = [*(start for start, _ in prompts), latent_frames]
    found = list[LatentWindow]()
    for (start, prompt), stop in zip(prompts, borders[1:], strict=True):
        if start >= stop:
            raise UsageError(
                f"the prompt {prompt[:40]!r} is shown for less than one latent frame, which is {time} frames; give it "
                "more time",
                code="prompt_times_invalid",
            )
        found += _between(start, stop, prompt, length=length, room=room, anchor=anchor)
    return tuple(found)


def latent_frames_of(num_frames: int, time: int) -> int:
    """Return the number of latent frames of a video, of which the first stands for one frame, others for `time`."""
    return 1 + (num_frames - 1) // time


def latent_frame_at(frame: float, time: int) -> int:
    """Return the latent frame that begins nearest to a frame, which need not be whole."""
    return 0 if frame <= 0 else max(0, 1 + round((frame - 1) / time))


def _between(start: int, stop: int, prompt: str, *, length: int, room: int, anchor: bool) -> Iterator[LatentWindow]:
    while start < stop:
        new = min(max(room, length - start), stop - start)
        whole_beginning = start + new <= length  # the window begins with the video, and needs no anchor beside it
        known = start if whole_beginning else length - new - anchor
        anchored = anchor and not whole_beginning
        yield LatentWindow(length=length, start=start, stop=start + new, known=known, anchored=anchored, prompt=prompt)
        start += new
