"""What a conditioner will need, in numbers: known before anything is encoded, and what a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import Units, VideoSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What `give` encodes, then what it gives; videos and frames are of the size of the video to be made.

    `videos` and `stills`: whole videos and single frames for the codec; `images`: for the image encoder;
    `held`: bytes of pixels on the host meanwhile. `rows`: by context stream; `branches`: latent frames by
    branch; `lead`: latent frames before the video; `strength`: that of a video to begin from, None without;
    `with_prompt`: streams and branches of which the negative prompt gets nothing.
    """

    videos: int = 0
    stills: int = 0
    images: int = 0
    held: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    branches: Mapping[str, int] = field(default_factory=dict)
    lead: int = 0
    strength: float | None = None
    with_prompt: frozenset[str] = frozenset()


@runtime_checkable
class Demanding(Protocol):
    """A conditioner that tells what it will need. `rows_of_images` are those of the image encoder for one image.

    Inputs may be missing, as in a plan without any; then it tells the usual case. A conditioner without this method
    works as well, but plans say that it is not counted.
    """

    def demand(self, inputs: Inputs, video: VideoSize, units: Units, rows_of_images: int) -> Demand: ...
