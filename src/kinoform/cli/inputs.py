"""Options for images, videos and masks, and how they become the inputs of a request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from kinoform.cli.options import option
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.conditions.inputs import Inputs

INPUTS = "Inputs"
"""Under which heading these options stand in the help."""

Image: TypeAlias = Annotated[Path | None, option(INPUTS, "The first frame; the same as --frame 0=FILE.")]
LastImage: TypeAlias = Annotated[Path | None, option(INPUTS, "The last frame; the same as --frame -1=FILE.")]
KnownFrame: TypeAlias = Annotated[
    list[str] | None, option(INPUTS, "NUMBER=FILE: a known frame, from 0 on, -1 the last; repeatable.", "--frame")
]
SourceVideo: TypeAlias = Annotated[
    Path | None, option(INPUTS, "A video or folder of frames to start from, to follow or to change.", "--video")
]
MaskFile: TypeAlias = Annotated[
    Path | None, option(INPUTS, "Where the video changes: white; still or moving.", "--mask")
]
References: TypeAlias = Annotated[
    list[Path] | None, option(INPUTS, "An image of what shall appear; repeatable.", "--reference")
]
Strength: TypeAlias = Annotated[float | None, option(INPUTS, "How far --video is redone, above 0, up to 1.")]
SourcePrompt: TypeAlias = Annotated[str | None, option(INPUTS, "What --video shows now, to edit it into the prompt.")]
ContextScale: TypeAlias = Annotated[float | None, option(INPUTS, "How strongly a control video counts; 1 as trained.")]
FitMask: TypeAlias = Annotated[bool, option(INPUTS, "Stretch a mask of another size.", "--fit-mask")]
ExactSize: TypeAlias = Annotated[
    bool, option(INPUTS, "Keep --size instead of the proportions of the image.", "--exact-size")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFiles:
    """What the options above say, nothing of it read yet."""

    image: Path | None = None
    last_image: Path | None = None
    frames: Sequence[str] = ()
    video: Path | None = None
    mask: Path | None = None
    references: Sequence[Path] = ()
    strength: float | None = None
    source_prompt: str | None = None
    context_scale: float | None = None
    exact_size: bool = False
    fit_mask: bool = False

    def read(self, fps: float | None = None, num_frames: int | None = None) -> Inputs:
        """Images and videos in memory, videos at `fps` frames per second, None for their own, and `num_frames` at most.

        Raises UsageError for files that are missing or cannot be read.
        """
        # Imported here because numpy takes time that help and completion do without.
        from kinoform.conditions.coerce import to_inputs

        return to_inputs(
            fps=fps,
            num_frames=num_frames,
            image=self.image,
            last_image=self.last_image,
            frames=[_numbered(text) for text in self.frames],
            video=self.video,
            mask=self.mask,
            references=self.references,
            strength=self.strength,
            source_prompt=self.source_prompt,
            context_scale=self.context_scale,
            exact_size=self.exact_size,
            fit_mask=self.fit_mask,
        )


def _numbered(text: str) -> tuple[int, Path]:
    match = re.fullmatch(r"(-?\d{1,6})=(.+)", text)
    if match is None:
        raise UsageError(
            f"--frame {text!r} is not NUMBER=FILE; write for example --frame 0=first.png", code="bad_value"
        )
    return int(match[1]), Path(match[2])
