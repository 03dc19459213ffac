"""What a request gives besides its prompt; plain values that the conditioners of a recipe read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kinoform.media.types import InputImage, InputVideo, Mask, Origin
from kinoform.numbers import plain, settle


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Images, a video and a mask, and how strongly they count; what is absent is empty or None.

    `frames`: known frames by number, counted from 0, negative ones from the end;
    `video`: the video to start from, to follow or to change;
    `mask`: where `video` changes (white) and where it stays (black);
    `references`: images of what shall appear;
    `strength`: in (0, 1], how far a start from `video` is redone, 1 wholly; None where there is nothing to redo;
    `source_prompt`: what `video` shows now, for editing it into what the prompt says;
    `context_scale`: how strongly control videos count, 1 as trained;
    `exact_size`: the video keeps the size that is asked for, instead of the proportions of the first frame.
    """

    frames: Mapping[int, InputImage] = field(default_factory=dict)
    video: InputVideo | None = None
    mask: Mask | None = None
    references: tuple[InputImage, ...] = ()
    strength: float | None = None
    source_prompt: str | None = None
    context_scale: float | None = None
    exact_size: bool = False

    def __post_init__(self) -> None:
        settle(self, strength=plain(self.strength), context_scale=plain(self.context_scale))

    def given(self) -> tuple[str, ...]:
        """Names of the fields that hold something, in the order above."""
        present = {
            "frames": bool(self.frames),
            "video": self.video is not None,
            "mask": self.mask is not None,
            "references": bool(self.references),
            "strength": self.strength is not None,
            "source_prompt": self.source_prompt is not None,
            "context_scale": self.context_scale is not None,
            "exact_size": self.exact_size,
        }
        return tuple(name for name, here in present.items() if here)

    def origins(self) -> Iterator[tuple[str, Origin | None]]:
        """Each piece of material by the name it has in a video's parameters, and the file it came from."""
        for place, image in self.frames.items():
            yield f"frame:{place}", image.origin
        if self.video is not None:
            yield "video", self.video.origin
        if self.mask is not None:
            yield "mask", self.mask.origin
        for number, image in enumerate(self.references):
            yield f"reference:{number}", image.origin


NO_INPUTS = Inputs()

HOW = {"strength": float, "source_prompt": str, "context_scale": float, "exact_size": bool}
"""The fields that hold no material but say how it counts, and their types in a video's parameters."""

RECIPES = {
    "frames": "mini:frames, i2v-14b-480p, i2v-14b-720p, flf2v-14b",
    "video": "mini, mini-factorized, mini:vace, t2v-1.3b, t2v-14b, t2i-14b, vace-1.3b, vace-14b",
    "mask": "mini, mini-factorized, mini:vace, t2v-1.3b, t2v-14b, t2i-14b, vace-1.3b, vace-14b",
    "references": "mini-factorized, mini:vace, mini:reference, vace-1.3b, vace-14b",
    "strength": "mini, mini-factorized, mini:vace, t2v-1.3b, t2v-14b, t2i-14b, vace-1.3b, vace-14b",
    "source_prompt": "mini, mini-factorized, t2v-1.3b, t2v-14b, t2i-14b",
    "context_scale": "mini:vace, vace-1.3b, vace-14b",
    "exact_size": "mini:frames, i2v-14b-480p, i2v-14b-720p, flf2v-14b",
}
"""Who takes what, for the error of a model that does not; a test holds it against the recipes."""

RECIPES_BESIDES = {"references": ", or a recipe with reference additions,"}
"""Who else would, outside the package."""

CALLED = {"source_prompt": "source prompt", "context_scale": "context scale",
          "exact_size": "exact size, since it makes every size exactly"}  # fmt: skip
"""What the same error calls a field, where that is not its name."""
