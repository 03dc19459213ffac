"""Inputs that a finished model can be taught from people's own clips: what is put onto it, and what clips must have.

`kinoform train lora DATA --recipe NAME` learns one; docs/training.md shows how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

from kinoform.conditions.in_context import EditingTask, InContext
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.protocols import Conditioner
from kinoform.conditions.references import ContextReferences, LatentFeatures
from kinoform.conditions.source_channels import SourceChannels
from kinoform.conditions.vace import Vace
from kinoform.conditions.video_to_video import StartVideo
from kinoform.errors import UsageError
from kinoform.loading.additions import Additions
from kinoform.models.context import ReferenceContext, ReferenceEncoderSpec
from kinoform.models.segments import SegmentRotation
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.recipe import Recipe

DEEP = 40
"""Layers from which on every fifth one has a VACE block, as in VACE-14B; every second below, as in VACE-1.3B."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInput:
    """Input that a finished model learns to take, as a change of its recipe.

    `additions` are put onto its transformer and learn whole, `conditioners` read the input; both are made for the
    recipe of the base, whose sizes they need. Each item of a dataset has at least one of the roles `needs`; `known` are
    frames that a clip shows as images where its item has none. With `lora` low-rank changes of the base learn beside
    what is added.
    """

    name: str
    additions: Callable[[Recipe], Additions]
    conditioners: Callable[[Recipe], tuple[Conditioner, ...]]
    needs: tuple[str, ...] = ()
    known: tuple[int, ...] = ()
    lora: bool = True

    def applied(self, recipe: Recipe) -> Recipe:
        """Return the recipe of the model with the input; it no longer begins from a video, as inputs keep latents too.

        Raises UsageError for a model that takes one of the inputs already, or was taught another.
        """
        new = self.conditioners(recipe)
        taken = {item for conditioner in new for item in conditioner.inputs}
        own = tuple(item for item in recipe.conditioners if not isinstance(item, StartVideo))
        twice = [item.said for conditioner in own for item in conditioner.inputs if item in taken]
        if recipe.additions is not None or twice:
            has = f"takes {', '.join(twice)} already" if twice else "has additions of its own"
            raise UsageError(
                f"{recipe.name} {has}, and cannot be taught {self.name}; take the model that it was made of, or train "
                "a LoRA without --recipe",
                code="input_taken_already",
            )
        return replace(
            recipe,
            name=f"{recipe.name}+{self.name}",
            conditioners=(*own, *new),
            additions=self.additions(recipe),
        )


def vace() -> NewInput:
    """Return a video to follow or to change, by VACE blocks that begin as copies of the main ones."""
    return NewInput(
        name="vace", additions=_vace_blocks, conditioners=lambda recipe: (Vace(),), needs=("source", "references")
    )


def reference() -> NewInput:
    """Return images of what shall appear, by a gated stream of cross-attention, and a video to change, by channels."""
    return NewInput(
        name="reference", additions=_gated_stream, conditioners=_reference_conditioners, needs=("references",)
    )


def frames() -> NewInput:
    """Return known frames as channels; the first frame of a clip, where its item has no image."""
    return NewInput(
        name="frames",
        additions=lambda recipe: Additions(channels={"frames": recipe.codec.stride[0] + recipe.codec.channels}),
        conditioners=lambda recipe: (KnownFrames(required=False, impose=True),),
        known=(0,),
    )


def context() -> NewInput:
    """Return a video to change, and images, as further tokens of the sequence: low-rank changes alone learn."""
    return NewInput(
        name="context",
        additions=lambda recipe: Additions(segments=SegmentRotation()),
        conditioners=_in_context,
        needs=("source", "references"),
    )


NEW_INPUTS = {item: f"{__name__}:{item}" for item in ("vace", "reference", "frames", "context")}
"""Addresses of the inputs by their names."""


def _vace_blocks(recipe: Recipe) -> Additions:
    layers, codec = recipe.transformers[0].layers, recipe.codec
    places = tuple(range(0, layers, 5 if layers >= DEEP else 2))
    channels = 2 * codec.channels + prod(codec.stride[1:])
    return Additions(branches=(VaceBlocks(layers=places, channels=channels),))


def _references(recipe: Recipe) -> ContextReferences:
    return ContextReferences(
        features=LatentFeatures(channels=recipe.codec.channels, patch=recipe.transformers[0].patch)
    )


def _reference_conditioners(recipe: Recipe) -> tuple[Conditioner, ...]:
    return (_references(recipe), SourceChannels())


def _gated_stream(recipe: Recipe) -> Additions:
    return Additions(
        channels={"source": 1 + recipe.codec.channels},
        context=(ReferenceContext(width=_references(recipe).width, encoder=ReferenceEncoderSpec()),),
    )


def _in_context(recipe: Recipe) -> tuple[Conditioner, ...]:
    longest = max(recipe.width, recipe.height)
    return (InContext(tasks=(), fallback=EditingTask(name="edit", prefix=""), most=4, longest=longest),)
