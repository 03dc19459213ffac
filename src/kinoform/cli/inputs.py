"""Options for images, videos and masks, and how they become the inputs of a request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kinoform.cli.options import option
from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.conditions.inputs import Inputs

INPUTS = "Inputs"
"""Under which heading these options stand in the help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """Images, videos and masks that a video is made from, as they are named; nothing of it read yet."""

    image: Annotated[Path | None, option(INPUTS, "The first frame; the same as --frame 0=FILE.")] = None
    last_image: Annotated[Path | None, option(INPUTS, "The last frame; the same as --frame -1=FILE.")] = None
    frame: Annotated[
        list[str] | None, option(INPUTS, "NUMBER=FILE: a known frame, from 0 on, -1 the last; repeatable.", "--frame")
    ] = None
    video: Annotated[
        Path | None, option(INPUTS, "A video or folder of frames to start from, to follow or to change.", "--video")
    ] = None
    mask: Annotated[Path | None, option(INPUTS, "Where the video changes: white; still or moving.", "--mask")] = None
    fit_mask: Annotated[bool, option(INPUTS, "Stretch a mask of another size.", "--fit-mask")] = False
    reference: Annotated[
        list[Path] | None, option(INPUTS, "An image of what shall appear; repeatable.", "--reference")
    ] = None
    strength: Annotated[float | None, option(INPUTS, "How far --video is redone, above 0, up to 1.")] = None
    source_prompt: Annotated[str | None, option(INPUTS, "What --video shows now, to edit it into the prompt.")] = None
    context_scale: Annotated[float | None, option(INPUTS, "How strongly a control video counts; 1 as trained.")] = None
    exact_size: Annotated[
        bool, option(INPUTS, "Keep --size instead of the proportions of the image.", "--exact-size")
    ] = False

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
            frames=[_numbered(text) for text in self.frame or ()],
            video=self.video,
            mask=self.mask,
            references=self.reference or (),
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
